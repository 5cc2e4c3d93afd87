"""The pages name modules, functions and files that exist; their numbers and examples are right."""

import os
import re
import runpy
import shlex
import subprocess
import sys

import cli_reference
import math_links
import pytest
from checkout import ROOT

pytestmark = pytest.mark.tooling

PACKAGE = ROOT / "xpnet"
CONTRIBUTING, README = ROOT / "CONTRIBUTING.md", ROOT / "README.md"
PAGES = (CONTRIBUTING, README, *ROOT.glob("docs/*.md"), *ROOT.glob("docs/course/*.md"))
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "Dockerfile", *PACKAGE.rglob("*.py"))}
PARITY, MATHEMATICS = (TEXTS[ROOT / "docs" / name] for name in ("parity.md", "math.md"))


def test_the_mathematics_link_functions_to_their_lines():
    assert "](../xpnet/nn/layers.py#L" in MATHEMATICS
    assert math_links.link(MATHEMATICS) == MATHEMATICS


def test_the_table_of_a_step_has_the_numbers_that_the_example_prints(capsys):
    section = MATHEMATICS.partition("## A step in numbers")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[-1] for line in section.splitlines() if line.startswith("| ")]
    runpy.run_path(str(ROOT / "examples" / "one_step.py"))
    number, printed = r"-?\d+\.\d+", capsys.readouterr().out.partition("59 parameters")[0]
    assert len(re.findall(number, printed)) > 40
    assert re.findall(number, "".join(cells)) == re.findall(number, printed)


def test_the_session_of_the_debugger_prints_what_the_page_shows(tmp_path):
    page = TEXTS[ROOT / "docs" / "code.md"]
    command = re.search(r"^python (-m pdb .*)$", page, re.MULTILINE)[1]
    shown = re.search(r"^```\n(Breakpoint 1 .*?)^```$", page, re.DOTALL | re.MULTILINE)[1]
    typed = "".join(re.findall(r"^\(Pdb\) (.*\n)", shown, re.MULTILINE))
    words = [sys.executable, *shlex.split(command), "--no-report", "--out", str(tmp_path)]
    printed = subprocess.check_output(words, cwd=ROOT, input=typed, text=True)

    def squeeze(text):  # without numbers of lines, and what is typed
        text = re.sub(r"(?<=\.py[:(])\d+", "", text.replace(f"{ROOT}/", ""))
        return re.sub(r"^\(Pdb\) .*\n", "", text, flags=re.MULTILINE)

    parts = [re.escape(part) for part in squeeze(shown).split("…\n")]
    assert re.match("(?s:.*)".join(parts), squeeze(printed.replace("(Pdb) ", "")))


def test_the_example_of_parity_runs(tmp_path):
    [example] = [x for x in re.findall(r"^```python\n(.*?)^```", PARITY, re.S | re.M) if "def test_" in x]
    (tmp_path / "test_nearest.py").write_text(example)
    words = ["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-W", "error", "test_nearest.py"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", *words]
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 5


def test_the_page_of_commands_has_the_words_of_every_help():
    texts = (TEXTS[ROOT / "docs" / "cli.md"], cli_reference.page())
    page, printed = (re.sub(r"[\u2500-\u257f]", " ", text).split() for text in texts)
    assert page == printed, "run python scripts/cli_reference.py"


def test_contributing_and_readme_are_short_and_name_files_that_exist():
    paths = set(re.findall(r"`([\w./]+(?:\.py|\.md|\.sh|/))`", TEXTS[CONTRIBUTING]))
    places = (ROOT, PACKAGE, *(PACKAGE / folder for folder in ("training", "storage", "recording")))
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []
    assert len(TEXTS[CONTRIBUTING].splitlines()) <= 125
    assert len(TEXTS[README].split()) <= 1000


def test_links_lead_to_files_and_to_headings():

    def anchors(page):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        headings = re.findall(r"^#+ (.*)$", text, re.M)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    links = [
        (path.parent / page if page else path, anchor)
        for path, text in TEXTS.items()
        for page, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", text)
    ]
    named = re.findall(r"\b(docs/[\w./-]*\.md)#([\w-]+)", "".join(SOURCES.values()))
    links += [(ROOT / page, anchor) for page, anchor in named]
    assert len(links) > 160
    assert [link for link in links if not link[0].exists()] == []
    known = {page: anchors(page) for page, anchor in links if page.suffix == ".md" and anchor}
    assert [link for link in links if link[1] not in {"", *known.get(link[0], link[1:])}] == []


def test_nothing_installs_xpnet_from_an_index():
    install = re.compile(r"(xpnet\[|pip install (-\S+ )*\"?xpnet\b)(?!\[?train\] @ git)")
    naming = {path.name for path, text in (TEXTS | SOURCES).items() if install.search(text)}
    assert naming == {"extras.py", "parity.md", "arithmetic.md", "emulated-cupy.md"}
    assert "xpnet is on no package index yet" in PARITY
