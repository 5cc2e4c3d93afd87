"""Checks an exercise of the course, bit by bit: python docs/course/check.py 4 -- python mine/course.py

The command is a program of your own. It gets a task as JSON on standard input, and prints its answers as
JSON. Without a command, the task is printed. The exit code is 0 if all answers are right, 1 if one is wrong,
and 2 if there are none.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "course"))  # has the solutions
try:
    from cases import MISTAKES, made_cases, mnist_case, published_cases, solve
except ModuleNotFoundError as error:
    print(f"check.py needs a whole checkout, Python 3.11 and NumPy: {error}", file=sys.stderr)
    sys.exit(2)

FUNCTIONS = list(MISTAKES)
SECONDS = 60  # that a program may take; the training on MNIST may take ten times as long
BYTES = 2**24  # that it may print
FINGERPRINTS = {
    1: "cff4885196c3e8e3b1058359ab49924d891040259429e21160224e43e5917264",
    100: "b00fc7558dade97bc173aadd7c73276e52148bdb0c44bb116c21efe0f4c64e61",
}


class NoAnswerError(Exception):
    """The program gave no answer, for the reason in the text."""


def write_task(function, cases):
    """Return a task as JSON, whose floats are exact."""
    return json.dumps({"function": function, "cases": cases}, default=lambda array: array.tolist())


def run(command, task, seconds):
    """Return what a program answers; NoAnswerError if it hangs, prints too much, dies, or prints no JSON."""
    with contextlib.ExitStack() as stack:
        given, out, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(task.encode())
        given.seek(0)
        streams = {"stdin": given, "stdout": out, "stderr": errors}
        try:
            process = subprocess.Popen(command, **streams, start_new_session=True)
        except OSError as error:
            raise NoAnswerError(f"{command[0]} cannot be run: {error.strerror}") from None
        stack.callback(stop, process)
        wait(process, (out, errors), seconds)
        for file in (out, errors):
            file.seek(0)
        printed, messages = (file.read().decode(errors="replace") for file in (out, errors))
    if process.returncode:
        raise NoAnswerError(f"the program ended with exit code {process.returncode}: {last_error(messages)}")
    try:
        return json.loads(printed, parse_int=float)
    except (ValueError, RecursionError):
        raise NoAnswerError(f"standard output is not one JSON text, but {shorten(printed)}") from None


def wait(process, files, seconds):
    """Wait for the end of a program; NoAnswerError if it takes too long or prints too much."""
    end, ended = time.monotonic() + seconds, False
    while not ended:
        if time.monotonic() > end:
            raise NoAnswerError(f"the program did not end in {seconds} s")
        time.sleep(0.01)
        ended = process.poll() is not None
        if max(os.fstat(file.fileno()).st_size for file in files) > BYTES:
            raise NoAnswerError(f"the program printed more than {BYTES >> 20} MB")


def stop(process):
    """End a program, and what it started, unless it has ended."""
    if process.returncode is None and os.name == "nt":
        subprocess.run(f"taskkill /F /T /PID {process.pid}", capture_output=True, check=False)
    elif process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_error(messages):
    """Return the last line that begins with the name of an error, or else the last line."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()] or ["no message"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return shorten((named or lines)[-1])


def shorten(text):
    text = " ".join(text[:200].split())
    return (text if len(text) <= 100 else f"{text[:97]}...") or "nothing"


def difference(answer, right, place):
    """Return the first place where bits differ, with both values, or None."""
    if isinstance(right, float | str):
        is_same = answer == right and str(answer) == str(right)  # which tells -0.0 from 0.0
        return None if is_same else f"{place} is {kind(answer)}, not {kind(right)}"
    if isinstance(right, dict):
        if not (isinstance(answer, dict) and answer.keys() >= right.keys()):
            return f"{place} is {kind(answer)}, not an object with {', '.join(right)}"
        pairs = [(answer[name], right[name], f"{place} {name}") for name in right]
    elif isinstance(answer, list) and len(answer) == len(right):
        pairs = [(a, r, f"{place}[{i}]") for i, (a, r) in enumerate(zip(answer, right, strict=True))]
    else:
        return f"{place} is {kind(answer)}, not a list of {len(right)}"
    return next(filter(None, (difference(*pair) for pair in pairs)), None)


def kind(answer):
    is_list = isinstance(answer, list)
    return f"a list of {len(answer)}" if is_list else shorten(json.dumps(answer)).removesuffix(".0")


def judge(function, cases, answers):
    """Return what is wrong, with its usual cause if a known mistake has the bits of all wrong results."""
    right = solve(function, cases)
    if not (place := difference(answers, right, "case")):
        return None

    def unlike(answers, known):
        parts = {name: [{name: results[name]} for results in known] for name in known[0]}
        return {name for name, part in parts.items() if difference(answers, part, "")}

    missed, known = unlike(answers, right), {}
    for cause, edits in MISTAKES[function].items():
        with contextlib.suppress(ValueError):  # of shapes
            mistaken = solve(function, cases, edits)
            if not missed & unlike(answers, mistaken):
                known[cause] = len(unlike(mistaken, right))
    same = [cause for cause, count in known.items() if count == min(known.values())]
    return f"{place}; the usual cause: {' or '.join(same)}" if same else place


def check(number, command, seed, *, on_mnist):
    """Return what is wrong with an exercise, or None."""
    function = FUNCTIONS[number - 1]
    asked, answers = [], []
    for cases in filter(None, (made_cases(function, seed), published_cases(function))):
        results = run(command, write_task(function, cases), SECONDS)
        if not isinstance(results, list):
            return f"the answer is {kind(results)}, not a list of {len(cases)} results"
        if len(results) != len(cases):
            return f"the answer has {len(results)} result{'s'[len(results) == 1 :]}, not {len(cases)}"
        asked, answers = asked + cases, answers + results
        if trouble := judge(function, asked, answers):
            return trouble
    if function != "train" or not on_mnist:
        return None
    print("small cases right, now MNIST", file=sys.stderr, flush=True)
    for epochs, right in FINGERPRINTS.items():
        answers = run(command, write_task("mnist", [mnist_case(epochs)]), 10 * SECONDS)
        if trouble := difference(answers, [{"fingerprint": right}], f"MNIST, epoch {epochs}, case"):
            return trouble
    return None


def main(words):
    """Check what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("exercise", nargs="?", type=int, choices=range(1, 11), metavar="N", help="1 to 10")
    parser.add_argument("--all", action="store_true", help="all ten, without the 100 epochs of the sixth")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    end = words.index("--") if "--" in words else len(words)
    options, command = parser.parse_args(words[:end]), words[end + 1 :]
    if options.all == (options.exercise is not None) or (options.all and not command) or options.seed < 0:
        parser.error("name an exercise, or --all and a command; a seed is not negative")
    if not command:
        function = FUNCTIONS[options.exercise - 1]
        print(write_task(function, made_cases(function, options.seed) + published_cases(function)))
        return 0
    codes = []
    for number in range(1, 11) if options.all else [options.exercise]:
        try:
            trouble, code = check(number, command, options.seed, on_mnist=not options.all), 1
        except NoAnswerError as error:
            trouble, code = str(error), 2
        codes.append(code if trouble else 0)
        print(f"exercise {number}: {trouble or 'right'}", flush=True)
    if options.all:
        print(f"{codes.count(0)} of 10 are right")
    return max(codes)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # of what reads the task
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
