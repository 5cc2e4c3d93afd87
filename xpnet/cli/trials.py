"""Several trainings of ``xpnet train``, one for each seed or learning rate, and their summary."""

import _thread
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any, NamedTuple

from xpnet._lib.files import save
from xpnet._lib.interrupts import TERMINATION, defer_interrupts
from xpnet._lib.machine import available_cpus
from xpnet._lib.text import plain, print_errors
from xpnet._typing import Values
from xpnet.cli.guard import BAD_INPUT, INTERRUPTED, UNEXPECTED, report_error
from xpnet.cli.train import train_run
from xpnet.config import TrainConfig, from_json, to_json
from xpnet.distributed.launch import LOCAL_RANKS
from xpnet.errors import ConfigError, DivergedError
from xpnet.storage.record import SUMMARY_FILE, read_run, replace_nonfinite
from xpnet.storage.run import make_run_id
from xpnet.storage.summary import get_score_name, make_entry, make_summary
from xpnet.training.score import SCORE_NAMES, resolve_best_by
from xpnet.training.terminal import make_console, style_text

MODULE = "xpnet.cli.trials"
"""The module that the process of a trial runs."""


class Trial(NamedTuple):
    """The settings of a training, and the arguments of `xpnet.cli.train.train_run`."""

    config: TrainConfig
    command: list[str]
    jobs: int
    advise: bool


def run_trials(config: TrainConfig, command: list[str], *, advise: bool) -> int:
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
        raise ConfigError(f"{folder}: exists already: choose another --name, or add --overwrite")
    jobs = min(available_cpus() if config.jobs == "auto" else config.jobs, len(configs))
    trials = [Trial(each, command, jobs, advise and each is configs[0]) for each in configs]
    codes = [*filter(None, (_run_in_turn if jobs == 1 else _run_side_by_side)(trials))]
    if codes:
        return INTERRUPTED if INTERRUPTED in codes else codes[0]
    entries = [make_entry(read_run(folder / str(each.name))) for each in configs]
    summary = make_summary("learning rates" if len(rates) > 1 else "seeds", entries)
    text = json.dumps(replace_nonfinite(summary), indent=1, allow_nan=False)
    save(folder / SUMMARY_FILE, f"{text}\n".encode(), is_named=False)
    lines = _format_summary(summary, resolve_best_by(config, None))
    make_console(quiet=config.quiet).print(*lines, f"summary       {plain(folder / SUMMARY_FILE)}", sep="\n")
    return 0


def run_trial(trial: Trial) -> int:
    """Train. Print the error if that fails, and return the exit code."""
    config = trial.config
    make_console(quiet=config.quiet).print("==", str(config.name).replace("-", " ", 1))
    try:
        result = train_run(config, trial.command, advise=trial.advise, jobs=trial.jobs)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the other trials go on
        return report_error(error, debug=config.debug, source=f"{config.name}: ")
    return INTERRUPTED if result.interrupted else 0


def _run_in_turn(trials: Sequence[Trial]) -> Iterator[int]:
    """Yield the exit codes of trials in this process."""
    for trial in trials:
        yield (code := run_trial(trial))
        if code in (INTERRUPTED, BAD_INPUT):
            break


def _run_side_by_side(trials: Sequence[Trial]) -> Iterator[int]:
    """Yield the exit codes of trials in processes, as many at a time as there are jobs. Print the outputs."""
    console, processes = make_console(quiet=trials[0].config.quiet), TrialProcesses(trials[0].jobs)

    def interrupt() -> None:
        processes.interrupt()
        console.print("stopping each training after its step; Ctrl-C again stops at once")

    executor = ThreadPoolExecutor(trials[0].jobs)
    with defer_interrupts(interrupt) as is_pressed:
        try:
            for code, output, errors in executor.map(processes.run, trials):
                for line in output.splitlines():
                    console.print(style_text(line))
                print_errors(errors)
                yield code
                if code == BAD_INPUT:
                    break
        finally:
            processes.interrupt()
            executor.shutdown(wait=not isinstance(sys.exception(), KeyboardInterrupt))
    if is_pressed():
        yield INTERRUPTED


class TrialProcesses:
    """Trials in processes of their own, which end with this one.

    The signals of a terminal and of a batch system do not reach them: `interrupt` replaces these.
    """

    _are_over = False

    def __init__(self, jobs: int) -> None:
        self._numbers = [*range(jobs)]
        self._inputs = list[Any]()

    def run(self, trial: Trial) -> tuple[int, str, str]:
        """Return the exit code and the output of a trial in a new process, which takes a GPU of its own.

        The output is what it has printed on standard output and on standard error.

        The process inherits the signals that this blocks in the calling thread.
        """
        if self._are_over:
            return INTERRUPTED, "", ""
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *TERMINATION})
        number, arguments = self._numbers.pop(), json.dumps([to_json(trial.config), *trial[1:]])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), LOCAL_RANKS[0]: str(number)}
        env |= {"FORCE_COLOR": "", "TTY_COMPATIBLE": "0", "PYTHONIOENCODING": "utf-8"}  # no progress bars
        words, pipes = [sys.executable, "-P", "-m", MODULE, arguments], ("stdin", "stdout", "stderr")
        options: Any = {**dict.fromkeys(pipes, PIPE), "bufsize": 0, "env": env, "start_new_session": True}
        process: Any
        try:
            with Popen(words, **options) as process, process.stdin as stream:  # noqa: S603 - a constant command
                process.stdin = None  # which `communicate` would close at once
                self._inputs.append(stream)
                if self._are_over:  # asked only now: what `interrupt` sends from here on reaches the process
                    stream.close()
                output, errors = (text.decode(errors="replace") for text in process.communicate())
            code = INTERRUPTED if self._are_over and process.returncode else process.returncode
            problem = f"its process ended without a result, with exit code {code}"
        except OSError as error:
            code, problem = -1, str(error)
        self._numbers.append(number)
        if 0 <= code <= DivergedError.exit_code or code == INTERRUPTED:
            return code, output, errors
        return UNEXPECTED, "", f"xpnet: {trial.config.name}: {problem}\n"

    def interrupt(self) -> None:
        """Interrupt the trials as Ctrl-C does. No other begins; the second time, the processes end.

        Takes no lock, so that a handler of SIGINT may call it.
        """
        self._are_over = True
        for stream in self._inputs:
            with suppress(OSError, ValueError):  # the process has ended
                stream.write(b"\n")


def main() -> None:
    """Run the trial that the last argument holds. Exit with its code."""
    code = INTERRUPTED
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
        Thread(target=_obey, daemon=True).start()
        settings, *others = json.loads(sys.argv[-1])
        code = run_trial(Trial(from_json(settings, MODULE), *others))
    sys.exit(code)


def _obey() -> None:
    """Interrupt the training at a byte of standard input. End the process at another, or at the end of it."""
    if os.read(0, 1):
        _thread.interrupt_main()
        os.read(0, 1)
    os._exit(1)


def _format_summary(summary: Values, best_by: str) -> Iterator[str]:
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
