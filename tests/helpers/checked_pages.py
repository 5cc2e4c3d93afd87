"""Pages of the report, none of which has text of a template or a missing value."""

import re

from report_pages import parsed

NO_TEXT = re.compile(r"<(script|style)\b.*?</\1>|data:image[^\"]*", re.DOTALL)
UNFILLED = re.compile(r".{0,40}(?:\{\{|\{%|\b(?:None|nan|inf|Undefined)\b(?![.:]))")


def checked(path):
    assert UNFILLED.findall(NO_TEXT.sub("", path.read_text("utf-8"))) == []
    return parsed(path)
