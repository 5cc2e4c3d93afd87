"""What the sections of a report share."""

from xpnet.report.markup import Child, Markup, element


def section(identifier: str, title: str, *children: Child) -> Markup:
    """Return a part of the page under a heading."""
    return element("section", element("h2", title), *children, id=identifier)


def note(text: str) -> Markup:
    """Return a paragraph that says why something is not there."""
    return element("p", text, class_="note")


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share as text: 0.9385 is 93.85 %, and none is a dash."""
    return "\u2013" if share is None else f"{100 * share:.{digits}f}\u00a0%"
