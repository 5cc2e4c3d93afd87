"""Run xpnet on an NVIDIA GPU in stages, and write what is found to docs/evidence/cuda-CARD.md and .json.

  versions   driver, CUDA, cuBLAS, NVRTC, libraries, and the state of the card
  first      CuPy's fingerprints of 1 and 10 epochs, which must be those of docs/reproducibility.md
  parity     10 epochs in each arithmetic and dtype, compared with NumPy as `xpnet parity` does
  streams    predictions in two threads with a stream each
  compile    the first training, which compiles, and the same again
  steps      the time of a step on host and card, and peak memory, beside hand-written ones, in turn
  products   rates of products of matrices
  counts     what docs/devices.md says that a step asks of a GPU, beside its time
  libraries  PyTorch's and JAX's fingerprints of 10 epochs
  settings   fingerprints of Adam, dropout and batch norm, which must be those of NumPy
  epochs     fingerprints of 100 epochs, on other GPUs too
  others     the time of a step of xpnet on PyTorch and JAX
  suite      the tests that have a case on the GPU; only if it is named

Each case runs in a process of its own, with a limit; its rows are printed and written when they are known, so
that a check may be stopped at any moment. What was not done is listed; rows of stages that do not run stay.
All that a process prints is in the folder cuda-CARD. ``benchmark.py --gpu FILE.json`` writes docs/devices.md.

Exit codes: 0 all agree; 1 a case fails; 2 no library can use a GPU, a package is missing, or nothing can be
written; 130 interrupted.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from checkout import ROOT, need
from shared import make_folder, markdown, python_path

STAGES = """versions 0.5, first 1, parity 1, streams 0.5, compile 0.5, steps 4, products 0.5, counts 0.5,
    libraries 1, settings 1, epochs 3, others 2, suite 8"""
MINUTES = {name: float(minutes) for name, minutes in map(str.split, STAGES.split(","))}
"""The most that each stage takes."""
WHOLE, XPNETS = "XPNET_WHOLE_BATCHES", ("reproducible:cupy", "native:cupy")
CONTENDERS = {
    "cupy": (*(f"xpnet:{each}" for each in XPNETS), *(f"xpnet:{each}:{WHOLE}" for each in XPNETS), "cupy"),
    "torch": ("torch", "torch-graph", "torch-compile"),
    "jax": ("jax",),
}
OTHERS = {name: (f"xpnet:reproducible:{name}", f"xpnet:native:{name}") for name in ("torch", "jax")}
FIRST, PLUGIN, CARD = "cuda:0", "xpnet.parity.plugin", "state of the card"
LIMIT, RUNS, LEAST = 60.0, 3, 1.0
"""Seconds that a contender may take to answer, its runs, and seconds in which nothing begins."""
STATE = "clocks.sm,clocks.mem,utilization.gpu,ecc.mode.current,ecc.errors.uncorrected.volatile.total"
PLATFORMS = ["manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28))]
BRING = "python scripts/gpu_check.py --bundle FOLDER elsewhere, pip install --no-index --find-links FOLDER"
TIMES = {"µs": "seconds", "host µs": "host"}
NOT_SHOWN = {"seconds", "host", "mebibytes"}
Case = tuple[str, str, Callable[[], object]]
"""Stage, title and work."""


def main(argv: list[str] | None = None) -> int:
    """Run the stages and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, several = parser.add_argument, {"nargs": "+", "metavar": "NAME"}
    add("--only", **several, choices=MINUTES, default=[*MINUTES][:-1], help="stages (default: all but suite)")
    add("--library", **several, choices=CONTENDERS, help=f"of {', '.join(CONTENDERS)} (default: all)")
    add("--cases", nargs="+", default=[""], metavar="WORD", help="those whose title has one of these words")
    add("--minutes", type=float, default=9.0, help="the most that all take (default: 9)")
    add("--out", type=Path, default=ROOT / "docs/evidence", help="folder of the page and the figures")
    add("--quick", action="store_true", help="a smoke run: few rows, everything once")
    add("--emulated", action="store_true", help="on the emulated device, with CuPy")
    what = "the wheels, of Python 3.12 on Linux x86-64, for a machine without a package index"
    add("--bundle", type=Path, metavar="FOLDER", help=f"download {what}; CuPy's with --library cupy")
    options = parser.parse_args(argv)
    if options.bundle is not None:
        return bundle(options.bundle, "cuda12" if options.library and "cupy" in options.library else None)
    need("array_api_compat", fix=f"{BRING} array-api-compat")
    from xpnet._lib.extras import TRAIN
    from xpnet.errors import XPNetError

    need(*TRAIN, fix=f"{BRING} {' '.join(TRAIN).lower().replace('pil', 'pillow')}")
    try:
        with tempfile.TemporaryDirectory() as runs:
            return Check(options, runs).run()
    except XPNetError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2


def bundle(folder: Path, extra: str | None) -> int:
    """Download the wheels that a check needs, install from them alone, elsewhere; return the exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {**project["optional-dependencies"], None: []}
    wheels = [*project["dependencies"], *extras["train"], *extras[extra]]
    common = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--quiet"]
    common += [f"--platform={name}" for name in PLATFORMS]
    with tempfile.TemporaryDirectory() as target:
        install = ["install", "--no-index", f"--find-links={folder}", f"--target={target}"]
        install += ["--ignore-requires-python"]  # which pip takes for that of the Python that runs
        for words in (["download", f"--dest={folder}"], install):
            pip = [sys.executable, "-m", "pip", *words, *common, *wheels]
            if subprocess.run(pip, check=False).returncode:
                return 1
    print(f"pip install --no-index --find-links {folder} {' '.join(map(repr, wheels))}")
    return 0


def ask_card(query: str) -> str:
    """Return what nvidia-smi answers, or why it does not."""
    words = ["nvidia-smi", f"--query-{query}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {error}"
    return answer.stdout.strip().replace("\n", "; ") or "none"


def run_logged(
    words: list[str], log: Path, seconds: float, variables: dict[str, str], show: Callable[[str], object]
) -> str:
    """Run a process, show its lines when they come, and return how it failed, "" if it did not.

    Its output goes to a file: no process that it leaves behind, and that holds it open, is waited for.
    """
    end, text, last, is_over = time.monotonic() + seconds, "", "", False
    with log.open("wb") as output, log.open(encoding="utf-8", errors="replace") as shown:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # with the processes that it starts
        )
        try:
            while not is_over:
                is_over = process.poll() is not None or time.monotonic() >= end
                *lines, text = (text + shown.read()).split("\n")
                for line in [*lines, text] if is_over and text else lines:
                    show(line)
                    last = line.strip() or last
                time.sleep(0.0 if lines or is_over else 0.05)
            if process.poll() is None:
                return f"stopped after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"exit code {process.returncode}: {last}" if process.returncode else ""


class Check:
    """A check of this machine: its cases, and their rows, which are written when they are known."""

    def __init__(self, options: argparse.Namespace, runs: str) -> None:
        self.options, self.runs = options, runs
        self.end = time.monotonic() + 60 * options.minutes
        self.before = ("-m", "xpnet.emulation") if options.emulated else ()
        self.variables = {"PYTHONPATH": python_path(), "COLUMNS": "160", "TORCHINDUCTOR_CACHE_DIR": runs}
        self.variables |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "CUPY_CACHE_DIR": f"{runs}/cupy"}
        libraries = self.describe_libraries()
        self.devices = {each["name"]: each["devices"] for each in libraries if FIRST in each["usable"]}
        card = ask_card("gpu=name,driver_version,memory.total")
        name = "unknown" if "not answer" in card else card.partition(",")[0]
        self.folder = options.out / f"cuda-{'emulated' if options.emulated else to_slug(name)}"
        make_folder(self.folder)
        words = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        date = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit or 'unknown'}"
        self.about = [date, card, *map(describe, libraries)]
        self.rows, self.left, self.processes = list[dict[str, Any]](), list[str](), dict[str, Any]()
        with suppress(OSError, ValueError, KeyError):
            earlier = json.loads(self.folder.with_suffix(".json").read_bytes())["rows"]
            self.rows = [row for row in earlier if row["stage"] not in options.only]

    def describe_libraries(self) -> list[dict[str, Any]]:
        """Return what ``xpnet doctor`` says of the libraries; BackendError if none can use a GPU."""
        from xpnet.errors import BackendError

        words, every = [sys.executable, *self.before, "-m", "xpnet", "doctor", "--json"], list[Any]()
        environment = {**os.environ, **self.variables}
        with suppress(subprocess.TimeoutExpired, ValueError):
            answer = subprocess.run(words, env=environment, stdout=subprocess.PIPE, timeout=120, check=False)
            every = json.loads(answer.stdout)["backends"]
        libraries = [each for each in every if each["name"] in (self.options.library or CONTENDERS)]
        if not any(FIRST in each["usable"] for each in libraries):
            reasons = " | ".join(map(describe, libraries)) or "xpnet doctor does not answer"
            raise BackendError(f"CUDA is not usable here: {reasons}")
        return libraries

    def plan(self) -> Iterator[Case]:
        """Yield all cases, in the order in which they tell most."""
        names = [*self.devices]
        cupy, others = [name for name in names if name == "cupy"], [name for name in names if name != "cupy"]
        tests = {name: name if name == "cupy" else f"{name}:cuda" for name in names}  # as they know them
        yield from (self.own("versions", name) for name in names)
        yield "versions", CARD, partial(self.note_state, "versions")
        yield from (self.train("first", name, FIRST, epochs) for name in cupy for epochs in ("1", "10"))
        yield from (self.train("first", name, FIRST, "10", **{WHOLE: "1"}) for name in cupy)
        yield from (self.own("parity", name) for name in names)
        yield from (self.own(stage, name) for stage in ("streams", "compile") for name in cupy)
        yield from self.steps("steps", CONTENDERS)
        yield "steps", CARD, partial(self.note_state, "steps")
        yield from (self.own("products", name) for name in names)
        yield from (self.own("counts", name) for name in cupy)
        yield from (self.train("libraries", name, FIRST, "10") for name in others)
        yield from (self.own("settings", name) for name in names)
        for name, devices in self.devices.items():
            yield from (self.train("epochs", name, each, "100") for each in devices if each != "cpu")
        yield from self.steps("others", OTHERS)
        suite = ["-m", "pytest", "-q", "-n", "auto", "--maxprocesses", "8", "-m", "cuda", "-p", PLUGIN, "-k"]
        for name, test in tests.items():
            yield self.command("suite", name, [*suite, test], XPNET_REQUIRE_BACKENDS=test)

    def command(self, stage: str, title: str, words: list[str], expected: str = "", **variables: str) -> Case:
        """Return the case of a process that must print a text."""
        return stage, title, partial(self.run_case, stage, title, words, expected, variables)

    def own(self, stage: str, library: str) -> Case:
        """Return the case of a function of ``benchmarks.gpu``."""
        words = ["-m", "benchmarks.gpu", stage, library, FIRST, *["0.01", "256"] * self.options.quick]
        cache = "first" if stage == "compile" else "cupy"
        return self.command(stage, library, words, CUPY_CACHE_DIR=f"{self.runs}/{cache}")

    def train(self, stage: str, library: str, device: str, epochs: str, **variables: str) -> Case:
        """Return the case of the default run."""
        page = (ROOT / "docs/reproducibility.md").read_text(encoding="utf-8")
        golden = dict(re.findall(r"^\| after (\d+) epochs? \| `([0-9a-f]{64})` \|$", page, re.MULTILINE))
        words = ["-m", "xpnet", "train", "--epochs", epochs, "--no-report", "--out", self.runs]
        words += ["--backend", library, "--device", device]
        title = ", ".join([f"{library} on {device}", f"epochs {epochs}", *variables])
        return self.command(stage, title, words, golden[epochs], **variables)

    def steps(self, stage: str, contenders: dict[str, tuple[str, ...]]) -> Iterator[Case]:
        """Yield the cases that time steps."""
        from benchmarks.gpu import TASKS

        from xpnet.arithmetic.blocks import BLOCK_SIZE

        whos = [who for name in self.devices for who in contenders.get(name, ())]
        for task in [replace(TASKS[0], rows=256)] if self.options.quick else TASKS:
            is_stack = task.batch is None or task.batch > BLOCK_SIZE
            several = [who for who in whos if is_stack or WHOLE not in who]
            yield stage, task.title, partial(self.measure, stage, task, several)

    def run(self) -> int:
        """Run all cases, and return the exit code."""
        plan = [(stage, title, work) for stage, title, work in self.plan() if stage in self.options.only]
        plan = [case for case in plan if any(word in f"{case[0]}: {case[1]}" for word in self.options.cases)]
        begun, code = dict[str, float](), 0
        try:
            while plan:
                stage, title, work = plan[0]
                begin = begun.setdefault(stage, time.monotonic())
                self.deadline = min(begin + 60 * MINUTES[stage], self.end)
                if self.seconds_left < LEAST:
                    self.left.append(f"{stage}: {title}")
                else:
                    print(f"== {stage}: {title}", flush=True)
                    work()
                plan.pop(0)
        except KeyboardInterrupt:
            code = 130
        finally:
            self.left += [f"{stage}: {title}" for stage, title, _ in plan]
            for process in self.processes.values():
                process.end()
            self.write()
        failed = any(row["result"].startswith("FAILED") for row in self.rows)
        verdict = "NOT all agree" if failed else "all agree"
        print(*(f"not done: {title}" for title in self.left), verdict, sep="\n")
        return code or int(failed)

    @property
    def seconds_left(self) -> float:
        """The seconds until the stage must end."""
        return self.deadline - time.monotonic()

    def run_case(
        self, stage: str, title: str, words: list[str], expected: str, variables: dict[str, str]
    ) -> None:
        """Run a process, and add its rows."""
        log, printed = self.folder / f"{to_slug(f'{stage} {title}')}.log", list[str]()
        begin, before = time.monotonic(), len(self.rows)

        def show(line: str) -> None:
            printed.append(line)
            with suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)
                self.add(stage, row["part"], title, "agrees", row["took"], row["values"])
                return
            print(line, flush=True)

        variables = {**self.variables, **variables}
        problem = run_logged([*self.before, *words], log, self.seconds_left, variables, show)
        if not problem and expected not in "\n".join(printed):
            problem = f"does not print {expected}"
        if problem or len(self.rows) == before:
            result = f"FAILED: {problem}" if problem else "agrees"
            self.add(stage, "", title, result, time.monotonic() - begin)

    def measure(self, stage: str, task: Any, whos: list[str]) -> None:
        """Time a task of contenders in turn; each fails alone."""
        from benchmarks.runs import ContenderError
        from benchmarks.tasks import CONTENDERS as KNOWN

        quick, begin, row = self.options.quick, time.monotonic(), partial(self.add, stage, task.title)
        requests = [{"task": asdict(task), "target": 0.01 if quick else 0.3}, *[{}] * (1 if quick else RUNS)]
        answers = {who: list[dict[str, float]]() for who in whos}
        try:
            for number, request in enumerate([*requests, {"observe": True}]):
                for who in [*answers][:: 1 - 2 * (number % 2)]:
                    if self.seconds_left < LEAST:
                        break
                    try:
                        answers[who].append(self.ask(who, request))
                    except (ContenderError, OSError) as error:
                        if process := self.processes.pop(who, None):
                            process.end()
                        times = summarize(answers.pop(who))
                        row(KNOWN[who].title, f"FAILED: {error}", time.monotonic() - begin, times)
        finally:  # after Ctrl-C, too
            for who, several in answers.items():
                if times := summarize(several):
                    row(KNOWN[who].title, "measured", time.monotonic() - begin, times)
                else:
                    self.left.append(f"{stage}: {task.title}: {KNOWN[who].title}")

    def ask(self, who: str, request: dict[str, Any]) -> dict[str, float]:
        """Return the answer of a contender, whose process is started if there is none."""
        from benchmarks.runs import Process

        if who not in self.processes:
            with (self.folder / f"{to_slug(who)}.log").open("a") as log:
                variables = {**os.environ, **self.variables}
                self.processes[who] = Process(f"{who}@{FIRST}", variables, *self.before, log=log)
        return self.processes[who].ask(min(LIMIT, self.seconds_left), **request)

    def note_state(self, stage: str) -> None:
        """Add a row of what nvidia-smi tells."""
        processes = ask_card("compute-apps=pid,name,used_memory")
        self.add(stage, "", CARD, "noted", 0.0, {STATE: ask_card(f"gpu={STATE}"), "processes": processes})

    def add(
        self, stage: str, case: str, who: str, result: str, took: float, values: dict[str, Any] | None = None
    ) -> None:
        """Add a row, print it, and write everything."""
        row = {"stage": stage, "case": case, "who": who, "result": result, "seconds": round(took, 1)}
        self.rows.append({**row, "values": values or {}})
        details = ", ".join(f"{key} {shown(value)}" for key, value in (values or {}).items())
        print(f"-- {f'{case}: ' * bool(case)}{who}: {result}, {took:.0f} s {details}".rstrip(), flush=True)
        self.write()

    def write(self) -> None:
        """Write the figures and the page."""
        from xpnet._lib.files import save

        self.rows.sort(key=lambda row: [*MINUTES].index(row["stage"]))
        content = {"about": self.about, "rows": self.rows, "not done": self.left}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        save(self.folder.with_suffix(".json"), f"{text}\n".encode())
        save(self.folder.with_suffix(".md"), "\n".join(self.page()).encode())

    def page(self) -> Iterator[str]:
        """Yield the lines of the page."""
        endings = Counter(row["result"].partition(":")[0] for row in self.rows)
        yield f"# CUDA: {', '.join(f'{count} {ending}' for ending, count in endings.items())}"
        yield from ("", f"`python scripts/gpu_check.py`, {self.about[0]}", "")
        yield from (f"- {line}" for line in self.about[1:])
        for stage in MINUTES:
            rows = [row for row in self.rows if row["stage"] == stage]
            keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
            flat = [{**row["values"], **row, "seconds": round(row["seconds"])} for row in rows]
            names = ["case", "who", "result", "seconds", *keys]
            cells = [[shown(row.get(name, "")) for name in names] for row in flat]
            yield from ("", f"## {stage}", "", markdown(names, cells)) if rows else ()
        yield from ("", "## Not done", "", *(f"- {title}" for title in self.left)) if self.left else ()
        yield ""


def summarize(answers: list[dict[str, float]]) -> dict[str, Any]:
    """Return the median times of a unit in a contender's answers, and what it asks of the card."""
    timed = [answer for answer in answers if "seconds" in answer]
    times = {name: 1e6 * median(x[key] for x in timed) for name, key in TIMES.items() if timed}
    others = {key: value for key, value in (answers or [{}])[-1].items() if key not in NOT_SHOWN}
    return times | others


def describe(library: dict[str, Any]) -> str:
    """Return the devices that a library can use, or why it cannot use the first GPU, and the fix."""
    for trouble in library["troubles"]:
        if trouble["device"] == FIRST:
            return f"{library['name']}: {trouble['reason']}; to fix it: {trouble['fix']}"
    return f"{library['name']} {library['version']} on {', '.join(library['usable'])}"


def to_slug(text: str) -> str:
    """Return a text as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def shown(value: object) -> str:
    """Return a value of a row as text."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the case that runs, too
    sys.exit(main())
