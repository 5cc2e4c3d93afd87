"""A release: its version and date are the same everywhere, and GitHub's runners test it on three systems."""

import re
import tomllib
from datetime import date

import pytest
import yaml
from checkout import ROOT

import xpnet

pytestmark = pytest.mark.tooling

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
RELEASED = [section.split(" - ") for section in SECTIONS if section != "Unreleased"]
TESTS, RELEASE = (
    yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))["jobs"]
    for name in ("tests", "release")
)


def test_changelog_citation_and_package_have_the_same_version_and_date():
    days = [date.fromisoformat(day) for _, day in RELEASED]
    assert days == sorted(days, reverse=True)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [citation["version"], citation["date-released"].isoformat()] == RELEASED[0]
    in_development = ".dev" in xpnet.__version__
    assert (SECTIONS[0] == "Unreleased") == in_development
    assert (xpnet.__version__ == RELEASED[0][0]) != in_development


def test_outputs_in_the_pages_have_the_version_of_the_newest_section():
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    versions = re.compile(r'(?:^(?:# )?xpnet |"xpnet": ")(\d[\w.]*)', re.MULTILINE)
    pages = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
    }
    shown = {name: versions.findall("".join(blocks.findall(text))) for name, text in pages.items()}
    assert sum(map(len, shown.values())) > 3
    assert {name: found for name, found in shown.items() if {*found} - {RELEASED[0][0]}} == {}


def test_the_long_description_names_the_files_that_readme_links_to_without_dead_links():
    project, text = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")), README
    for substitution in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    files = re.findall(r"(?<!!)\[[^]]*\]\((?!https:|#)([^)#]*)", README)
    assert files
    assert [file for file in files if file not in text] == []
    assert re.findall(r"\]\((?!https:|#)([^)]*)\)", text) == []


def test_a_release_is_published_by_a_trusted_publisher_with_attestations():
    publish = RELEASE["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["with"] == {"attestations": True}


def test_the_workflow_tests_on_three_systems_with_the_commands_of_readme():
    (job,) = TESTS.values()
    assert job["strategy"]["matrix"]["system"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    lines = "".join(step.get("run", "") for step in job["steps"]).splitlines()
    commands = {re.sub(r" (--device cuda )?--name main| runs/main", "", line) for line in lines}
    commands -= {"python -m venv .venv", ". .venv/*/activate"}
    assert {'pip install -e ".[test]" && python -m pytest -n auto', "python -m xpnet.train"} <= commands
    assert [command for command in commands if command not in README] == []
