"""Processes that scripts/gpu_check.py starts, each with a limit to its time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from threading import Timer
from typing import IO, Any

from shared import ROOT, last_line, python_path

WORK = ("-m", "gpu.work")
GRACE = 15.0
"""Seconds from an interrupt to the end by force."""


def work(words: list[str], seconds: float, on_result: Callable[[dict[str, Any]], object]) -> str | None:
    """Run work.py, hand on what it finds, and return what kept it from finding everything."""
    problems: list[str] = []

    def line(text: str) -> None:
        try:
            answer = json.loads(text)
        except ValueError:  # the end of a process that was stopped while it wrote
            return
        if "error" in answer:
            problems.append(answer["error"])
        else:
            on_result(answer)

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        ending = run([*WORK, *words], seconds, line, errors)
        errors.seek(0)
        last = last_line([*errors])
    if ending is not None and ending.startswith("stopped"):
        problems.append(ending)
    elif ending is not None and not problems:
        problems.append(f"{ending}: {last}")
    return "; ".join(problems) or None


def command(words: list[str], seconds: float, **variables: str) -> dict[str, Any]:
    """Run a command, showing its output, and return how it ended and its last 100 lines."""
    lines: list[str] = []

    def line(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    ending = run(words, seconds, line, subprocess.STDOUT, variables)
    last = last_line(lines)
    problem = None if ending is None else f"{ending}: {last}"
    return {"problem": problem, "last_line": last, "output": "\n".join(lines[-100:])}


def run(
    words: list[str],
    seconds: float,
    line: Callable[[str], None],
    errors: int | IO[str],
    variables: dict[str, str] | None = None,
) -> str | None:
    """Run this Python in the checkout and hand on each line of output; return how it ended if not well."""
    stopped = False
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        # JAX would take most of the GPU's memory at once, from the processes beside it.
        env={
            **os.environ,
            "PYTHONPATH": python_path(),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **(variables or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        process_group=0,  # with the processes that it starts
    ) as process:

        def stop() -> None:
            nonlocal stopped
            stopped = True
            _signal(process, signal.SIGINT)

        timers = [Timer(seconds, stop), Timer(seconds + GRACE, partial(_signal, process, signal.SIGKILL))]
        for timer in timers:
            timer.start()
        try:
            for text in process.stdout or ():
                line(text.rstrip("\n"))
            process.wait()
        finally:
            for timer in timers:
                timer.cancel()
            _signal(process, signal.SIGKILL)
    if stopped:
        return f"stopped after {seconds:.0f} s"
    if process.returncode < 0:
        return f"ended by signal {-process.returncode}"
    return f"ended with code {process.returncode}" if process.returncode else None


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
