"""``xpnet train --dry-run``: the settings, parameters, memory and time of a training, without training."""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, islice
from timeit import timeit

from xpnet._lib.machine import peak_memory
from xpnet._lib.text import format_duration, plain
from xpnet._lib.tree import leaves
from xpnet.cli.train import describe_training, read_extension
from xpnet.config import Command, to_toml
from xpnet.distributed.ranks import ALONE, connect
from xpnet.errors import ConfigError
from xpnet.recording.training import check_data
from xpnet.training.opening import open_training
from xpnet.training.step import TrainState
from xpnet.training.trainer import Trainer

SAMPLES = 32 * 1024
"""The largest number of samples that are evaluated, and that represent an epoch of memory-mapped data."""
STEPS, SECONDS = 20, 1.0
"""The largest number of steps to time, and the seconds after which no further one is started."""


def main(command: Command) -> None:
    """Print the settings, the number of parameters, and estimates of memory and time.

    A few steps are timed, and their results discarded; no file is written. The ranks of an MPI job do so
    together, unless each would do some of several trainings: then the first one does so alone.

    Raises
    ------
    ConfigError
        The command resumes a run.
    """
    config, parent, ranks = command.config, None, connect()
    runs, processes = config.repeats * len(config.learning_rates), ranks.size
    if config.resume is not None:
        raise ConfigError.at("--dry-run", "expected a new training, not --resume")
    if runs > 1 and ranks.rank > 0:
        return
    ranks = ranks if runs == 1 else ALONE
    with ranks.agreement():
        if config.extend is not None:
            config, parent = read_extension(command, config.extend)
    with open_training(config, None, ranks) as (trainer, selection):
        with ranks.agreement():
            if parent is not None:
                check_data(parent, trainer.data, "--extend")
        first = 0 if parent is None else parent.epochs
        lines = [*describe_training(selection, trainer, parent), *_estimate(trainer, first, runs, processes)]
    settings = to_toml(replace(config, epochs=config.epochs - first))  # which --config reads back
    if ranks.rank == 0:
        comments = [f"# {plain(line)}" for line in ("Nothing is trained.", *lines)]
        sys.stdout.write("\n".join([*comments, settings]))


def _estimate(trainer: Trainer, first: int, runs: int, processes: int) -> Iterator[str]:
    """Yield lines on parameters, memory and time of trainings from the epoch ``first`` on."""
    config, samples = trainer.config, trainer.loader.samples_per_epoch
    last, interval, state = config.epochs, config.log_interval, trainer.initial_state()
    yield f"parameters    {sum(array.size for array in leaves(state.variables.parameters)):,}"
    some = min(samples, SAMPLES)
    trainer.estimate_loss(state, some)  # which compiles
    seconds = timeit(lambda: trainer.estimate_loss(state, some), number=1)
    evaluation = seconds / some
    step, steps = _time_step(trainer, state), len(trainer.loader.bounds)
    logged = sum(epoch % interval == 0 or epoch in (first, last) for epoch in range(first, last + 1))
    validated = 0 if trainer.validation_indices is None else int(trainer.validation_indices.shape[0])
    evaluated = logged * samples + (last - first + 1) * validated
    rounds = -(-runs // processes) if runs > 1 else 1
    seconds = rounds * ((last - first) * steps * step + evaluated * evaluation)
    memory = max(trainer.memory, peak_memory() or 0)  # of small networks, Python takes most
    yield f"memory        about {memory / 2**20:,.0f} MiB"
    spread = "one at a time" if processes == 1 else f"{processes} at a time, each on one rank"
    trainings = "" if runs == 1 else f"{runs} trainings, {spread}, of "
    work = f"{_count(last - first, 'epoch')} of {_count(steps, 'step')} of {_format_number(1000 * step)} ms"
    yield f"time          about {format_duration(seconds)}: {trainings}{work}, and evaluation"


def _time_step(trainer: Trainer, state: TrainState) -> float:
    """Return the median time of a step in seconds, without the first, which compiles."""
    loader, to_host = trainer.loader, trainer.backend.to_host
    share = 1.0 if loader.in_memory else min(1.0, SAMPLES / loader.samples_per_epoch)
    loader = replace(loader, samples_per_epoch=round(share * loader.samples_per_epoch))
    scale = min(loader.samples_per_step / trainer.loader.samples_per_step, 1.0)
    variables, times, last = state.variables, list[float](), time.perf_counter()
    for batch in islice(chain.from_iterable(map(loader.batches, count(1))), STEPS):
        variables = trainer.step(variables, batch, trainer.learning_rate(0))
        to_host(next(leaves(variables)))  # waits for the device
        now = time.perf_counter()
        times.append(now - last)  # with the preparation of the batch
        last = now
        if trainer.ranks.max(len(times) > 1 and sum(times) > SECONDS):
            break
    return statistics.median(times[1:]) / scale


def _count(number: int, name: str) -> str:
    """Return a number with its noun, such as 1 step or 2 steps."""
    return f"{number} {name}{'s' * (number != 1)}"


def _format_number(value: float) -> str:
    """Return a number with two digits at least."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
