"""README, typed literally: its commands are valid, in an order that works, and print what it shows."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from xpnet import train
from xpnet.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
SET_UP = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install -e .", "python -m xpnet.train")


def blocks():
    """Return the indented blocks of the page, each as a list of commands, as words without variables."""
    found = []
    for block in re.findall(r"^(?:    .+\n)+", README, re.MULTILINE):
        parts = [part for line in block.splitlines() for part in re.split(r"&&", line)]
        words = [shlex.split(part, comments=True) for part in parts]
        found.append([[word for word in each if not re.match(r"[A-Z_]+=", word)] for each in words])
    return found


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty folder with the examples, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_every_command_of_readme_can_be_typed_in_order(checkout, capsys):
    commands = [words for block in blocks() for words in block]
    assert [" ".join(words) for words in commands[: len(SET_UP)]] == [*SET_UP]
    extras, trainings = set(), 0
    for words in commands[2:]:
        match words:
            case ["pip", "install", "-e", package]:
                named = re.fullmatch(r"\.(?:\[([a-z0-9,]+)\])?", package)[1] or ""
                assert set(named.split(",")) - {""} <= set(EXTRAS)
                extras |= set(named.split(","))
            case ["python", "-m", "pytest", *_]:
                assert "test" in extras
            case ["python", "-m", "xpnet.train", *rest] | ["xpnet", "train", *rest]:
                flags, _, target = " ".join(rest).partition(" > ")
                assert train.main([*flags.split(), "--print-config"]) == 0, words
                text = capsys.readouterr().out
                config = tomllib.loads(text)
                assert {config["backend"], *config["track"]} - {"auto", "numpy"} <= extras
                trainings += 1
                if target:
                    (checkout / target).write_text(text)
            case _:
                assert words[0] == "xpnet"
                assert words[1] in COMMANDS
                assert trainings
    assert trainings >= 12


@pytest.mark.tooling
def test_the_commands_after_a_training_work_and_the_photo_is_read_as_shown(checkout, capsys):
    ((training, reading, *others),) = [block for block in blocks() if block[1:] and "predict" in block[1]]
    for words in (training, reading, *others):
        assert words[0] == "xpnet"
        cpu = ["--device", "cpu"] if words[1] in ("train", "predict", "evaluate") else []
        assert main([*words[1:], *cpu]) == 0, words
        out = capsys.readouterr().out
        if words == reading:
            photo, digit, probability = out.split()
            assert (photo, digit) == ("examples/seven.jpg", "7")
            assert float(probability) > 0.95
            assert re.search(rf"^{photo}   {digit}   0\.9\d\d\d$", README, re.MULTILINE)


@pytest.mark.tooling
def test_the_photo_is_small_and_belongs_to_the_source_distribution():
    assert (ROOT / "examples" / "seven.jpg").stat().st_size < 100_000
    assert "/examples" in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
