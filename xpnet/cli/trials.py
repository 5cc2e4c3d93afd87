"""Several trainings of ``xpnet train``, one for each seed or learning rate, and their summary."""

import _thread
import io
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any, NamedTuple, cast

from xpnet._lib.files import save
from xpnet._lib.interrupts import TERMINATION, defer_interrupts
from xpnet._lib.machine import available_cpus
from xpnet._lib.text import plain, print_errors
from xpnet.backends.resolve import share_gpu_memory
from xpnet.cli.guard import BAD_INPUT, INTERRUPTED, UNEXPECTED, report_error
from xpnet.cli.train import train
from xpnet.config import TrainConfig, from_json, to_json
from xpnet.distributed.launch import LOCAL_RANKS
from xpnet.errors import ConfigError
from xpnet.storage.record import SUMMARY_FILE, replace_nonfinite
from xpnet.storage.run import Run, make_run_id
from xpnet.storage.summary import get_score_name, make_entry, make_summary
from xpnet.training.score import SCORE_NAMES, resolve_best_by
from xpnet.training.terminal import make_console, style_text

MODULE = "xpnet.cli.trials"
"""The module that the process of a trial runs."""


class Trial(NamedTuple):
    """The settings of a training, and the arguments of `xpnet.cli.train.train`."""

    config: TrainConfig
    command: list[str]
    jobs: int
    advise: bool


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
    all have in common.

    Raises
    ------
    ConfigError
        The folder exists already.
    """
    folder = config.out / (config.name or make_run_id())
    common, rates = replace(config, out=folder, repeats=1, jobs=1, name="trial"), config.learning_rates
    if len(rates) > 1:
        configs = [replace(common, learning_rate=rate, name=f"lr-{rate!r}") for rate in rates]
    else:
        configs = [replace(common, seed=seed, name=f"seed-{seed}") for seed in config.seeds]
    if folder.exists() and not config.overwrite:
        raise ConfigError.at(folder, "exists already: choose another --name, or add --overwrite")
    jobs = min(available_cpus() if config.jobs == "auto" else config.jobs, len(configs))
    trials = [Trial(each, command, jobs, advise and each is configs[0]) for each in configs]
    outcomes = _run_in_turn(trials) if jobs == 1 else _run_side_by_side(trials)
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
    entry = make_entry(cast("Run", run).record)  # of a process that is no rank of an MPI job
    return Outcome(INTERRUPTED if result.interrupted else 0, entry)


def _run_in_turn(trials: Sequence[Trial]) -> list[Outcome]:
    """Run the trials in this process."""
    outcomes: list[Outcome] = []
    for trial in trials:
        outcomes.append(run_trial(trial))
        if outcomes[-1].code in (INTERRUPTED, BAD_INPUT):
            break
    return outcomes


def _run_side_by_side(trials: Sequence[Trial]) -> list[Outcome]:
    """Run each trial in a process, as many at a time as there are jobs. Print their outputs in order."""
    console, processes = make_console(quiet=trials[0].config.quiet), TrialProcesses()
    outcomes, numbers = list[Outcome](), deque(range(trials[0].jobs))

    def run(trial: Trial) -> Outcome:
        number = numbers.popleft()
        outcome = Outcome(INTERRUPTED) if processes.are_over else processes.run(trial, number)
        if outcome.code == INTERRUPTED:
            processes.are_over = True
        numbers.append(number)
        return outcome

    def interrupt() -> None:
        processes.interrupt()
        console.print("stopping each training after its step; Ctrl-C again stops at once")

    executor = ThreadPoolExecutor(trials[0].jobs)
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
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), LOCAL_RANKS[0]: str(number)}
        env |= {"FORCE_COLOR": "", "TTY_COMPATIBLE": "0"}  # without progress bars
        words = [sys.executable, "-P", "-m", MODULE]
        process: Any
        try:
            with Popen(words, bufsize=0, stdin=PIPE, stdout=PIPE, env=env, start_new_session=True) as process:  # noqa: S603 - a constant command
                process.stdin.write(f"{json.dumps([to_json(trial.config), *trial[1:]])}\n".encode())
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


def main() -> None:
    """Run the trial that a line of standard input holds. Write its outcome to standard output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer, suppress(KeyboardInterrupt):
        os.dup2(2, 1)  # what the libraries print goes to standard error
        line = io.FileIO(0, closefd=False).readline()  # and not a byte more
        Thread(target=_obey, daemon=True).start()
        share_gpu_memory()
        settings, *others = json.loads(line)
        trial = Trial(from_json(settings, MODULE), *others)
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
