"""Pages of the report, none of which has text of a template or a missing value."""

import re

from report_pages import parsed

UNFILLED = re.compile(r".*(?:\{\{|\{%|\b(?:None|nan|inf|Undefined)\b(?![.:])).*")


def checked(path):
    """The page in a file, as a tree of elements."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", path.read_text("utf-8"), flags=re.DOTALL)
    assert UNFILLED.findall(text) == []
    return parsed(path)
