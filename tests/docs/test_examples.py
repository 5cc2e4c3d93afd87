"""The blocks of the pages are run in order, and print what the pages show.

A block of ``sh`` is run by bash, one of ``python`` by Python, each page in an empty folder of its own with
links to the checkout's examples, scripts and data. A block without a language is the output of the block
before it; a line ``…`` in it stands for any lines. Names of runs, versions, and the reason for the CPU may
differ. Comments before a block say what else holds for it:

    <!-- skip: next "reason" -->           it is not run, and its output is not compared
    <!-- run with: A for B; and C for D --> it is run with A in place of B, and C in place of D
    <!-- exit: 2 -->                       its exit code, if that is not 0
    <!-- varies: REGEX -->                 what matches in the output may differ
    <!-- within: 0.02 -->                  numbers in the output may differ by this much
    <!-- prepare: COMMAND -->              a command that the page does not show
"""

import contextlib
import difflib
import io
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import pytest
from checkout import ROOT
from ctrl_c import handled_by

pytestmark = pytest.mark.tooling

GUIDES = [page for page in ROOT.glob("docs/*.md") if page.name != "cli.md"]
PAGES = [ROOT / "README.md", *sorted(GUIDES), *sorted(ROOT.glob("docs/course/*.md"))]
SHOWN = ("examples", "scripts", "data", "docs", "README.md")
VARIES = (
    r"\d{8}T\d{6}Z-[0-9a-f]{6}",
    r"(?<=: )\w+ \d+\.\d+\.\S+ on cpu(?: \(.*\))?",
    r"(?<=xpnet )\d+\.\d+\.\d+(?:\.dev\d+)?",
    r"(?<=, )numpy \d+\.\d+\.\d+(?= on cpu)",
)
NUMBER = r"\d+\.\d+"
MARKS = ("run with", "exit", "varies", "within", "prepare")


def run(command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    with handled_by(signal.default_int_handler):
        return subprocess.run(["bash", "-ec", command], env=environment, text=True, check=False, **streams)


def run_shell(example):
    marks = example.namespace.pop("marks", {})
    command = example.parsed
    for words in filter(None, marks.get("run with", "").split("; and ")):
        new, old = words.split(" for ")
        assert old in command, f"{example.path}:{example.line}: {old!r} is not in the block"
        command = command.replace(old, new)
    result = run(command)
    example.namespace["output"] = result.stdout
    expected = int(marks.get("exit", 0))
    return None if result.returncode == expected else f"exit code {result.returncode}: {result.stdout}"


def run_python(example):
    from sybil.evaluators.python import PythonEvaluator

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        PythonEvaluator()(example)
    example.namespace["output"] = printed.getvalue()


def mark(example):
    name, value = example.parsed["directive"], example.parsed["arguments"]
    if name == "prepare":
        run(value).check_returncode()
    else:
        example.namespace.setdefault("marks", {})[name] = value


def squeeze(text):
    return "".join(f"{' '.join(line.split())}\n" for line in text.splitlines())


def compare(example):
    marks, output = example.namespace.pop("marks", {}), example.namespace["output"]
    if output is None:
        return None
    varies, expected, numbers = "|".join([*VARIES, *filter(None, [marks.get("varies")])]), "", []
    tokens = f"(?P<gap>^…\n)|(?P<varying>{varies})" + rf"|(?P<number>{NUMBER})" * ("within" in marks)
    put = {"gap": "(?:.*\n)*?", "varying": f"(?:{varies})", "number": f"({NUMBER})"}
    text = example.parsed["source"]
    shown, position = squeeze(text), 0
    for match in re.finditer(tokens, shown, re.MULTILINE):
        numbers += [float(match[0])] if match.lastgroup == "number" else []
        expected += re.escape(shown[position : match.start()]) + put[match.lastgroup]
        position = match.end()
    found = re.fullmatch(expected + re.escape(shown[position:]), squeeze(output))
    pairs = zip(map(float, found.groups()), numbers, strict=True) if found else [(0.0, math.inf)]
    if all(abs(new - old) <= float(marks.get("within", 0)) for new, old in pairs):
        return None
    return "\n".join(difflib.unified_diff(text.splitlines(), output.splitlines(), "page", "run"))


def parse(page):
    from sybil import Region
    from sybil.document import Document
    from sybil.parsers.markdown import CodeBlockParser, SkipParser, lexers

    def parse_others(document):
        marks = lexers.DirectiveInHTMLCommentLexer("|".join(MARKS))
        for lexer, evaluate in ((marks, mark), (lexers.RawFencedCodeBlockLexer(), compare)):
            for region in lexer(document):
                yield Region(region.start, region.end, region.lexemes, evaluate)

    blocks = CodeBlockParser("sh", run_shell), CodeBlockParser("python", run_python)
    return Document.parse(str(page), *blocks, SkipParser(), parse_others)


def make_folder(folder):
    from sklearn.datasets import load_iris

    for name in SHOWN:
        (folder / name).symlink_to(ROOT / name)
    iris = load_iris(as_frame=True)
    columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    table = iris.data.set_axis(columns, axis=1).assign(species=iris.target_names[iris.target])
    table.to_csv(folder / "iris.csv", index=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [PAGES[0], *(pytest.param(page, marks=pytest.mark.nightly) for page in PAGES[1:])],
    ids=lambda page: page.stem,
)
@pytest.mark.needs("torch", "jax", "array-api-strict", "sklearn", "wandb", "trackio", "mlflow", "onnx", "mpi")
@pytest.mark.needs("pages")
@pytest.mark.filterwarnings("ignore:::(mlflow|sqlalchemy)")  # of MLflow's own code
def test_the_blocks_print_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path)
    for example in parse(page):
        try:
            example.evaluate()
        except SkipTest:
            example.namespace["output"] = None


def test_no_block_of_commands_is_left_out():
    left_out = re.compile(r"(?<=\n\n)(?: {4}|\$ )(xpnet|python|pip|docker) .*", re.MULTILINE)
    assert [(page.name, match[0]) for page in PAGES for match in left_out.finditer(page.read_text())] == []
