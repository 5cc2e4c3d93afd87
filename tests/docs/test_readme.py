"""README, typed literally: its commands are real, in an order that works, and name what is there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from xpnet import train
from xpnet.__main__ import COMMANDS
from xpnet.cli import doctor, evaluate, parity, predict, report
from xpnet.cli.runs import command as runs
from xpnet.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "Dockerfile", *sorted(ROOT.glob("docs/*.md"))]
SOURCES = [*sorted(ROOT.glob("xpnet/**/*.py")), *sorted(ROOT.glob("examples/*.ipynb"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SHELLS = ("sh", "bash", "console", "shell")
PARSE = {
    "evaluate": lambda words: evaluate._build_parser().parse_args(words),
    "predict": predict._parse_arguments,
    "report": lambda words: report._build_parser().parse_args(words),
    "runs": lambda words: runs._build_parser().parse_args(words),
    "parity": lambda words: parity._build_parser().parse_args(words),
    "doctor": lambda words: doctor.main([*words, "--help"]),
}
"""What reads the words of a command without running it; it raises over those that are wrong."""
ACTIVATE = ".venv/bin/activate"
SET_UP = f"    python3 -m venv .venv && . {ACTIVATE} && pip install -e .\n"


def lines_of(text):
    """The lines of all shell blocks: those indented by four spaces, and those fenced as shell."""
    fence, before = None, ""
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif (fence is None and line.startswith("    ") and not before) or fence in SHELLS:
            yield line.strip().removeprefix("$ ")
            continue  # further lines of the block are no text
        before = line.strip()


def commands_of(line):
    """The simple commands of a line, each with the file that its output goes to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
    lexer.whitespace_split = True
    words, target, is_target = [], None, False
    for part in lexer:
        if part in ("&&", "|", ";"):
            yield words, target
            words, target = [], None
        elif part == ">":
            is_target = True
        elif is_target:
            target, is_target = part, False
        else:
            words.append(part)
    if words:
        yield words, target


class Reader:
    """Somebody who types the blocks one after the other, into the folder `here`."""

    def __init__(self, here, capsys):
        self.here, self.capsys = here, capsys
        self.made, self.extras, self.active, self.installed = set(), set(), False, False
        self.count = 0

    def type(self, text):
        for line in lines_of(text):
            for words, target in commands_of(line):
                self.count += 1
                output = self.command([word for word in words if not re.match(r"[A-Z_]+=", word)])
                if target is not None:
                    self.made.add(target)
                    (self.here / target).write_text(output)

    def command(self, words):
        """Check one command, and return what it prints if its output may be wanted."""
        program, *rest = words
        if rest[:2] == ["-m", "venv"]:
            self.made.add(f"{rest[2]}/bin/activate")
            return ""
        if program == ".":
            assert rest == [ACTIVATE]
            self.check_paths(rest)
            self.active = True
            return ""
        assert self.active, f"{words}: before the environment is activated"
        if program == "pip":
            return self.install(rest)
        assert self.installed, f"{words}: before xpnet is installed"
        self.check_paths(rest)
        if program == "python" and rest[:2] == ["-m", "pytest"]:
            assert "test" in self.extras
            return ""
        if program == "python" and rest[0] == "-m" and rest[1].startswith("xpnet"):
            rest = [*rest[1].split(".")[1:], *rest[2:]]
        else:
            assert program == "xpnet", f"{words}: no command that is known here"
        return self.xpnet(*rest)

    def install(self, rest):
        assert rest[:2] == ["install", "-e"], f"pip {rest}: without -e, edits would change nothing"
        (wanted,) = rest[2:]
        extras = re.fullmatch(r"\.(?:\[([a-z0-9,]+)\])?", wanted)
        assert extras, f"pip {rest}: xpnet is on no index: expected . or .[extra]"
        names = set((extras[1] or "").split(",")) - {""}
        assert names <= set(EXTRAS)
        self.extras |= names
        self.installed = True
        return ""

    def xpnet(self, command, *rest):
        assert command in COMMANDS
        if command == "train":
            return self.train(rest)
        if command in ("evaluate", "predict", "report", "runs"):
            assert "runs" in self.made, f"{command}: before anything is trained"
        self.run(PARSE[command], list(rest))
        return ""

    def train(self, rest):
        output = self.run(train.main, [*rest, "--print-config"])
        config = tomllib.loads(output)
        libraries = {config["backend"], *config["track"]} - {"auto", "numpy"}
        assert libraries <= self.extras, f"{rest}: {libraries} are not all installed"
        if "--print-config" not in rest:
            folder = f"runs/{config['name']}" if "name" in config else "runs/TIME"
            assert folder not in self.made - {"runs/TIME"}, f"{rest}: the name is taken"
            self.made |= {"runs", folder}
        return output

    def run(self, function, words):
        """Return what a function prints that must not end with an error."""
        try:
            code = function(words)
        except SystemExit as ended:
            code = ended.code
        output, err = self.capsys.readouterr()
        assert code not in (1, 2), f"{words}: {err}"
        return output

    def check_paths(self, words):
        """Require of each word that looks like a path that it was made, or is in the checkout."""
        for word in words:
            looks = re.fullmatch(r"[\w.-]*/[\w./-]*|[\w-]+\.[a-z]{2,}", word)
            if looks and not word.startswith("xpnet."):
                ours = (ROOT / word).exists() and Path(word).parts[0] not in (".venv", "runs")
                assert word in self.made or ours, f"{word}: is not there"


@pytest.fixture
def reader(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return Reader(tmp_path, capsys)


def test_every_block_of_readme_can_be_typed_in_order(reader):
    reader.type(README.read_text())
    assert reader.count >= 20
    assert {"test", "torch"} <= reader.extras


def test_the_first_block_is_one_line_that_sets_up_and_trains():
    first = next(lines_of(README.read_text()))
    assert first == f"{SET_UP.strip()} && python -m xpnet.train"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("    python -m xpnet.train\n", "before the environment is activated"),
        ("    . .venv/bin/activate\n", "activate: is not there"),
        ("    .venv/bin/pip install -e .\n", "before the environment is activated"),
        ("```sh\nxpnet doctor\n```\n", "before the environment is activated"),
        (f"{SET_UP}    pip install .\n", "without -e"),
        (f'{SET_UP}    pip install -e "xpnet[torch]"\n', "xpnet is on no index"),
        (f"{SET_UP}    xpnet evaluate\n", "evaluate: before anything is trained"),
        (f"{SET_UP}    xpnet train\n    xpnet report runs/first\n", "runs/first: is not there"),
        (f"{SET_UP}    xpnet train\n    xpnet predict photo.jpg\n", "photo.jpg: is not there"),
        (f"{SET_UP}    xpnet train --batch 3\n", "unrecognized arguments: --batch"),
        (f"{SET_UP}    xpnet train\n    xpnet evaluate --sort x\n", "--sort"),
        (f"{SET_UP}    xpnet train\n    xpnet runs shew\n", "invalid choice: 'shew'"),
        (f"{SET_UP}    xpnet train --name a\n    xpnet train --name a\n", "the name is taken"),
        (f"{SET_UP}    xpnet train --backend torch\n", "'torch'} are not all installed"),
        (f"{SET_UP}    xpnet train --track mlflow\n", "'mlflow'} are not all installed"),
        (f"{SET_UP}    python scripts/absent.py\n", "scripts/absent.py: is not there"),
        (f"{SET_UP}    uv pip list\n", "no command that is known here"),
    ],
)
def test_a_block_that_would_fail_is_refused(reader, block, message):
    with pytest.raises((AssertionError, ConfigError), match=re.escape(message)):
        reader.type(f"Text.\n\n{block}")


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: path.name)
def test_nothing_installs_xpnet_from_an_index(path):
    text = path.read_text()
    assert "xpnet[" not in text
    assert not re.search(r"pip install (-\S+ )*\"?xpnet\b", text)


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=str)
def test_links_lead_to_what_is_there(page):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


# The photo


def test_the_network_of_readme_reads_the_photo_as_readme_shows(reader, capsys):
    commands = [words for line in lines_of(README.read_text()) for words, _ in commands_of(line)]
    at = next(at for at, words in enumerate(commands) if words[:2] == ["xpnet", "predict"])
    training, reading = commands[at - 1], commands[at]
    assert training[:2] == ["xpnet", "train"]
    assert train.main([*training[2:], "--device", "cpu", "--quiet"]) == 0
    capsys.readouterr()
    assert predict.main([*reading[2:], "--device", "cpu"]) == 0
    photo, digit, probability = capsys.readouterr().out.split()
    assert (photo, digit) == ("examples/seven.jpg", "7")
    assert float(probability) > 0.95
    assert re.search(rf"^{photo}   {digit}   0\.9\d\d\d$", README.read_text(), re.MULTILINE)


def test_the_photo_is_small_and_belongs_to_the_source_distribution():
    path = ROOT / "examples" / "seven.jpg"
    assert path.stat().st_size < 100_000
    with Image.open(path) as image:
        assert image.format == "JPEG"
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    assert "/examples" in hatch["build"]["targets"]["sdist"]["include"]
