"""docs/math.md: its formulas are mathematics in every Markdown, and its numbers are those that it prints."""

import html
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

pytestmark = pytest.mark.tooling

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "math.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```|`[^`\n]+`", "", PAGE, flags=re.MULTILINE | re.DOTALL)
FORMULAS = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", PROSE, re.DOTALL)
NUMBER = r"-?\d+\.\d+"


def test_formulas_are_left_as_they_are_by_a_renderer_and_closed_where_github_closes_them():
    """No blank inside the dollars, no digit or letter behind the last, no bar for tables to split."""
    rendered = html.unescape(MarkdownIt("commonmark").enable("table").render(PAGE))
    assert len(FORMULAS) > 100
    assert [formula for formula in FORMULAS if formula not in rendered] == []
    inline = r"(?<![\w$])\$(?! )[^$|]+(?<! )\$(?![\w$])"
    assert re.sub(rf"\$\$[^$|]+\$\$|{inline}", "", PROSE).count("$") == 0
    assert not re.search(r"\\[\[\](){}\\|,;!]|\\(?:new|def|operatorname)", "".join(FORMULAS))


def test_the_table_of_a_step_has_the_numbers_that_the_block_prints():
    section = PAGE.partition("## A step in numbers")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[-1] for line in section.splitlines() if line.startswith("| ")]
    printed = section.rpartition("\n\n```\n")[2]
    numbers = re.findall(NUMBER, "".join(cells))
    assert len(numbers) > 40
    assert numbers == re.findall(NUMBER, printed)
