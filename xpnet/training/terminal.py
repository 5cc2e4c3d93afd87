"""Consoles and styled text for a terminal or Jupyter."""

from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet._lib.text import plain, plain_lines


class _Console(Console):
    """A console that escapes control characters in strings; a `Text` is printed as it is."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain_lines(text), **options)


def make_console(**options: Any) -> Console:
    """Return a console on standard output that neither wraps lines nor interprets markup."""
    return _Console(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)


def style_text(text: object, style: str = "") -> Text:
    """Escape control characters and apply a colour."""
    return text if isinstance(text, Text) else Text(plain(text), style)
