"""scripts/faults.py: its table, the test of a fault, and what it says of the results."""

import json

import faults
import pytest

pytestmark = pytest.mark.tooling

SOURCE = """\
LIMIT = 3

def double(number):
    if number > LIMIT:
        return (number
                + number)
    return 2 * number
"""
TESTS = """\
from pathlib import Path
from xpnet import thing

def test_a_small_number():
    assert thing.LIMIT == 3

def test_a_large_number():
    assert getattr(thing, "double", lambda number: 8)(4) == 8

def test_that_fails_once():
    first, seen = hasattr(thing, "double"), Path("seen").exists()
    Path("seen").touch()
    assert first or seen
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout in place of that of xpnet."""
    files = {
        "xpnet/__init__.py": "",
        "xpnet/thing.py": SOURCE,
        "xpnet/parity/__init__.py": "",
        "xpnet/parity/plugin.py": "",
        "tests/test_thing.py": TESTS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    monkeypatch.setattr(faults, "FOLDER", tmp_path / "build")
    monkeypatch.setattr(faults, "TABLE", tmp_path / "faults.toml")
    return tmp_path


def test_the_text_of_each_fault_stands_in_its_file_once(capsys):
    assert faults.main(["--check"]) == 0
    assert int(capsys.readouterr().out.split()[0]) > 100


@pytest.mark.parametrize("text", ["number + 1", "number"])
def test_a_text_that_is_not_there_once_is_an_error(checkout, capsys, text):
    (checkout / "faults.toml").write_text(f'["thing.py"]\nwrong = ["{text}", "LIMIT = 3"]')
    assert faults.main(["--check"]) == 2
    message = f"faults: thing.py: wrong: expected the text once, got {SOURCE.count(text)}: "
    assert message in capsys.readouterr().err


TABLE = """
["thing.py"]
more = ["+ number)", "+ number + 1)"]
same = ["2 * number", "number * 2"]
once = ["def double", "def triple"]
import = ["LIMIT = 3", "LIMIT ="]
"""


def test_a_fault_is_caught_by_a_test_that_fails_twice(checkout, capsys):
    (checkout / "faults.toml").write_text(TABLE)
    words = ["--jobs", "1", "--minutes", "1"]
    assert faults.main([*words, "--only", "*: [ms]*e"]) == 1
    results = json.loads((checkout / "build" / "results.json").read_text())
    large = "tests/test_thing.py::test_a_large_number"
    assert results == {"thing.py: more": {"caught_by": [large]}, "thing.py: same": {"caught_by": []}}
    assert (checkout / "xpnet" / "thing.py").read_text() == SOURCE
    assert "not caught: 1 of 2\n  thing.py: same\n" in capsys.readouterr().out
    assert faults.main([*words, "--uncaught"]) == 1
    results = json.loads((checkout / "build" / "results.json").read_text())
    assert results["thing.py: import"]["caught_by"] == ["tests/test_thing.py"]  # as it cannot be imported
    assert "not caught: 2 of 4\n  thing.py: same\n  thing.py: once\n" in capsys.readouterr().out


def test_faults_that_were_caught_and_are_not_any_more_are_listed(tmp_path, capsys):
    for name, tests in ("old", ["test_one"]), ("new", []):
        (tmp_path / f"{name}.json").write_text(json.dumps({"x": {"caught_by": tests}}))
    words = ["--results", str(tmp_path / "new.json"), "--against"]
    assert faults.main([*words, str(tmp_path / "old.json")]) == 1
    assert "not caught any more: x (was by test_one)\n1 faults" in capsys.readouterr().out
    assert faults.main([*words, str(tmp_path / "new.json")]) == 0
