"""A release: its version and date are the same everywhere, and GitHub's runners test it on three systems."""

import re
import tomllib
from datetime import date

import pytest
import yaml
from checkout import ROOT

import xpnet

pytestmark = pytest.mark.tooling

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
NEWEST = next(section for section in SECTIONS if section != "Unreleased").split(" - ")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))


def test_changelog_citation_and_package_have_the_same_version_and_date():
    released = [section.split(" - ") for section in SECTIONS if section != "Unreleased"]
    days = [date.fromisoformat(day) for _, day in released]
    assert days == sorted(days, reverse=True)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [citation["version"], citation["date-released"].isoformat()] == NEWEST
    in_development = ".dev" in xpnet.__version__
    assert (SECTIONS[0] == "Unreleased") == in_development
    assert (xpnet.__version__ == NEWEST[0]) != in_development


def test_outputs_in_the_pages_have_the_version_of_the_newest_section():
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    versions = re.compile(r'(?:^(?:# )?xpnet |"xpnet": ")(\d[\w.]*)', re.MULTILINE)
    shown = [
        (page.name, version)
        for page in PAGES
        for block in blocks.findall(page.read_text(encoding="utf-8"))
        for version in versions.findall(block)
    ]
    assert len(shown) > 3
    assert [pair for pair in shown if pair[1] != NEWEST[0]] == []


def test_the_long_description_names_the_files_that_readme_links_to_without_dead_links():
    hook = tomllib.loads(PYPROJECT)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = README
    for substitution in hook["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    files = re.findall(r"(?<!!)\[[^]]*\]\((?!https:|#)([^)#]*)", README)
    assert files
    assert [file for file in files if file not in text] == []
    assert re.findall(r"\]\((?!https:|#)([^)]*)\)", text) == []


def test_a_release_is_published_by_a_trusted_publisher_with_attestations_from_what_was_built_twice():
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert any("python scripts/check_release.py" in step.get("run", "") for step in build["steps"])
    assert (workflow["permissions"], publish["permissions"]) == ({"contents": "read"}, {"id-token": "write"})
    actions = [step["uses"] for step in build["steps"] + publish["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in actions)
    assert publish["steps"][-1]["with"] == {"attestations": True}


def test_the_workflow_tests_on_three_systems_with_pinned_actions_and_the_commands_of_readme():
    (job,) = WORKFLOW["jobs"].values()
    assert job["strategy"]["matrix"]["system"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in actions)
    lines = "".join(step.get("run", "") for step in job["steps"]).splitlines()
    commands = {re.sub(r" (--device cuda )?--name main| runs/main", "", line) for line in lines}
    commands -= {"python -m venv .venv", ". .venv/*/activate"}
    assert {'pip install -e ".[test]" && python -m pytest -n auto', "python -m xpnet.train"} <= commands
    assert [command for command in commands if command not in README] == []
