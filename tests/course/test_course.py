"""docs/course: its checker finds and names mistakes, two solutions are right, and its pages are short."""

import json
import re
import subprocess
import sys
import time
import tomllib
from itertools import chain
from pathlib import Path

import check
import given
import make_course
import numpy as np
import pytest
from cases import MISTAKES, PUBLISHED, made_cases, published_cases, read_vectors, solve

ROOT = Path(__file__).resolve().parents[2]
COURSE, HERE = ROOT / "docs" / "course", ROOT / "tests" / "course"
STUB, SOLUTION, STUDENT = (
    path.read_text() for path in (COURSE / "stub.py", HERE / "solution.py", HERE / "student.mjs")
)
EXERCISES = sorted(COURSE.glob("[0-9]*.md"), key=lambda page: int(page.name.partition("-")[0]))
NODE = ["node", str(HERE / "student.mjs")]
CAUSES = tomllib.loads((HERE / "planted.toml").read_text())
PLANTED = [
    (number, cause, edits)
    for number, function in enumerate(check.FUNCTIONS, start=1)
    for cause, value in CAUSES[function].items()
    for edits in (value if isinstance(value[0], list) else [value])
]
RESULTS = {
    "layer": lambda e: {"Z": e["product"]},
    "activate": lambda e: {"softmax": [[p] for p in e["probabilities"]]},
    "loss": lambda e: {"losses": e["losses"]},
    "update": lambda e: {name: e["steps"][-1][name] for name in "Wb"},
    "batches": lambda e: {},
    "optimize": lambda e: {name: e["steps"][-1][name] for name in "Wb"},
    "drop": lambda e: {"A": [[e["s"] * (u not in row) for row in e["dropped"]] for u in range(e["units"])]},
    "normalize": lambda e: (
        {"Y": e["y"], "dZ": e["dz"], "dgamma": e["dgamma"], "dbeta": e["dbeta"]}
        | {"mean": e["mean after"], "variance": e["variance after"], "predicted": e["y in evaluation"]}
    ),
}
"""What an entry of docs/vectors has of the results of a function."""


@pytest.fixture
def python(tmp_path):
    """The command of a program in Python: the solution, with the stub's mnist, input and output."""
    path = tmp_path / "student.py"
    parts = re.findall(r"^(?:def mnist|if __name__).*?(?=\n\n\n|\Z)", STUB, flags=re.DOTALL | re.MULTILINE)
    imports = f"import json\nimport sys\nsys.path.append({str(COURSE)!r})\nfrom given import *\n"
    path.write_text("\n\n\n".join([imports, SOLUTION, *parts]))
    return [sys.executable, str(path)]


def exit_code_and_lines(capsys, *words):
    return check.main([*map(str, words)]), capsys.readouterr().out.splitlines()


# The answers


@pytest.mark.parametrize("function", PUBLISHED)
def test_the_solution_has_the_results_of_the_vectors(function):
    file, part, which, _ = PUBLISHED[function]
    for entry, result in zip(
        read_vectors(file, part)[which], solve(function, published_cases(function)), strict=True
    ):
        expected = RESULTS[function](entry)
        assert {name: result[name] for name in expected} == expected
        if function == "batches":
            assert [*chain(*result["batches"][-1])] == entry["order"]


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_the_given_functions_have_the_results_of_the_vectors(name):
    pairs = json.loads((ROOT / "docs/vectors/functions.json").read_text())[name]
    x, y = (np.array([float.fromhex(pair[i]) for pair in pairs]) for i in (0, 1))
    computed = getattr(given, name)(x)
    assert computed[~np.isnan(y)].tobytes() == y[~np.isnan(y)].tobytes()
    assert np.isnan(computed[np.isnan(y)]).all()


def test_matmul_and_sum_samples_have_the_results_of_the_vectors():
    def numbers(vector):
        if isinstance(vector, dict):
            vector = (vector["repeat"] * vector["length"])[: vector["length"]]
        return [float(x) if isinstance(x, str) else x for x in vector]

    cases = [*read_vectors("contractions", "products"), *read_vectors("contractions", "gradients")]
    for case in (case for case in cases if case.get("factor", 1 / 255) == 1 / 255):
        rows, columns = (np.array([numbers(v) for v in case[name]]) for name in ("rows", "columns"))
        columns = columns if "factor" not in case else columns.astype(np.uint8)
        product = np.array([numbers(row) for row in case["product"]])
        np.testing.assert_array_equal(given.matmul(rows, columns.T), product, strict=True)
        if "sums" in case:
            np.testing.assert_array_equal(given.sum_samples(rows, columns)[:, 0], numbers(case["sums"]))


def test_fold_and_tree_have_the_results_of_the_vectors():
    for case in read_vectors("sums", "folded"):
        assert given.fold(case["terms"]) == case["sum"]
    for case in read_vectors("sums", "tree"):
        assert given.tree(case["blocks"]) == case["sum"]


def test_a_right_program_in_python_is_right(capsys, python):
    assert exit_code_and_lines(capsys, 1, "--", *python) == (0, ["exercise 1: right"])


@pytest.mark.slow
def test_all_of_a_right_program_in_python_is_right(capsys, python):
    code, lines = exit_code_and_lines(capsys, "--all", "--seed", 1, "--", *python)
    assert (code, lines[-1], len(lines)) == (0, "10 of 10 are right", 11)


@pytest.mark.slow
@pytest.mark.needs("node")
def test_all_of_a_right_program_in_javascript_is_right(capsys):
    assert exit_code_and_lines(capsys, "--all", "--", *NODE)[0] == 0


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.needs("node")
def test_the_sixth_exercise_prints_the_fingerprint_of_100_epochs(capsys, python):
    for command in (python, NODE):
        assert exit_code_and_lines(capsys, 6, "--", *command) == (0, ["exercise 6: right"])


@pytest.mark.slow
def test_a_wrong_fingerprint_is_wrong(capsys, python, monkeypatch):
    monkeypatch.setattr(check, "FINGERPRINTS", {0: "0" * 64})
    code, (line, message) = check.main(["6", "--", *python]), capsys.readouterr()
    assert (code, message) == (1, "small cases right, now MNIST\n")
    assert line.startswith('exercise 6: MNIST, epoch 0, case[0] fingerprint is "fcde2c8dad9bc18c')


# The mistakes


@pytest.mark.parametrize(
    "function",
    [pytest.param(f, marks=() if f in {"layer", "update"} else pytest.mark.slow) for f in check.FUNCTIONS],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_two_known_mistakes_have_the_same_bits(function, seed):
    cases = made_cases(function, seed) + published_cases(function) * (function == "drop")
    answers = {"": solve(function, cases)}
    for cause, edits in MISTAKES[function].items():
        assert all(old in SOLUTION or old in "".join(edits[1::2]) for old in edits[::2]), cause
        answers[cause] = solve(function, cases, edits)
    assert len({json.dumps(answer) for answer in answers.values()}) == len(answers)


@pytest.mark.slow
@pytest.mark.needs("node")
@pytest.mark.parametrize("number", range(1, 11))
def test_each_planted_mistake_is_found_and_named(number, tmp_path):
    student = STUDENT.replace("../../docs", (ROOT / "docs").as_uri())
    program, named = tmp_path / "student.mjs", {}
    for planted, cause, edits in PLANTED:
        if planted == number:
            text = student
            for old, new in zip(edits[::2], edits[1::2], strict=True):
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            program.write_text(text)
            trouble = check.check(number, ["node", str(program)], 0, on_mnist=False)
            assert trouble is not None, edits
            named[str(edits)] = trouble.partition("; the usual cause: ")[2], cause
    assert [pair for pair in named.values() if pair[0] != pair[1]] == []


def test_a_mistake_in_some_results_alone_is_named():
    def answers(**causes):
        results = {
            name: solve("update", cases, MISTAKES["update"].get(causes.get(name), ())) for name in "Wb"
        }
        return [{"W": W["W"], "b": b["b"]} for W, b in zip(results["W"], results["b"], strict=True)]

    cases, sign, first = made_cases("update", 0), "the sign: the gradient is added", "W is not updated"
    assert check.judge("update", cases, answers()) is None
    assert check.judge("update", cases, answers(b=sign)).endswith(f"; the usual cause: {sign}")
    assert "cause" not in check.judge("update", cases, answers(W=first, b=sign))


def test_a_wrong_answer_to_a_vector_for_which_a_mistake_has_no_result_is_a_place():
    cases = made_cases("layer", 0) + published_cases("layer")
    answers = solve("layer", cases)
    answers[-1]["Z"][0][0] = 7.0
    assert check.judge("layer", cases, answers).startswith(f"case[{len(cases) - 1}] Z[0][0] is 7, not ")


def test_sixty_mistakes_are_planted_and_forty_have_a_cause():
    assert len(PLANTED) >= 60
    assert len([cause for _, cause, _ in PLANTED if cause]) >= 40


# Programs that give no answer


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("print('x' * 2**25)", 2, "printed more than 16 MB"),
        ("while True: print('x' * 2**20)", 2, "printed more than 16 MB"),
        ("import sys; sys.stderr.write('x' * 2**25)", 2, "printed more than 16 MB"),
        ("raise ValueError('no such\\nthing')", 2, "exit code 1: ValueError: no such"),
        ("import sys; sys.exit(3)", 2, "exit code 3: no message"),
        ("import os; os.kill(os.getpid(), 9)", 2, "exit code -9: no message"),
        ("", 2, "not one JSON text, but nothing"),
        ("print('Z = 3')", 2, "not one JSON text, but Z = 3"),
        ("print('[' * 10**6)", 2, "not one JSON text"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", 2, "not one JSON text"),
        ("print(5)", 1, "the answer is 5, not a list of 2 results"),
        ("print([])", 1, "the answer has 0 results, not 2"),
        ("print('[null, null]')", 1, "case[0] is null, not an object with Z"),
        ("print('[{\"Z\": true}, {}]')", 1, "case[0] Z is true, not a list of 10"),
        ("print('[{\"Z\": [[%s]]}, {}]' % ('9' * 5000))", 1, "case[0] Z is a list of 1, not a list of 10"),
    ],
)
def test_a_program_without_a_right_answer_is_a_line(program, code, text, capsys):
    result, [line] = exit_code_and_lines(capsys, 1, "--", sys.executable, "-S", "-c", program)
    assert result == code
    assert line.startswith("exercise 1: ")
    assert text in line
    assert len(line) < 200


def test_a_program_that_hangs_is_ended_with_what_it_started(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.3)
    program = f"(sleep 0.8; touch {tmp_path}/alive) & wait"
    code, lines = exit_code_and_lines(capsys, 1, "--", "sh", "-c", program)
    assert (code, lines) == (2, ["exercise 1: the program did not end in 0.3 s"])
    time.sleep(0.8)
    assert not (tmp_path / "alive").exists()


def test_a_command_that_cannot_be_run_is_a_line(capsys, tmp_path):
    code, [line] = exit_code_and_lines(capsys, 1, "--", tmp_path / "none")
    assert (code, line) == (2, f"exercise 1: {tmp_path}/none cannot be run: No such file or directory")


def test_the_first_wrong_value_has_its_place_and_both_values(capsys):
    cases = made_cases("layer", 0)
    answers = solve("layer", cases)
    right = answers[1]["Z"][2][3]
    answers[1]["Z"][2][3] = np.nextafter(right, 1)
    answers[1]["Z"][4][0] = 0.0
    program = f"print({json.dumps(answers)!r})"
    code, [line] = exit_code_and_lines(capsys, 1, "--", sys.executable, "-S", "-c", program)
    assert (code, line) == (1, f"exercise 1: case[1] Z[2][3] is {np.nextafter(right, 1)}, not {right}")


def test_the_sign_of_a_zero_is_compared():
    assert check.difference([-0.0], [0.0], "Z") == "Z[0] is -0, not 0"


def test_without_a_command_the_task_is_printed_with_exact_numbers(capsys):
    code, [line] = exit_code_and_lines(capsys, 2, "--seed", 5)
    task, [case, _] = json.loads(line), made_cases("activate", 5)
    assert (code, task["function"], task["cases"][0]["Z"]) == (0, "activate", case["Z"].tolist())
    assert case["Z"].tolist() != made_cases("activate", 6)[0]["Z"].tolist()


def test_what_the_user_breaks_off_or_lacks_is_no_traceback():
    piped = ["sh", "-c", f"'{sys.executable}' '{COURSE}/check.py' 2 | true"]
    assert subprocess.run(piped, capture_output=True, check=True).stderr == b""
    process = subprocess.run([sys.executable, "-S", COURSE / "check.py"], capture_output=True, check=False)
    assert (process.returncode, process.stderr.count(b"\n")) == (2, 1)
    assert process.stderr.startswith(b"check.py needs a whole checkout, Python 3.11 and NumPy")


@pytest.mark.parametrize("words", ["", "--all", "1 --all -- true", "11 -- true", "1 --seed -1 -- true"])
def test_wrong_arguments_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main(words.split())
    assert ended.value.code == 2


# The pages


def test_there_are_ten_exercises_with_a_picture_and_a_stub_in_two_languages():
    functions = [
        re.search(r"^```python\n(def (\w+)\(.*\):\n)", page.read_text(), re.MULTILINE) for page in EXERCISES
    ]
    assert [match[2] for match in functions] == check.FUNCTIONS
    script = (COURSE / "stub.mjs").read_text()
    for page, match in zip(EXERCISES, functions, strict=True):
        assert match[1] in STUB
        parameters = ", ".join(re.findall(r"(\w+)[,)]", match[1]))
        assert f"function {match[2]}({{ {parameters} }})" in script
        assert len(re.findall(r"^!\[.+\]\(images/\w[\w-]*\.svg\)$", page.read_text(), re.MULTILINE)) == 1


@pytest.mark.parametrize("page", sorted(COURSE.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_has_at_most_500_words(page):
    assert len(page.read_text().split()) <= 500


def test_the_checker_has_at_most_200_lines():
    assert len((COURSE / "check.py").read_text().splitlines()) <= 200


def test_generated_files_are_up_to_date():
    assert [path.name for path, text in make_course.files().items() if path.read_text() != text] == []
