"""The pages name modules, functions and files that exist; their numbers and examples are right."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import cli_reference
import math_links
import pytest
from checkout import ROOT

from xpnet.backends.base import PRECISION_VARIABLES
from xpnet.cli.parity import describe_kind
from xpnet.training_parity import runs

pytestmark = pytest.mark.tooling

PACKAGE = ROOT / "xpnet"
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(PACKAGE.rglob("*.py"))]
CONTRIBUTING, README = ROOT / "CONTRIBUTING.md", ROOT / "README.md"
PAGES = (CONTRIBUTING, README, *ROOT.glob("docs/*.md"), *ROOT.glob("docs/course/*.md"))
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
PARITY, MATHEMATICS = (TEXTS[ROOT / "docs" / name] for name in ("parity.md", "math.md"))


def test_the_mathematics_name_functions_that_exist():
    references = re.findall(r"`([a-z_][\w.]*)\.(\w+)`", MATHEMATICS)
    assert len(references) > 40
    for module, name in references:
        places = [import_module(path) for path in MODULES if path.endswith(f".{module}")]
        assert any(hasattr(place, name) for place in places), f"{module}.{name}"


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
    printed = subprocess.run(
        words, cwd=ROOT, input=typed, stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    def of_the_session(text):  # without numbers of lines, and what is typed
        text = re.sub(r"(?<=\.py[:(])\d+", "", text.replace(f"{ROOT}/", ""))
        return re.sub(r"^\(Pdb\) .*\n", "", text, flags=re.MULTILINE)

    first, *others = of_the_session(shown).split("…\n")
    printed = of_the_session(printed.replace("(Pdb) ", ""))
    assert printed.startswith(first)
    assert all(part in printed for part in others)


def test_the_example_of_parity_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PARITY, flags=re.DOTALL | re.MULTILINE)
    [example] = [block for block in blocks if "def test_" in block]
    (tmp_path / "test_nearest.py").write_text(example)
    words = ["-p", "xpnet.parity.plugin", "-p", "no:cacheprovider", "-W", "error", "test_nearest.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", *words]
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 5


def test_parity_shows_the_kinds_of_runs_their_tolerances_and_the_refused_variables():
    shown = [runs.format_tolerance(kind.tolerance) for kind in runs.KINDS if kind.tolerance]
    tolerances = f"within {shown[0]} (float32) or\n{shown[1]} (float64)"
    variables = [f"`{name}`" for name in PRECISION_VARIABLES]
    parts = [*map(describe_kind, runs.KINDS), tolerances, *variables]
    assert [part for part in parts if part not in PARITY] == []


def test_the_page_of_commands_has_the_words_of_every_help():
    """Their layout is up to the libraries that print it, and to their versions."""
    texts = (TEXTS[ROOT / "docs" / "cli.md"], cli_reference.page())
    page, printed = (re.sub(r"[\u2500-\u257f]", " ", text).split() for text in texts)
    assert page == printed, "run python scripts/cli_reference.py"


def test_contributing_and_readme_are_short_and_name_files_that_exist():
    paths = set(re.findall(r"`([\w./]+(?:\.py|\.md|\.sh|/))`", TEXTS[CONTRIBUTING]))
    places = (ROOT, PACKAGE, *(PACKAGE / folder for folder in ("training", "storage", "recording")))
    assert paths
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []
    assert len(TEXTS[CONTRIBUTING].splitlines()) <= 125
    assert len(TEXTS[README].split()) <= 1000


def test_links_lead_to_files_and_commands_name_extras_that_exist():
    link = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
    links = [page.parent / path for page, text in TEXTS.items() for path in link.findall(text)]
    assert len(links) > 100
    assert [path for path in links if not path.exists()] == []
    lists = re.findall(r"\.\[([\w,]+)\]", "".join(TEXTS.values()))
    named = {name for names in lists for name in names.split(",")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"test", "torch", "mlflow"} <= named <= set(project["optional-dependencies"])


def test_anchors_that_pages_and_messages_name_are_headings():
    def anchors(text):
        headings = re.findall(
            r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.M
        )
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    texts = {
        path: path.read_text(encoding="utf-8") for path in (ROOT / "CHANGELOG.md", *PACKAGE.rglob("*.py"))
    }
    links = [
        ((path.parent / page if page else path) if path.suffix == ".md" else ROOT / page, anchor)
        for path, text in (TEXTS | texts).items()
        for page, anchor in re.findall(r"(?:\]\(|\b(?=docs/))([\w./-]*\.md|)#([\w-]+)", text)
    ]
    assert len(links) > 60
    assert [link for link in links if link[1] not in anchors(link[0].read_text(encoding="utf-8"))] == []


def test_nothing_installs_xpnet_from_an_index():
    """But the message for those who have it from one, and a page that says so."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "Dockerfile", *PACKAGE.rglob("*.py"))}
    install = re.compile(r"(xpnet\[|pip install (-\S+ )*\"?xpnet\b)(?!\[?train\] @ git)")
    naming = {path.name for path, text in (TEXTS | texts).items() if install.search(text)}
    assert naming == {"extras.py", "parity.md", "arithmetic.md", "emulated-cupy.md"}
    assert "xpnet is on no package index yet" in (ROOT / "docs/parity.md").read_text()
    assert (
        "`pip install xpnet` ([from a checkout](parity.md#installation)"
        in (ROOT / "docs/arithmetic.md").read_text()
    )
