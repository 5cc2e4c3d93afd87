"""``xpnet train``: a recorded training run, from the start or from a checkpoint."""

import platform
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from xpnet import __version__
from xpnet._lib.terminal import announce, make_console
from xpnet._lib.text import complain, plain
from xpnet.backends.probing import cuda_index, float64_ratio
from xpnet.backends.resolve import Selection
from xpnet.config import Command, TrainConfig, from_json, to_json
from xpnet.config.rules import flag
from xpnet.data.sharing import load_shared
from xpnet.distributed.ranks import connect, count_sharing
from xpnet.errors import ConfigError
from xpnet.nn.architecture import format_sizes
from xpnet.nn.inputs import scale_note
from xpnet.recording.extension import Parent, extend_settings, read_parent
from xpnet.recording.training import check_data, check_extension, check_start, describe_run, record
from xpnet.storage.find import resolve_run
from xpnet.storage.record import Record, check_files, read_run
from xpnet.storage.run import FollowedRun, Run, digest_file, digest_files
from xpnet.trackers import check_installed
from xpnet.training.console import TrainingConsole
from xpnet.training.trainer import Trainer, normalize_inputs, select_backend

SLOW_FLOAT64 = 4
"""Ratio of float32 to float64 speed on a GPU above which a note is printed."""

DEVICE_SETTINGS = {"backend", "device", "require_device", "workers"}
CHANGEABLE_SETTINGS = DEVICE_SETTINGS | {"checkpoint_seconds", "keep_checkpoint_every", "debug", "quiet"}
CHANGEABLE_SETTINGS |= {"report", "tags", "track"}
"""Settings that may change when a run is resumed: in reproducible arithmetic they change no result."""


def resume_or_start(command: Command, line: list[str]) -> Run | None:
    """Resume the run that the settings name, or start it; return None if it is complete, and say so.

    Errors as in `resume`.
    """
    config, ranks, status = command.config, connect(), ""
    folder = config.out / str(config.name)
    with ranks.agreement():
        if ranks.rank == 0 and folder.exists():
            record = read_run(folder)
            _check_settings(command, folder, record)
            status = record["status"]
    status = ranks.gather(status)[0]
    if status == "completed":
        make_console(quiet=config.quiet or ranks.rank > 0).print(f"run           {plain(folder)} is complete")
        return None
    return resume(command, folder, line) if status else train(config, line)


def _check_settings(command: Command, folder: Path, record: Record) -> TrainConfig:
    """Return the settings of a recorded run, which those of the command line must not contradict."""
    config = from_json(record["config"], str(folder))
    requested, recorded = to_json(command.config), to_json(config)
    address = {"resume_or_start", "out"} if command.config.resume_or_start else {"resume"}
    for name in sorted(command.explicit - CHANGEABLE_SETTINGS - address):
        if requested[name] != recorded[name]:
            difference = f"{folder} was started with {recorded[name]!r}, got {requested[name]!r}"
            msg = f"{flag(name)}: {difference}: leave it out, or start a new run"
            raise ConfigError(msg)
    return config


def resume(command: Command, folder: Path, line: list[str]) -> Run:
    """Resume the run in a folder, with its own settings, and return it.

    Raises
    ------
    ConfigError
        The folder holds no run that can be resumed, or the command line changes settings of the run.
    """
    ranks = connect()
    with ranks.agreement():
        folder = resolve_run(folder, command.config.out)
        run = Run.reopen(folder) if ranks.rank == 0 else FollowedRun.of(folder, read_run(folder))
    try:
        ranks.compare(digest_files(folder))
        check_files(folder, run.record, "train again with xpnet.fit")
        config = _check_settings(command, folder, run.record)
        changes = {name: getattr(command.config, name) for name in command.explicit & CHANGEABLE_SETTINGS}
        config = replace(config, **changes)
        run.record["config"]["tags"] = list(config.tags)
        return train(config, line, resumed=run)
    finally:
        run.release()


def extend(command: Command, folder: Path, line: list[str]) -> Run:
    """Train a new run that goes on from the completed one in a folder, and return it.

    Errors as in ``read_extension``.
    """
    config, parent = read_extension(command, folder)
    return train(config, line, parent=parent)


def read_extension(command: Command, folder: Path) -> tuple[TrainConfig, Parent]:
    """Return the settings of the extension of the run in a folder, and that run.

    Raises
    ------
    ConfigError
        The folder holds no completed run, or the command line changes settings that must be the same.
    DataError
        The run is damaged, or was trained on arrays in Python.
    """
    parent = read_parent(resolve_run(folder, command.config.out))
    check_files(folder, parent.record, "xpnet.fit extends it")
    return extend_settings(parent, command.config, command.explicit), parent


def train(
    config: TrainConfig,
    command: list[str],
    *,
    resumed: Run | None = None,
    parent: Parent | None = None,
    advise: bool = False,
    jobs: int = 1,
) -> Run:
    """Train, print and record a run, or continue ``resumed``, or extend ``parent``; return the run.

    With ``advise``, print a note if the features differ in scale. ``jobs`` trainings share the processors.
    The ranks of an MPI job train together; the first writes and prints.
    """
    ranks = connect()
    tell = complain if ranks.rank == 0 else lambda _: None
    with ranks.together(), ExitStack() as stack:
        with ranks.agreement():
            check_installed(config.track)
            selection = select_backend(config, ranks=ranks)
            if selection.warning is not None:
                tell(f"warning: {selection.warning}")
        ranks.compare(list_facts(config, selection, parent))
        with announce(f"reading {config.data or 'mnist'}", quiet=config.quiet or ranks.rank > 0):
            data = load_shared(ranks, config.data, config.test_data, **config.table_options)
        normalization = normalize_inputs(config, data, ranks)
        processes = jobs * count_sharing(ranks)[ranks.rank]
        with ranks.agreement():
            if advise and ranks.rank == 0 and (note := scale_note(data.x_train)) is not None:
                tell(f"note: {note}")
            opened = Trainer.open(config, data, selection.backend, normalization, ranks, jobs=processes)
            trainer = stack.enter_context(opened)
            if resumed is not None and ranks.rank == 0:
                check_data(resumed.folder, resumed.record, data, "--resume")
                check_start(resumed.folder, resumed.record, config.init_from)
            elif parent is not None and ranks.rank == 0:
                check_extension(parent, config, data)
            console = TrainingConsole(trainer, config.epochs, quiet=config.quiet or ranks.rank > 0)
            if resumed is not None:
                run = resumed
            elif ranks.rank > 0:
                known = {"parent": None if parent is None else parent.info, "specification_version": None}
                run = FollowedRun.of(config.out, known)
            else:
                info = describe_run(config, selection, data, parent, command)
                run = Run.start(config.out, config.name, config.overwrite, info, ranks)
        with record(trainer, run, console, resumed=resumed is not None) as recording:
            for text in describe_training(selection, trainer, parent):
                console.print_line(text)
            if resumed is not None:
                epoch, batch = recording.state.epoch, recording.state.batch
                steps = f" and {batch} step{'s' * (batch > 1)}" * (batch > 0)
                console.print_line(f"goes on after epoch {epoch}{steps}")
            trainer.fit(**recording._asdict())
    return run


def list_facts(config: TrainConfig, selection: Selection, parent: Parent | None = None) -> dict[str, object]:
    """Return what the ranks of an MPI job must have in common besides settings and data."""
    start, backend = config.init_from, selection.backend
    facts: dict[str, object] = {} if parent is None else {**digest_files(parent.folder)}
    if start is not None and start.is_file():
        facts[str(start)] = digest_file(start)
    if config.arithmetic == "native":  # whose bits depend on them
        facts |= {"Python": platform.python_version(), "library": f"{backend.name} {backend.version}"}
    return facts


def describe_training(selection: Selection, trainer: Trainer, parent: Parent | None = None) -> Iterator[str]:
    """Yield lines about the backend, the data, the network and the settings."""
    backend, config, data, ranks = selection.backend, trainer.config, trainer.data, trainer.ranks
    reason = f" ({selection.reason})" if selection.reason else ""
    if ranks.size > 1:
        hosts = len(set(ranks.hosts))
        yield f"{ranks.size} ranks on {hosts} host{'s' * (hosts > 1)} ({ranks.library})"
    yield f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    index = cuda_index(backend.device_name)
    ratio = None if index is None or config.float_type != "float64" else float64_ratio(index)
    if ratio is not None and ratio > SLOW_FLOAT64:
        yield f"float64 is 1/{ratio} as fast as float32 on this GPU: --arithmetic native computes in float32"
    yield from data.notes
    samples = f"{len(data.y_train)} training and {len(data.y_test)} test samples"
    yield f"{data.name}: {samples}, {data.features} features, {data.classes} classes"
    network = f"{format_sizes(trainer.network.sizes)}, {config.arithmetic} {config.float_type}"
    rate = f"learning rate {config.learning_rate}"
    asked = "" if trainer.batch_size == config.batch_size else f" in place of {config.batch_size}"
    yield f"network {network}, batch size {trainer.batch_size}{asked}, {rate}, seed {config.seed}"
    loader = trainer.loader
    whole = 0, loader.samples_per_step
    if ranks.size > 1 and loader.single_block and trainer.context.share(whole[1]) == whole:
        yield "every rank computes all of each batch: larger batches, without batch norm, would be shared"
    if parent is not None:
        yield f"epochs {parent.epochs + 1} to {config.epochs}, after those of {parent.folder}"
