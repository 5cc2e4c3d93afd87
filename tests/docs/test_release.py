"""A release: its version and date are the same everywhere, and GitHub's runners test it on three systems."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml
from check_release import find_dead_links

import xpnet

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
NEWEST = next(section for section in SECTIONS if section != "Unreleased").split(" - ")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))


def test_the_changelog_has_a_date_for_each_version_the_newest_first():
    released = [section for section in SECTIONS if section != "Unreleased"]
    assert SECTIONS[-len(released) :] == released
    pairs = [section.split(" - ") for section in released]
    assert pairs[-1] == ["0.1.0", "2026-11-25"]
    days = [date.fromisoformat(day) for _, day in pairs]
    numbers = [tuple(map(int, version.split("."))) for version, _ in pairs]
    assert [days, numbers] == [sorted(days, reverse=True), sorted(numbers, reverse=True)]


def test_the_citation_has_the_version_and_date_of_the_newest_section():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [citation["version"], citation["date-released"].isoformat()] == NEWEST


def test_outputs_in_the_pages_have_the_version_of_the_newest_section():
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    versions = re.compile(r'(?:^(?:# )?xpnet |"xpnet": ")(\d[\w.]*)', re.MULTILINE)
    shown = [
        (page.name, version)
        for page in PAGES
        for block in blocks.findall(page.read_text(encoding="utf-8"))
        for version in versions.findall(block)
    ]
    assert len(shown) > 10
    assert [pair for pair in shown if pair[1] != NEWEST[0]] == []


def test_the_version_is_that_of_the_newest_section_or_in_development():
    version = xpnet.__version__.partition(".dev")[0]
    in_development = ".dev" in xpnet.__version__
    assert ("Unreleased" in SECTIONS) == in_development
    released = SECTIONS[in_development].split(" - ")[0]
    assert (version != released) == in_development


def test_the_long_description_names_the_files_that_readme_links_to():
    hook = tomllib.loads(PYPROJECT)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = README
    for substitution in hook["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    files = re.findall(r"(?<!!)\[[^]]*\]\((?!https:|#)([^)#]*)", README)
    assert files
    assert [file for file in files if file not in text] == []
    assert find_dead_links(text) == []
    links = "[a](docs/a.md), [b](https://b.c), [d](#d), ![e](e.png) and [`f`](../f.md#g)"
    assert find_dead_links(links) == ["docs/a.md", "e.png", "../f.md#g"]


def test_no_address_of_a_repository_is_made_up():
    for name in ("pyproject.toml", "CITATION.cff", "docs/conf.py", "docs/devices.md"):
        assert "github.com/xpnet" not in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_workflow_tests_on_three_systems_with_pinned_actions_and_the_commands_of_readme():
    (job,) = WORKFLOW["jobs"].values()
    matrix = job["strategy"]["matrix"]
    assert matrix["system"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.x"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert job["timeout-minutes"] <= 60
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [action.partition("@")[0] for action in actions] == ["actions/checkout", "actions/setup-python"]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
    lines = "".join(step.get("run", "") for step in job["steps"]).splitlines()
    assert "python -m xpnet.train --device cuda --name main" in lines
    commands = {re.sub(r" (--device cuda )?--name main| runs/main", "", line) for line in lines}
    commands -= {"python -m venv .venv", ". .venv/*/activate"}
    assert 'pip install -e ".[test]" && python -m pytest -n auto' in commands
    assert [command for command in commands if command not in README] == []
