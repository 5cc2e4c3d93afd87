"""scripts/faults.py: its table, the lines and the tests of a fault, and what it says of the results."""

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
import subprocess, sys
import pytest
from xpnet.thing import double

@pytest.fixture(scope="module")
def shared():
    return double(3)

def test_a_fixture(shared):
    assert shared == 6

def test_a_small_number():
    assert double(1) == 2

def test_a_large_number():
    assert double(4) == 8

def test_in_a_process():
    words = [sys.executable, "-c", "from xpnet.thing import double; print(double(5))"]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "10\\n"
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout in place of that of xpnet, with the plugin of the script."""
    files = dict.fromkeys(("xpnet/__init__.py", "xpnet/parity/__init__.py", "xpnet/parity/plugin.py"), "")
    files |= {"xpnet/thing.py": SOURCE, "tests/test_thing.py": TESTS}
    files |= {f"scripts/planted/{path.name}": path.read_text() for path in faults.TABLE.parent.glob("*.py")}
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


TABLE = """
["thing.py"]
more = ["+ number)", "+ number + 1)"]
less = ["2 * number", "1 * number"]
same = ["2 * number", "number * 2"]
"""


@pytest.mark.needs("coverage")
def test_a_fault_is_caught_by_the_tests_that_reach_it_and_fail(checkout, capsys):
    (checkout / "faults.toml").write_text(TABLE)
    assert faults.main(["--jobs", "1", "--only", "*: [mls]*e*"]) == 1
    results = json.loads((checkout / "build" / "results.json").read_text())
    tests = {fault.removeprefix("thing.py: "): result["caught_by"] for fault, result in results.items()}
    assert {name: [test.partition("::")[2] for test in found] for name, found in tests.items()} == {
        "more": ["test_a_large_number", "test_in_a_process"],
        "less": ["test_a_fixture", "test_a_small_number"],
        "same": [],
    }
    assert [result["reached_by"] for result in results.values()] == [2, 4, 4]
    assert (checkout / "xpnet" / "thing.py").read_text() == SOURCE
    assert faults.main(["--jobs", "1", "--uncaught"]) == 1
    assert "not caught: 1 of 3\n  thing.py: same\n" in capsys.readouterr().out
    assert faults.main(["--which", "xpnet/thing.py:6"]) == 0
    *tests, summary = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(" s  ")[2] for line in tests) == [
        "caught a fault  tests/test_thing.py::test_a_large_number",
        "caught a fault  tests/test_thing.py::test_in_a_process",
    ]
    assert summary == "2 of 4 default tests run lines 5 to 6 of thing.py, as learnt"
    (checkout / "xpnet" / "thing.py").write_text(SOURCE)
    assert faults.main(["--which", "xpnet/thing.py:6"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("the file has changed since: --learn")


def test_faults_that_were_caught_and_are_not_any_more_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faults, "FOLDER", tmp_path)
    for name, tests in ("old", ["test_one", "test_two"]), ("results", []):
        (tmp_path / f"{name}.json").write_text(json.dumps({"x": {"caught_by": tests}}))
    assert faults.main(["--against", str(tmp_path / "old.json")]) == 1
    assert "not caught any more: x, by test_one, test_two\n1 faults" in capsys.readouterr().out
    assert faults.main(["--against", str(tmp_path / "results.json")]) == 0
