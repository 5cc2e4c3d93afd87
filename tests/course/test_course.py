"""docs/course: its checker finds and names mistakes, two solutions are right, and its pages are short."""

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import check
import make_course
import numpy as np
import pytest
from cases import PUBLISHED, made_cases, published_cases, read_vectors, solve

ROOT = Path(__file__).resolve().parents[2]
COURSE, HERE = ROOT / "docs" / "course", ROOT / "tests" / "course"
PROGRAMS = COURSE / "stub.py", HERE / "solution.py", HERE / "student.mjs"
STUB, SOLUTION, STUDENT = (path.read_text() for path in PROGRAMS)
PLANTED = [
    (number, cause, edits)
    for number, (function, causes) in enumerate(tomllib.loads((HERE / "planted.toml").read_text()).items(), 1)
    for cause, value in causes.items()
    for edits in (value if isinstance(value[0], list) else [value])
]
RESULTS = {
    "layer": lambda e: {"Z": e["product"]},
    "activate": lambda e: {"softmax": [[p] for p in e["probabilities"]]},
    "loss": lambda e: {"losses": e["losses"]},
    "normalize": lambda e: {"Y": e["y"], "dZ": e["dz"], "mean": e["mean after"], "dgamma": e["dgamma"]},
}
"""What an entry of docs/vectors has of the results of a function."""
PYTHON, NODE = [sys.executable, "-S", "-c"], ["node", str(HERE / "student.mjs")]
NEEDS_NODE, SLOW, RARE = pytest.mark.needs("node"), pytest.mark.slow, pytest.mark.nightly


@pytest.fixture
def python(tmp_path):
    """The command of a program in Python: the solution, with the stub's mnist, input and output."""
    path = tmp_path / "student.py"
    parts = re.findall(r"^(?:def mnist|if __name).*?(?=\n\n\n|\Z)", STUB, flags=re.DOTALL | re.MULTILINE)
    imports = f"import json\nimport sys\nsys.path.append({str(COURSE)!r})\nfrom given import *\n"
    path.write_text("\n\n\n".join([imports, SOLUTION, *parts]))
    return [sys.executable, str(path)]


@pytest.fixture
def run(capsys):
    return lambda *words: (check.main([*map(str, words)]), capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("function", PUBLISHED)
def test_the_solution_has_the_results_of_the_vectors(function):
    file, part, which, _ = PUBLISHED[function]
    expected = list(map(RESULTS[function], read_vectors(file, part)[which]))
    results = solve(function, published_cases(function))
    named = [{name: result[name] for name in expected[0]} for result in results]
    assert named == expected


def test_a_right_program_in_python_is_right(run, python):
    assert run(1, "--", *python) == (0, ["exercise 1: right"])


@SLOW
@NEEDS_NODE
@pytest.mark.parametrize("language", [0, 1])
def test_all_of_a_right_program_is_right(run, python, language):
    code, lines = run("--all", "--seed", 1, "--", *(python, NODE)[language])
    assert (code, lines[-1], len(lines)) == (0, "10 of 10 are right", 11)


@SLOW
@RARE
@NEEDS_NODE
def test_the_sixth_exercise_prints_the_fingerprint_of_100_epochs(run, python):
    assert [run(6, "--", *command) for command in (python, NODE)] == [(0, ["exercise 6: right"])] * 2


@SLOW
@NEEDS_NODE
@pytest.mark.parametrize(
    "number", [*range(1, 6), *(pytest.param(number, marks=RARE) for number in range(6, 11))]
)
def test_each_planted_mistake_is_found_and_named(number, tmp_path):
    program, named = tmp_path / "student.mjs", []
    for cause, edits in [planted[1:] for planted in PLANTED if planted[0] == number]:
        text = STUDENT.replace("../../docs", (ROOT / "docs").as_uri())
        for old, new in zip(edits[::2], edits[1::2], strict=True):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        program.write_text(text)
        trouble = check.check(number, ["node", str(program)], 0, on_mnist=False)
        assert trouble is not None, edits
        named.append((trouble.partition("; the usual cause: ")[2], cause))
    assert [pair for pair in named if pair[0] != pair[1]] == []


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("while True: print('x' * 2**20)", 2, "printed more than 16 MB"),
        ("raise ValueError('no such\\nthing')", 2, "exit code 1: ValueError: no such"),
        ("print('Z = 3')", 2, "not one JSON text, but Z = 3"),
        ("print('[null, null]')", 1, "case[0] is null, not an object with Z"),
        ("print('[{\"Z\": [[%s]]}, {}]' % ('9' * 5000))", 1, "case[0] Z is a list of 1, not a list of 10"),
    ],
)
def test_a_program_without_a_right_answer_is_a_line(program, code, text, run):
    result, [line] = run(1, "--", *PYTHON, program)
    assert (result, len(line) < 200) == (code, True)
    assert text in line.removeprefix("exercise 1: ")


def test_a_program_that_hangs_is_ended_with_what_it_started(run, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.3)
    code, lines = run(1, "--", "sh", "-c", f"(sleep 0.8; touch {tmp_path}/alive) & wait")
    assert (code, lines) == (2, ["exercise 1: the program did not end in 0.3 s"])
    time.sleep(0.8)
    assert not (tmp_path / "alive").exists()


def test_the_first_wrong_value_has_its_place_and_both_values(run):
    answers = solve("layer", made_cases("layer", 0))
    right = answers[1]["Z"][2][3]
    answers[1]["Z"][2][3] = np.nextafter(right, 1)
    answers[1]["Z"][4][0] = 0.0
    code, [line] = run(1, "--", *PYTHON, f"print({json.dumps(answers)!r})")
    assert (code, line) == (1, f"exercise 1: case[1] Z[2][3] is {np.nextafter(right, 1)}, not {right}")


def test_without_a_command_the_task_is_printed_with_exact_numbers(run):
    code, [line] = run(2, "--seed", 5)
    assert (code, json.loads(line)["cases"][0]["Z"]) == (0, made_cases("activate", 5)[0]["Z"].tolist())


def test_what_the_user_lacks_is_no_traceback():
    process = subprocess.run([sys.executable, "-S", COURSE / "check.py"], capture_output=True, check=False)
    assert (process.returncode, process.stderr.count(b"\n")) == (2, 1)


def test_there_are_ten_exercises_with_a_picture_and_a_stub_in_two_languages():
    pages = sorted(COURSE.glob("[0-9]*.md"), key=lambda page: int(page.name.partition("-")[0]))
    for page, function in zip(pages, check.FUNCTIONS, strict=True):
        text = page.read_text()
        head = re.search(rf"^```python\n(def {function}\(.*\):\n)", text, re.MULTILINE)[1]
        parameters = ", ".join(re.findall(r"(\w+)[,)]", head))
        assert head in STUB
        assert f"function {function}({{ {parameters} }})" in (COURSE / "stub.mjs").read_text()
        assert len(re.findall(r"^!\[.+\]\(images/\w[\w-]*\.svg\)$", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("page", sorted(COURSE.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_has_at_most_500_words(page):
    assert len(page.read_text().split()) <= 500


def test_generated_files_are_up_to_date():
    assert [path.name for path, text in make_course.files().items() if path.read_text() != text] == []
