"""Several trainings of ``xpnet train``, one for each seed or learning rate, and their summary."""

import io
import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

from xpnet._lib.files import save
from xpnet._lib.interrupts import defer_interrupts
from xpnet._lib.launch import LOCAL_RANKS
from xpnet._lib.machine import available_cpus
from xpnet._lib.terminal import make_console, style_text
from xpnet._lib.text import plain, print_errors
from xpnet.backends.resolve import share_gpu_memory
from xpnet.cli.guard import BAD_INPUT, INTERRUPTED, UNEXPECTED, report_error
from xpnet.cli.train import train
from xpnet.config import TrainConfig
from xpnet.distributed.launch import connect, count_sharing
from xpnet.distributed.ranks import Ranks
from xpnet.errors import ConfigError
from xpnet.storage.json_files import replace_nonfinite
from xpnet.storage.record import SUMMARY_FILE, is_number
from xpnet.storage.run import Run, make_run_id

Call = partial["Outcome"]
"""A call of ``run_trial``, which can be pickled."""


class Outcome(NamedTuple):
    """The exit code of a trial, its entry in summary.json, and its output if that was captured."""

    code: int
    entry: dict[str, Any] | None = None
    output: str = ""
    errors: str = ""


def run_trials(config: TrainConfig, command: list[str], *, advise: bool = False) -> int:
    """Train once for each seed or learning rate, print a summary, and return the exit code.

    The runs are subfolders of ``out/name``, which also receives a summary.json if all are completed. The
    others go on after a failed one, whose exit code is returned, but not after Ctrl-C or bad input, which
    all have in common. In an MPI job each training is done by one of the ranks.

    Raises
    ------
    ConfigError
        The folder exists already, or ``jobs`` are set in an MPI job.
    """
    ranks, folder = connect(), config.out / (config.name or make_run_id())
    common, rates = replace(config, out=folder, repeats=1, jobs=1, name="trial"), config.learning_rates
    if len(rates) > 1:
        trials = [replace(common, learning_rate=rate, name=f"lr-{rate!r}") for rate in rates]
    else:
        trials = [replace(common, seed=seed, name=f"seed-{seed}") for seed in config.seeds]
    with ranks.together():
        with ranks.agreement():
            if ranks.size > 1 and config.jobs != 1:
                msg = "--jobs: the ranks of an MPI job train side by side: leave it out"
                raise ConfigError(msg)
            if ranks.rank == 0 and folder.exists() and not config.overwrite:
                msg = f"{folder}: exists already: choose another --name, or add --overwrite"
                raise ConfigError(msg)
        jobs = available_cpus() if config.jobs == "auto" else config.jobs
        jobs = min(jobs * max(count_sharing(ranks)), len(trials))
        calls = [partial(run_trial, trial, command, jobs, advise and trial is trials[0]) for trial in trials]
        if isinstance(ranks, Ranks):
            outcomes = _run_on_ranks(calls, ranks)
        else:
            outcomes = _run_in_turn(calls) if jobs == 1 else _run_side_by_side(calls, jobs)
    codes = [outcome.code for outcome in outcomes if outcome.code]
    if codes:
        return INTERRUPTED if INTERRUPTED in codes else codes[0]
    if ranks.rank > 0:
        return 0
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    summary, lines = _select_best(entries) if len(rates) > 1 else _summarize_seeds(entries)
    text = json.dumps(replace_nonfinite({**summary, "trials": entries}), indent=1, allow_nan=False)
    save(folder / SUMMARY_FILE, f"{text}\n".encode())
    console = make_console(quiet=config.quiet)
    console.print(*lines, f"summary       {plain(folder / SUMMARY_FILE)}", sep="\n")
    return 0


def run_trial(config: TrainConfig, command: list[str], jobs: int, advise: bool) -> Outcome:  # noqa: FBT001
    """Train, and print the error if that fails; ``jobs`` trainings share the processors."""
    make_console(quiet=config.quiet).print("==", str(config.name).replace("-", " ", 1))
    try:
        result, run = train(config, command, advise=advise, jobs=jobs)
    except KeyboardInterrupt:
        return Outcome(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the other trials go on
        return Outcome(report_error(error, debug=config.debug, source=f"{config.name}: "))
    record = cast("Run", run).record  # of a process that is no rank of a job
    entry = {"run": record["id"], "fingerprint": record["fingerprint"], "metrics": record["metrics"]}
    return Outcome(INTERRUPTED if result.interrupted else 0, entry)


def capture_trial(call: Call, number: int | None = None) -> Outcome:
    """Train in a process of its own or on a rank of its own, and return what it printed too.

    A process takes the GPU of its number, as a rank does of its own.
    """
    share_gpu_memory()
    if number is not None:
        os.environ[LOCAL_RANKS[0]] = str(number)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # which would show progress bars
        os.environ.pop(name, None)
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        outcome = call()
    return outcome._replace(output=output.getvalue(), errors=errors.getvalue())


def _run_in_turn(calls: Sequence[Call]) -> list[Outcome]:
    """Run the trials in this process."""
    outcomes: list[Outcome] = []
    for call in calls:
        outcomes.append(call())
        if outcomes[-1].code in (INTERRUPTED, BAD_INPUT):
            break
    return outcomes


def _run_side_by_side(calls: Sequence[Call], jobs: int) -> list[Outcome]:
    """Run the trials in processes of their own; print the output of each as a whole, in their order."""
    from xpnet._lib.processes import ProcessExecutor  # imports multiprocessing

    console, executor = make_console(quiet=calls[0].args[0].quiet), ProcessExecutor(jobs)

    def interrupt() -> None:
        executor.interrupt()
        console.print("stopping each training after its step; Ctrl-C again stops at once")

    with defer_interrupts(interrupt) as is_pressed, executor:
        futures = [executor.submit(capture_trial, call, index % jobs) for index, call in enumerate(calls)]
        return _print_results(calls, [future.result for future in futures], is_pressed)


def _run_on_ranks(calls: Sequence[Call], ranks: Ranks) -> list[Outcome]:
    """Run each trial on one of the ranks of an MPI job; rank 0 prints, and has the outcomes."""
    from xpnet._lib.processes import HeldInterrupts, spread_calls

    captured = [partial(capture_trial, call) for call in calls]
    with HeldInterrupts() as held, spread_calls(ranks.comm, held, captured) as results:
        outcomes = _print_results(calls, results)
        return [*outcomes, Outcome(INTERRUPTED)] if held.arrived else outcomes


def _print_results(
    calls: Sequence[Call],
    results: Sequence[Callable[[], Outcome]],
    is_pressed: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Return the outcomes of trials, and print the output of each as a whole, in their order."""
    console, outcomes = make_console(quiet=calls[0].args[0].quiet), list[Outcome]()
    for call, result in zip(calls, results, strict=False):  # other ranks than the first have no results
        try:
            outcome = result()
        except CancelledError:
            outcome = Outcome(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - as in `run_trial`
            line = f"xpnet: {call.args[0].name}: {error}\n"
            outcome = Outcome(INTERRUPTED) if is_pressed() else Outcome(UNEXPECTED, errors=line)
        outcomes.append(outcome)
        for line in outcome.output.splitlines():
            console.print(style_text(line))
        print_errors(outcome.errors)
        if outcome.code == BAD_INPUT:
            break
    return outcomes


def _summarize_seeds(trials: list[dict[str, Any]]) -> tuple[dict[str, object], list[str]]:
    """Return mean and sample standard deviation (n - 1) of the metrics over the seeds, and lines to print."""
    summary, lines = {}, ["== all seeds, mean ± standard deviation"]
    for name in trials[0]["metrics"]:
        values = [trial["metrics"].get(name) for trial in trials]
        if all(is_number(value) and math.isfinite(value) for value in values):
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            summary[name] = {"mean": mean, "standard_deviation": deviation}
            if name.endswith("accuracy"):
                lines.append(f"{name.replace('_', ' '):<20}{mean:.4f} ± {deviation:.4f}")
    return {"over": "seeds", "figures": summary}, lines


def _select_best(trials: list[dict[str, Any]]) -> tuple[dict[str, object], list[str]]:
    """Return the trial with the highest validation accuracy, then the lowest loss, and a line to print."""
    ranked = sorted(trials, key=lambda trial: trial["metrics"]["validation_loss"])
    best = max(ranked, key=lambda trial: trial["metrics"]["validation_accuracy"])
    accuracy, test = (best["metrics"][f"{part}_accuracy"] for part in ("validation", "test"))
    line = f"best          {best['run']}: validation accuracy {accuracy:.4f}, test {test:.4f}"
    return {"over": "learning rates", "best": best}, [line]
