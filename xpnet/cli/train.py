"""``xpnet train``: a recorded training run, from the start or from a checkpoint, or a dry run."""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

from xpnet import __version__
from xpnet._lib.machine import peak_memory
from xpnet._lib.text import complain, format_duration, plain, pluralize
from xpnet._lib.tree import leaves
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.compute.context import COMPILE, is_compiled
from xpnet.config import Command, TrainConfig, to_json, to_toml
from xpnet.data.table import scale_note
from xpnet.distributed.ranks import ALONE, Ranks, connect
from xpnet.errors import ConfigError, setting
from xpnet.nn.architecture import format_sizes
from xpnet.recording.recorder import record
from xpnet.recording.training import check_data, check_start, describe_run, extend_settings
from xpnet.storage.find import resolve_run
from xpnet.storage.folder import RunFolder
from xpnet.storage.run import WritableRun
from xpnet.trackers import check_installed
from xpnet.training.console import TrainingConsole
from xpnet.training.loop import FitResult, LoopCallback, TrainState
from xpnet.training.opening import open_training
from xpnet.training.score import initial_note
from xpnet.training.terminal import make_console
from xpnet.training.trainer import Trainer

SLOW_FLOAT64 = 4
"""Ratio of float32 to float64 speed on a GPU above which a note is printed."""

FEW_MULTIPLICATIONS = 1 << 22
"""Multiplications of a step's forward pass below which two processors are likely faster than a GPU."""

CHANGEABLE_SETTINGS = {"backend", "device", "require_device", "workers", "debug", "quiet"}
CHANGEABLE_SETTINGS |= {"checkpoint_seconds", "keep_checkpoint_every", "report", "tags", "track"}
"""Settings that may change when a run is resumed: in reproducible arithmetic they change no result."""

CALLBACKS: list[LoopCallback] = []
"""Callbacks of the trainings of commands in this process, to which a script appends its own."""


def train(command: Command, line: list[str], ranks: Ranks, *, advise: bool = False) -> FitResult | None:
    """Start, resume or extend the run that a command names, as `train_run`; None if it is complete.

    Errors as in `resume` and `read_extension`.
    """
    config = command.config
    if config.resume_or_start:
        return resume_or_start(command, line, ranks)
    if config.resume:
        return resume(command, config.resume, line, ranks)
    config, parent = read_extension(command, ranks)
    return train_run(config, line, ranks, parent=parent, advise=advise and not parent)


def resume_or_start(command: Command, line: list[str], ranks: Ranks) -> FitResult | None:
    """Resume the run that the settings name, or start it. Return None if it is complete, and say so.

    Errors as in `resume`.
    """
    config = command.config
    folder = config.out / str(config.name)
    status, files = None, dict[str, object]()
    with ranks.agreement():
        if folder.exists():
            run = RunFolder(folder)
            _check_settings(command, run)
            status, files = run.record["status"], run.describe_files()
    ranks.compare(files)
    if status == "completed":
        make_console(quiet=config.quiet or ranks.rank > 0).print(f"run           {plain(folder)} is complete")
        return None
    return resume(command, folder, line, ranks) if status else train_run(config, line, ranks)


def _check_settings(command: Command, run: RunFolder) -> None:
    """Raise ConfigError if the command line contradicts the settings of a recorded run."""
    requested, recorded = to_json(command.config), to_json(run.config)
    address = {"resume_or_start", "out"} if command.config.resume_or_start else {"resume"}
    resolved = {"best_by"} if requested["best_by"] == "auto" else set()
    for name in sorted(command.explicit - CHANGEABLE_SETTINGS - address - resolved):
        if requested[name] != recorded[name]:
            difference = f"{run.path} was started with {recorded[name]!r}, got {requested[name]!r}"
            raise ConfigError(f"{setting(name)}: {difference}: leave it out, or start a new run")


def resume(command: Command, folder: Path, line: list[str], ranks: Ranks) -> FitResult:
    """Resume the run in a folder, with its own settings.

    Raises
    ------
    ConfigError
        The folder holds no run that can be resumed, or the command line changes settings of the run.
    """
    with ranks.agreement():
        folder = resolve_run(folder, command.config.out)
    run = ranks.on_first(partial(WritableRun.reopen, folder))
    try:
        resumed = RunFolder(folder)
        ranks.compare(resumed.describe_files())
        resumed.check_files("train again with xpnet.fit")
        _check_settings(command, resumed)
        changes = {name: getattr(command.config, name) for name in command.explicit & CHANGEABLE_SETTINGS}
        config = replace(resumed.config, **changes)
        if run:
            run.record["config"]["tags"] = list(config.tags)
        return train_run(config, line, ranks, resumed=resumed, run=run)
    finally:
        if run:
            run.release()


def read_extension(command: Command, ranks: Ranks) -> tuple[TrainConfig, RunFolder | None]:
    """Return the settings of a command, and the completed run that it extends, if it extends one.

    Raises
    ------
    ConfigError
        The folder holds no completed run, or the command line changes settings that must be the same.
    DataError
        The run is damaged, or was trained on arrays in Python.
    """
    config = command.config
    if not config.extend:
        return config, None
    with ranks.agreement():
        path = resolve_run(config.extend, config.out)
        config, parent = extend_settings(path, config, command.explicit)
        parent.check_files("xpnet.fit extends it")
    return config, parent


def train_run(
    config: TrainConfig,
    command: list[str],
    ranks: Ranks = ALONE,
    *,
    resumed: RunFolder | None = None,
    run: WritableRun | None = None,
    parent: RunFolder | None = None,
    advise: bool = False,
    jobs: int = 1,
) -> FitResult:
    """Train, print and record a run, or continue ``resumed``, or extend ``parent``.

    The `run` to continue is open on the rank that writes it.

    With ``advise``, print a note if the features differ in scale. ``jobs`` trainings share the processors.
    The ranks of an MPI job train together; the first writes and prints.
    """
    with ranks.agreement():
        check_installed(config.track)
    if parent:
        ranks.compare(parent.describe_files())
    with open_training(config, None, ranks, jobs=jobs) as (trainer, selection):
        data, console = trainer.data, TrainingConsole(trainer, config.epochs, quiet=config.quiet)

        def open_run() -> WritableRun:
            if advise and (note := scale_note(data.x_train)):
                complain(f"note: {note}")
            if resumed:
                check_data(resumed, data, "resume")
                check_start(resumed, config.init_from)
            elif parent:
                check_data(parent, data, "extend")
            if run:
                return run
            info = describe_run(config, selection, data, parent, *command)
            return WritableRun.start(config.out, config.name, info, trainer.ranks, overwrite=config.overwrite)

        recorded = record(
            trainer, ranks.on_first(open_run), console, parent, resumed=resumed, users=CALLBACKS
        )
        with recorded as (callbacks, state, first):
            for text in describe_training(selection, trainer, parent):
                console.print_line(text)
            if resumed:
                steps = f" and {pluralize(state.batch, 'step')}" if state.batch else ""
                console.print_line(f"goes on after epoch {state.epoch}{steps}")
            result = trainer.fit(callbacks, state, first_epoch=first)
            if note := initial_note(trainer.best_by, result):
                console.print_line(f"note: {note}")
            return result


def describe_training(selection: Selection, trainer: Trainer, parent: RunFolder | None) -> Iterator[str]:
    """Yield lines about the backend, the data, the network and the settings."""
    backend = selection.backend
    config = trainer.config
    data = trainer.data
    ranks = trainer.ranks
    loader = trainer.loader
    size = loader.samples_per_step
    reason = f" ({selection.reason})" if selection.reason else ""
    if ranks.size > 1:
        yield f"{ranks.size} ranks on {pluralize(len(set(ranks.hosts)), 'host')} ({ranks.library})"
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    index = cuda_index(backend.device_name)
    ratio = None if index is None or config.float_type != "float64" else float64_ratio(index)
    if ratio and ratio > SLOW_FLOAT64:
        yield f"float64 is 1/{ratio} as fast as float32 on this GPU: --arithmetic native computes in float32"
    multiplications = size * trainer.network.multiplications
    if selection.device_requested == "auto" and backend.on_gpu and multiplications < FEW_MULTIPLICATIONS:
        yield "a step is so small that the CPU is likely faster (an estimate): --device cpu"
    if not is_compiled(debug=config.debug):
        yield f"each step runs as it is written, for debuggers, and takes longer (--debug or {COMPILE}=0)"
    yield from data.notes
    samples = f"{len(data.y_train)} training and {len(data.y_test)} test samples"
    yield f"{data.name}: {samples}, {data.features} features, {data.classes} classes"
    network = f"{format_sizes(trainer.network.sizes)}, {config.arithmetic} {config.float_type}"
    rate = f"learning rate {config.learning_rate}"
    batch_size = loader.batch_size or "full"
    asked = "" if batch_size == config.batch_size else f" in place of {config.batch_size}"
    yield f"network {network}, batch size {batch_size}{asked}, {rate}, seed {config.seed}"
    if ranks.size > 1 and loader.single_block and loader.share(size) == (0, size):
        yield "every rank computes all of each batch: larger batches, without batch norm, would be shared"
    if ranks.size > 1 and config.arithmetic == "native":
        yield "in native arithmetic, what a rank computes is not checked by another"
    if parent:
        yield f"epochs {parent.epochs + 1} to {config.epochs}, after those of {parent.path}"


# Dry runs

DRY_RUN_SAMPLES = 32 * 1024
"""The largest number of samples that are evaluated, and that represent an epoch of memory-mapped data."""
STEPS, SECONDS = 20, 1.0
"""The largest number of steps to time, and the seconds after which no further one is started."""


def dry_run(command: Command) -> None:
    """Print the settings, the number of parameters, and estimates of memory and time, without training.

    A few steps are timed, and their results discarded; no file is written. The ranks of an MPI job do so
    together.

    Raises
    ------
    ConfigError
        The command resumes a run.
    """
    ranks = connect()
    if command.config.resume:
        raise ConfigError("--dry-run: expected a new training, not --resume")
    config, parent = read_extension(command, ranks)
    with open_training(config, None, ranks) as (trainer, selection):
        with ranks.agreement():
            if parent:
                check_data(parent, trainer.data, "extend")
        first = parent.epochs if parent else 0
        lines = [*describe_training(selection, trainer, parent), *_estimate(trainer, first)]
    settings = to_toml(replace(config, epochs=config.epochs - first))  # which --config reads back
    if ranks.rank == 0:
        comments = [f"# {plain(line)}" for line in ("Nothing is trained.", *lines)]
        sys.stdout.write("\n".join([*comments, settings]))


def _estimate(trainer: Trainer, first: int) -> Iterator[str]:
    """Yield lines on parameters, memory and time of trainings from the epoch ``first`` on."""
    config, state = trainer.config, trainer.initial_state()
    samples, last = trainer.loader.samples_per_epoch, config.epochs
    yield f"parameters    {sum(array.size for array in leaves(state.variables.parameters)):,}"
    some = min(samples, DRY_RUN_SAMPLES)
    trainer.estimate(state, some)  # which compiles
    start = time.perf_counter()
    trainer.estimate(state, some)
    evaluation = (time.perf_counter() - start) / some
    (step, sent), steps = _time_step(trainer, state), len(trainer.loader.bounds)
    epochs = range(first, last + 1)
    logged = sum(epoch % config.log_interval == 0 or epoch in (first, last) for epoch in epochs)
    validated = 0 if trainer.validation_indices is None else int(trainer.validation_indices.shape[0])
    evaluated = logged * samples + len(epochs) * validated
    runs = config.repeats * len(config.learning_rates)
    seconds = runs * ((last - first) * steps * step + evaluated * evaluation)
    memory = max(trainer.memory, peak_memory() or 0)  # of small networks, Python takes most
    yield f"memory        about {memory / 2**20:,.0f} MiB"
    if trainer.ranks.size > 1:
        yield f"sent          {sent / 1e6:.3g} MB of each step by the first rank"
    trainings = "" if runs == 1 else f"{runs} trainings, one at a time, of "
    duration = f"{1000 * step:.2g}" if 1000 * step < 10 else f"{1000 * step:.0f}"
    work = f"{pluralize(last - first, 'epoch')} of {pluralize(steps, 'step')} of {duration} ms"
    yield f"time          about {format_duration(seconds)}: {trainings}{work}, and evaluation"


def _time_step(trainer: Trainer, state: TrainState) -> tuple[float, float]:
    """Return the median seconds of a step, without the first, which compiles, and the bytes that it sends."""
    loader, to_host = trainer.loader, trainer.backend.to_host
    share = 1.0 if loader.in_memory else min(1.0, DRY_RUN_SAMPLES / loader.samples_per_epoch)
    loader = replace(loader, samples_per_epoch=round(share * loader.samples_per_epoch))
    scale = min(loader.samples_per_step / trainer.loader.samples_per_step, 1.0)
    variables = state.variables
    times = []
    sent = []
    last = time.perf_counter()
    for batch in islice(chain.from_iterable(map(loader.batches, count(1))), STEPS):
        variables = trainer.step(variables, batch, trainer.learning_rate(0))
        to_host(next(leaves(variables)))  # waits for the device
        now = time.perf_counter()
        times.append(now - last)  # with the preparation of the batch
        sent.append(trainer.ranks.activity.sent)
        last = now
        if trainer.ranks.max(len(times) > 1 and sum(times) > SECONDS):
            break
    return statistics.median(times[1:]) / scale, (sent[-1] - sent[0]) / (len(sent) - 1)
