"""HTML in which every text is escaped: only what this module makes counts as markup."""

import html
import json
from collections.abc import Iterable

Child = str | None
"""Text, markup, or nothing."""


class Markup(str):
    """HTML that stands as it is; any other string is text, and is escaped."""

    __slots__ = ()


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """Return an element with its children; those of the void elements (img, path, ...) are none.

    A keyword's ``_`` at the end is dropped, the others become ``-``: ``class_``, ``aria_label``. An
    attribute that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "br"):
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """Return the children one after the other, text escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(child)
            for child in children
            if child is not None
        )
    )


def json_script(identifier: str, value: object) -> Markup:
    """Return a script element that holds `value` as JSON, for the page's script to read.

    ``<``, ``>`` and ``&`` are written as escapes, so that no text in it can end the element; so is all
    that is not ASCII, the line separators U+2028 and U+2029 among it.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>')


def section(identifier: str, title: str, *children: Child) -> Markup:
    """Return a part of the page under a heading."""
    return element("section", element("h2", title), *children, id=identifier)


def note(text: str) -> Markup:
    """Return a paragraph that says why something is not there."""
    return element("p", text, class_="note")


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share as text: 0.9385 is 93.85 %, and none is a dash."""
    return "\u2013" if share is None else f"{100 * share:.{digits}f}\u00a0%"
