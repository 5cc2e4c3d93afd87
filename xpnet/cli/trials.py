"""Several trainings of ``xpnet train``, one for each seed or learning rate, and their summary."""

import _thread
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from queue import SimpleQueue
from subprocess import PIPE, Popen
from threading import Lock, Thread
from typing import Any, NamedTuple, Self, cast

from xpnet._lib.files import save
from xpnet._lib.interrupts import TERMINATION, defer_interrupts
from xpnet._lib.machine import available_cpus
from xpnet._lib.text import plain, print_errors
from xpnet.backends.resolve import share_gpu_memory
from xpnet.cli.guard import BAD_INPUT, INTERRUPTED, UNEXPECTED, report_error
from xpnet.cli.train import train
from xpnet.config import TrainConfig, from_json, to_json
from xpnet.distributed.launch import LOCAL_RANKS, VARIABLES
from xpnet.distributed.ranks import Ranks, connect, count_sharing
from xpnet.errors import ConfigError
from xpnet.storage.record import SUMMARY_FILE, replace_nonfinite
from xpnet.storage.run import Run, make_run_id
from xpnet.storage.summary import get_score_name, make_entry, make_summary
from xpnet.training.score import SCORE_NAMES, resolve_best_by
from xpnet.training.terminal import make_console, style_text

MODULE = "xpnet.cli.trials"
"""The module that the process of a trial runs."""
POLLING_SECONDS = 0.05
"""Seconds from one look for messages of other ranks to the next."""


class Trial(NamedTuple):
    """The settings of a training, and the arguments of `xpnet.cli.train.train`."""

    config: TrainConfig
    command: list[str]
    jobs: int
    advise: bool

    def to_line(self) -> bytes:
        """Return the trial as a line of JSON."""
        return f"{json.dumps([to_json(self.config), *self[1:]])}\n".encode()

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return the trial of a line."""
        settings, *others = json.loads(line)
        return cls(from_json(settings, MODULE), *others)


class Outcome(NamedTuple):
    """The exit code of a trial, its entry in summary.json, and its output if that was captured."""

    code: int
    entry: dict[str, Any] | None = None
    output: str = ""
    errors: str = ""


def run_trials(config: TrainConfig, command: list[str], *, advise: bool = False) -> int:
    """Train once for each seed or learning rate, and print a summary. Return the exit code.

    The runs are subfolders of ``out/name``, which also receives a summary.json if all are completed. The
    others go on after a failed one, whose exit code is returned, but not after Ctrl-C or bad input, which
    all have in common. In an MPI job each rank takes the next training once it has ended one.

    Raises
    ------
    ConfigError
        The folder exists already, or ``jobs`` are set in an MPI job.
    """
    ranks, folder = connect(), config.out / (config.name or make_run_id())
    common, rates = replace(config, out=folder, repeats=1, jobs=1, name="trial"), config.learning_rates
    if len(rates) > 1:
        configs = [replace(common, learning_rate=rate, name=f"lr-{rate!r}") for rate in rates]
    else:
        configs = [replace(common, seed=seed, name=f"seed-{seed}") for seed in config.seeds]
    with ranks.agreement():
        if ranks.size > 1 and config.jobs != 1:
            raise ConfigError.at("--jobs", "the ranks of an MPI job train side by side: leave it out")
        if ranks.rank == 0 and folder.exists() and not config.overwrite:
            raise ConfigError.at(folder, "exists already: choose another --name, or add --overwrite")
    jobs = available_cpus() if config.jobs == "auto" else config.jobs
    jobs = min(jobs * max(count_sharing(ranks)), len(configs))
    trials = [Trial(each, command, jobs, advise and each is configs[0]) for each in configs]
    if ranks.rank > 0:
        return _serve_first_rank(ranks)
    outcomes = _run_in_turn(trials) if ranks.size == jobs == 1 else _run_side_by_side(trials, ranks)
    codes = [outcome.code for outcome in outcomes if outcome.code]
    if codes:
        return INTERRUPTED if INTERRUPTED in codes else codes[0]
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    summary = make_summary("learning rates" if len(rates) > 1 else "seeds", entries)
    text = json.dumps(replace_nonfinite(summary), indent=1, allow_nan=False)
    save(folder / SUMMARY_FILE, f"{text}\n".encode(), is_named=False)
    lines = _format_summary(summary, resolve_best_by(config, None))
    make_console(quiet=config.quiet).print(*lines, f"summary       {plain(folder / SUMMARY_FILE)}", sep="\n")
    return 0


def run_trial(trial: Trial) -> Outcome:
    """Train. Print the error if that fails."""
    config = trial.config
    make_console(quiet=config.quiet).print("==", str(config.name).replace("-", " ", 1))
    try:
        result, run = train(config, trial.command, advise=trial.advise, jobs=trial.jobs)
    except KeyboardInterrupt:
        return Outcome(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the other trials go on
        return Outcome(report_error(error, debug=config.debug, source=f"{config.name}: "))
    entry = make_entry(cast("Run", run).record)  # of a process that is no rank of a job
    return Outcome(INTERRUPTED if result.interrupted else 0, entry)


def _run_in_turn(trials: Sequence[Trial]) -> list[Outcome]:
    """Run the trials in this process."""
    outcomes: list[Outcome] = []
    for trial in trials:
        outcomes.append(run_trial(trial))
        if outcomes[-1].code in (INTERRUPTED, BAD_INPUT):
            break
    return outcomes


def _run_side_by_side(trials: Sequence[Trial], ranks: Ranks) -> list[Outcome]:
    """Run each trial in the next free process, or on the next free rank. Print their outputs in order."""
    console, processes = make_console(quiet=trials[0].config.quiet), TrialProcesses()
    outcomes, lock, free = list[Outcome](), Lock(), SimpleQueue[Callable[[Trial], Outcome]]()
    for number in range(trials[0].jobs if ranks.size == 1 else 1):
        free.put(partial(processes.run, number=number))
    for rank in range(1, ranks.size):
        free.put(partial(_run_on_rank, ranks.comm, rank, lock))

    def run(trial: Trial) -> Outcome:
        worker = free.get()
        outcome = Outcome(INTERRUPTED) if processes.are_over else worker(trial)
        if outcome.code == INTERRUPTED:
            processes.are_over = True
        free.put(worker)
        return outcome

    def interrupt() -> None:
        processes.interrupt()
        console.print("stopping each training after its step; Ctrl-C again stops at once")

    executor = ThreadPoolExecutor(free.qsize())
    with defer_interrupts(interrupt) as is_pressed:
        try:
            for outcome in executor.map(run, trials):
                outcomes.append(outcome)
                for line in outcome.output.splitlines():
                    console.print(style_text(line))
                print_errors(outcome.errors)
                if outcome.code == BAD_INPUT:
                    break
        finally:
            processes.interrupt()
            executor.shutdown(wait=not isinstance(sys.exception(), KeyboardInterrupt))
    for rank in range(1, ranks.size):
        ranks.comm.Send(b"", rank)
    return [*outcomes, Outcome(INTERRUPTED)] if is_pressed() else outcomes


class TrialProcesses:
    """Trials in processes of their own, which end with this one.

    The signals of a terminal and of a batch system do not reach them: `interrupt` replaces these.

    Attributes
    ----------
    are_over
        True if no further trial is to begin.
    """

    def __init__(self) -> None:
        self.are_over, self._inputs = False, list[Any]()

    def run(self, trial: Trial, number: int) -> Outcome:
        """Return the outcome of a trial in a new process, which takes the GPU of this number.

        The process inherits the signals that this blocks in the calling thread.
        """
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *TERMINATION})
        hidden = {"FORCE_COLOR", "TTY_COMPATIBLE", *chain(*VARIABLES)}  # no progress bars, and no MPI job
        env = {name: value for name, value in os.environ.items() if name not in hidden}
        env |= {"PYTHONPATH": os.pathsep.join(sys.path), LOCAL_RANKS[0]: str(number)}
        words = [sys.executable, "-P", "-m", MODULE]
        process: Any
        try:
            with Popen(words, bufsize=0, stdin=PIPE, stdout=PIPE, env=env, start_new_session=True) as process:  # noqa: S603 - a constant command
                process.stdin.write(trial.to_line())
                self._inputs.append(process.stdin)
                if self.are_over:  # asked only now: what `interrupt` sends from here on reaches the process
                    process.stdin.close()
                answer = process.stdout.read()
            if answer:
                return Outcome(*json.loads(answer))
            reason = f"its process ended without a result, with exit code {process.returncode}"
        except OSError as error:
            reason = str(error)
        if self.are_over:
            return Outcome(INTERRUPTED)
        return Outcome(UNEXPECTED, errors=f"xpnet: {trial.config.name}: {reason}\n")

    def interrupt(self) -> None:
        """Interrupt the trials as Ctrl-C does. No other begins; the second time, the processes end.

        Takes no lock, so that a handler of SIGINT may call it.
        """
        self.are_over = True
        for stream in self._inputs:
            with suppress(OSError, ValueError):  # the process has ended
                stream.write(b"\n")


def _run_on_rank(comm: Any, rank: int, lock: Lock, trial: Trial) -> Outcome:
    """Return the outcome of a trial on another rank.

    The lock is for MPI libraries that allow one call at a time.
    """
    with lock:
        comm.Send(trial.to_line(), rank)
    return Outcome(*json.loads(_receive(comm, rank, lock)))


def _serve_first_rank(ranks: Ranks) -> int:
    """Run the trials that rank 0 sends, until there are no more. Return the exit code."""
    processes, executor = TrialProcesses(), ThreadPoolExecutor(1)
    with defer_interrupts(processes.interrupt) as is_pressed:
        while line := _receive(ranks.comm, 0, Lock()):
            outcome = Outcome(INTERRUPTED)
            if not is_pressed():
                outcome = executor.submit(processes.run, Trial.from_line(line), ranks.local_rank).result()
            ranks.comm.Send(json.dumps(outcome).encode(), 0)
        return INTERRUPTED if is_pressed() else 0


def _receive(comm: Any, rank: int, lock: Lock) -> bytes:
    """Return the next message of a rank. Unlike MPI's own wait, this takes no processor time."""
    from mpi4py import MPI

    status = MPI.Status()
    while True:
        with lock:
            if comm.Iprobe(rank, status=status):
                text = bytearray(status.Get_count())
                comm.Recv(text, rank)
                return bytes(text)
        time.sleep(POLLING_SECONDS)


def main() -> None:
    """Run the trial that a line of standard input holds. Write its outcome to standard output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer, suppress(KeyboardInterrupt):
        os.dup2(2, 1)  # what the libraries print goes to standard error
        line = io.FileIO(0, closefd=False).readline()  # and not a byte more
        Thread(target=_obey, daemon=True).start()
        share_gpu_memory()
        trial = Trial.from_line(line)
        with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
            outcome = run_trial(trial)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        json.dump(outcome._replace(output=output.getvalue(), errors=errors.getvalue()), answer)


def _obey() -> None:
    """Interrupt the training at a byte of standard input. End the process at another, or at the end of it."""
    if os.read(0, 1):
        _thread.interrupt_main()
        os.read(0, 1)
    os._exit(1)


def _format_summary(summary: Mapping[str, Any], best_by: str) -> Iterator[str]:
    """Yield the lines to print of a summary."""
    if best := summary.get("best"):
        score, test = (best["metrics"][name] for name in (get_score_name(best), "test_accuracy"))
        yield f"best          {best['run']}: {SCORE_NAMES[best_by]} {score:.4f}, test {test:.4f}"
        return
    yield "== all seeds, mean ± standard deviation"
    for name, figure in summary["figures"].items():
        if name.endswith(("accuracy", "score")):
            yield f"{name.replace('_', ' '):<20}{figure['mean']:.4f} ± {figure['standard_deviation']:.4f}"


if __name__ == "__main__":
    main()
