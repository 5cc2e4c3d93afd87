"""scripts/faults.py: its table, the test that catches a fault, and the comparison of two results."""

import json

import faults
import pytest

pytestmark = pytest.mark.tooling

SOURCE = "LIMIT = 3\n\n\ndef double(number):\n    return number + number\n"
TESTS = """
from xpnet.thing import double

def test_a_number():
    assert double(1) == 2
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout in place of that of xpnet."""
    files = {
        "xpnet/__init__.py": "",
        "xpnet/thing.py": SOURCE,
        "xpnet/parity/__init__.py": "",
        "xpnet/parity/plugin.py": "",
        "tests/test_other.py": TESTS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    monkeypatch.setattr(faults, "TABLE", tmp_path / "faults.toml")
    return tmp_path


def write_table(checkout, *lines):
    (checkout / "faults.toml").write_text('["thing.py"]\n' + "\n".join(lines))


def test_the_text_of_each_fault_stands_in_its_file_once(capsys):
    assert faults.main(["--check"]) == 0
    assert int(capsys.readouterr().out.split()[0]) > 100


@pytest.mark.parametrize("text", ["number - 1", "number", "LIMIT = 3"])
def test_a_text_that_is_not_there_once_or_not_changed_is_an_error(checkout, capsys, text):
    write_table(checkout, f'"wrong" = ["{text}", "LIMIT = 3"]')
    assert faults.main(["--check"]) == 2
    problem = f"faults: thing.py: wrong: expected the text once, got {SOURCE.count(text)}: "
    assert problem in capsys.readouterr().err


def test_the_tests_of_the_topic_come_before_those_of_the_folder_and_all_others():
    fault = faults.Fault("storage/run.py", "wrong", "", "")
    topic, folder = "tests/storage/test_run.py", "tests/storage"
    ignored = [f"--ignore={path}" for path in (topic, folder)]
    assert list(fault.list_tests()) == [[topic], [folder, *ignored[:1]], ["tests", *ignored]]


def test_a_fault_is_caught_by_a_test_that_fails_or_takes_too_long(checkout, capsys):
    write_table(
        checkout,
        '"more" = ["number + number", "number + number + 1"]',
        '"endless" = ["return number + number", "while True: pass"]',
        '"limit" = ["LIMIT = 3", "LIMIT = 4"]',
    )
    results = checkout / "build" / "results.json"
    words = ["--results", str(results), "--jobs", "1"]
    assert faults.main([*words, "--only", "*: [ml]*"]) == 1
    caught = {"thing.py: more": "tests/test_other.py::test_a_number", "thing.py: limit": None}
    assert json.loads(results.read_text()) == caught
    assert "thing.py: limit: NOT CAUGHT\nnot caught: 1 of 2\n" in capsys.readouterr().out
    assert faults.main([*words, "--only", "*endless", "--minutes", "0.02"]) == 0
    caught["thing.py: endless"] = "tests: takes longer than 1 s"
    assert json.loads(results.read_text()) == caught
    assert (checkout / "xpnet" / "thing.py").read_text() == SOURCE


def test_faults_that_were_caught_and_are_not_any_more_are_listed(tmp_path, capsys):
    for name, results in ("old", {"x": "test_one", "y": None}), ("new", {"x": None, "y": "test_two"}):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    words = ["--results", str(tmp_path / "new.json"), "--against"]
    assert faults.main([*words, str(tmp_path / "old.json")]) == 1
    assert "not caught any more: x (was by test_one)\n1 faults" in capsys.readouterr().out
    assert faults.main([*words, str(tmp_path / "new.json")]) == 0
