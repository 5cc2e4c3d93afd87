"""Consoles and styled text for a terminal or Jupyter."""

from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet._lib.text import plain


def make_console(**options: Any) -> Console:
    """Return a console on standard output that neither wraps lines nor interprets markup."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)


def style_text(text: object, style: str = "") -> Text:
    """Escape control characters and apply a colour."""
    return text if isinstance(text, Text) else Text(plain(text), style)
