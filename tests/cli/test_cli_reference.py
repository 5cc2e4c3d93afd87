"""docs/cli.md says what --help says."""

import re

import cli_reference
import pytest

pytestmark = pytest.mark.tooling


def test_the_page_has_the_words_of_every_help():
    """Their layout is up to the libraries that print it, and to their versions."""
    page, printed = (
        re.sub(r"[\u2500-\u257f]", " ", text).split()
        for text in (cli_reference.PAGE.read_text(encoding="utf-8"), cli_reference.page())
    )
    assert page == printed, "run python scripts/cli_reference.py"
