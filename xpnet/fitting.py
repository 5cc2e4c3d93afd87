"""Training on arrays, for ``xpnet.fit`` and the estimator: with a record in a folder, or without any file."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpnet._lib.tree import tree_map
from xpnet.backends.resolve import Selection, backend_of
from xpnet.config import TrainConfig
from xpnet.config.keywords import name_keywords
from xpnet.config.settings import TrackerName
from xpnet.config.training import RULES
from xpnet.data.datasets import Dataset, join_halves
from xpnet.data.table import Table
from xpnet.errors import ConfigError, DataError
from xpnet.nn.inputs import Normalization
from xpnet.storage.model_file import SavedModel, fingerprint
from xpnet.storage.record import Record
from xpnet.storage.run import complete_record
from xpnet.trackers import check_installed
from xpnet.training import callbacks, final_parameters
from xpnet.training.callbacks import EpochLog
from xpnet.training.loop import FitResult
from xpnet.training.state import TrainState
from xpnet.training.trainer import Trainer, select_backend

if TYPE_CHECKING:
    from xpnet.recording.extension import Parent
    from xpnet.storage.run import Run


@dataclass(frozen=True)
class Epoch:
    """The metrics after an epoch."""

    epoch: int
    """The number of completed epochs; 0 is before the first."""

    metrics: dict[str, float]
    """train_loss, train_accuracy, validation_loss and validation_accuracy. Those of the training samples are
    present in the epochs that `log_every` logs, those of validation samples, if there are any, always."""


EpochFunction = Callable[[Epoch], object]
"""Called after each epoch, and before the first; training ends if it returns True."""


class NetworkCallback(callbacks.Callback):
    """A callback that can read the network in training, by ``_network``."""

    _watch: "_Watch | None" = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.needs_every_step = cls.on_step_end is not callbacks.Callback.on_step_end

    def _network(self) -> tuple[SavedModel, TrainConfig]:
        """Return a copy of the network as it is now, on the host, and the settings.

        Raises
        ------
        ConfigError
            There is no training at the moment.
        """
        if self._watch is None or self._watch.state is None:
            msg = "callbacks: expected `model` to be read during training, in one of the hooks"
            raise ConfigError(msg)
        return self._watch.trainer.model(self._watch.state), self._watch.trainer.config


class _Watch(callbacks.Callback):
    """Shows the current state to the user's callbacks, before which it is called."""

    def __init__(self, trainer: Trainer, users: Sequence[NetworkCallback]) -> None:
        self.trainer, self._users = trainer, users
        self.state: TrainState | None = None
        for user in users:
            user._watch = self
            vars(user).pop("stop", None)  # of an earlier training

    def on_train_begin(self, state: TrainState) -> None:
        """Show the state before the first step."""
        self.state = state

    def on_step_end(self, state: TrainState) -> None:
        """Show the state after a step."""
        self.state = state

    def on_epoch_end(self, log: EpochLog) -> None:
        """Show the state after an epoch."""
        self.state = log.state

    def on_train_end(self, result: FitResult) -> None:
        """Show the state of the result."""
        self.state = result.best

    def close(self) -> None:
        """Let the callbacks go: the trainer holds a library's arrays."""
        for user in self._users:
            user._watch = None


class _CallFunction(callbacks.Callback):
    """Calls the user's function, which may stop training."""

    def __init__(self, function: EpochFunction) -> None:
        self._function = function

    def on_epoch_end(self, log: EpochLog) -> None:
        """Call the function."""
        stop_requested = self._function(Epoch(log.epoch, log.metrics))
        # Other return values, such as the number of characters written, do not stop training.
        if isinstance(stop_requested, bool | np.bool_) and stop_requested:
            self.stop = "callback"


class _RecordHistory(callbacks.Callback):
    """Keeps the metrics of the epochs, those of training samples too of an epoch that `users` end."""

    def __init__(self, trainer: Trainer, users: Sequence[callbacks.Callback]) -> None:
        self._trainer, self._users = trainer, users
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, log: EpochLog) -> None:
        """Keep the metrics of a logged epoch."""
        if log.training is None and any(user.stop for user in self._users):
            log.training = self._trainer.evaluate(log.state)
        if log.metrics:
            self.rows.append({"epoch": log.epoch, **log.metrics})


class Watchers(NamedTuple):
    """The user's view of a training: a function and callbacks; True to print the metrics of the epochs."""

    function: EpochFunction | None
    callbacks: Sequence[NetworkCallback]
    verbose: bool


class TrainingProgress(NamedTuple):
    """The state to continue training from, with host arrays, and the normalisation of the inputs."""

    state: TrainState
    normalization: Normalization


class Training(NamedTuple):
    """The data of a training, and a function that returns its record."""

    data: Dataset
    make_record: Callable[[], Record]


class Fitted(NamedTuple):
    """A trained network.

    Attributes
    ----------
    network, history
        The best network, and the metrics of the logged epochs.
    progress
        The state at the end of training.
    folder
        The folder of the run; None without one.
    training
        What a report needs besides.
    best_epoch
        The epoch that early stopping chose; None without it.
    """

    network: SavedModel
    history: list[dict[str, float]]
    progress: TrainingProgress
    folder: Path | None
    training: Training
    best_epoch: int | None


@dataclass(frozen=True)
class ArrayData(Dataset):
    """Arrays as a data set."""

    number_of_classes: int = 0

    @property
    def classes(self) -> int:
        """The number of classes, of which some may have no samples."""
        return self.number_of_classes


def make_dataset(training: Table, validation: Table | None = None, classes: int | None = None) -> ArrayData:
    """Build a data set from tables.

    Raises
    ------
    DataError
        The tables do not match, or a label is not below the number of classes.
    """
    test = Table(training.x[:0], training.y[:0], "", "") if validation is None else validation
    largest = {table.y_from: int(table.y.max(initial=0)) for table in (training, test)}
    classes = classes or max(largest.values()) + 1
    for source, label in largest.items():
        if label >= classes:
            msg = f"{source}: expected labels from 0 to {classes - 1}, got {label}"
            raise DataError(msg)
    if training.columns.classes is not None and classes != len(training.columns.classes):
        msg = f"classes: expected {len(training.columns.classes)}, as many as there are names, got {classes}"
        raise DataError(msg)
    data = replace(
        join_halves("arrays", training, test), from_arrays=True, test_is_validation=bool(len(test.y))
    )
    return ArrayData(**vars(data), number_of_classes=classes)


def select_from_settings(config: TrainConfig, X: object) -> Selection:
    """Return the backend that the settings ask for, or that of the rows; warn if the CPU replaces a GPU.

    Raises
    ------
    BackendError
        The backend or device is not usable here.
    """
    selection = select_backend(config, backend_of(X))
    if selection.warning is not None:
        warnings.warn(name_keywords(selection.warning), stacklevel=4)
    return selection


def read_folder(
    run: str | Path | None,
    extend: str | Path | None,
    *,
    overwrite: bool,
    report: bool,
    track: Sequence[TrackerName],
    tags: Sequence[str],
) -> dict[str, Any]:
    """Return the settings of the folder of a run.

    Raises
    ------
    ConfigError
        One is not allowed, or there is no folder for it.
    """
    lists = {"track": track, "tags": tags}
    words = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in lists.items()}
    if run is None:
        for name, given in (("overwrite", overwrite), ("extend", extend), *words.items()):
            if given:
                msg = f"fit: {name}: expected run too, the folder of the record"
                raise ConfigError(msg)
        return {}
    path = Path(run)
    settings: dict[str, Any] = {"overwrite": overwrite, "report": report, **words}
    settings |= {"out": path.parent, "name": path.name}
    for name, value in settings.items():
        RULES[name].check(f"fit: {'run' if name in ('out', 'name') else name}", value)
    check_installed(words["track"])
    return settings


def train(
    config: TrainConfig,
    selection: Selection,
    data: Dataset,
    watchers: Watchers,
    *,
    recorded: bool = False,
    parent: "Parent | None" = None,
    start: TrainingProgress | None = None,
    epochs: int | None = None,
) -> Fitted:
    """Train from the initial state, from ``start`` or from the state of a parent.

    It ends at epoch ``epochs``, by default that of the settings. With ``recorded``, the settings name the
    folder of the run. Errors as in ``xpnet.fit``.
    """
    begin = time.time()
    with Trainer.open(
        config, data, selection.backend, None if start is None else start.normalization
    ) as trainer:
        function = [] if watchers.function is None else [_CallFunction(watchers.function)]
        users = [*function, _Watch(trainer, watchers.callbacks), *watchers.callbacks]
        history = _RecordHistory(trainer, users)
        run = None
        if recorded:
            run, result = _fit_recorded(
                trainer, selection, [*users, history], parent, verbose=watchers.verbose
            )
        else:
            result = _fit(trainer, [*users, history], start, epochs, verbose=watchers.verbose)
        if result.interrupted:
            raise KeyboardInterrupt
        network, rows = trainer.model(result.best), history.rows
        state = result.state._replace(variables=trainer.to_host(result.state.variables))
    ended, epoch, best = time.time(), state.epoch, result.best_epoch

    def make_record() -> Record:
        from xpnet.recording.training import describe_run

        info, digest = describe_run(config, selection, data), fingerprint(network.layers, network.norms)
        chosen = epoch if best is None else best
        metrics = next((row for row in rows if row["epoch"] == chosen), {})
        metrics = {**metrics, "epochs": epoch, "seconds": round(ended - begin, 3)}
        metrics |= {} if best is None else {"best_epoch": best}
        return complete_record(info, begin, ended, metrics=metrics, fingerprint=digest)

    progress, folder = TrainingProgress(state, trainer.normalization), None if run is None else run.folder
    training = Training(data, make_record if run is None else lambda: run.record)
    return Fitted(network, rows, progress, folder, training, best)


def _fit(
    trainer: Trainer,
    users: Sequence[callbacks.Callback],
    start: TrainingProgress | None,
    epochs: int | None,
    *,
    verbose: bool,
) -> FitResult:
    """Train without a record."""
    config, state = trainer.config, None if start is None else _restore_state(trainer, start.state)
    first, last = 0 if state is None else state.epoch, config.epochs if epochs is None else epochs
    final = final_parameters.build(config, first, last)
    evaluate = callbacks.Evaluate(trainer, last=max(config.epochs, epochs or 0), final=final)
    order = [evaluate, final, *users]
    if verbose:
        from xpnet.training.console import TrainingConsole

        order.append(TrainingConsole(trainer, epochs or config.epochs))
    return trainer.fit(order, state, epochs)


def _fit_recorded(
    trainer: Trainer,
    selection: Selection,
    users: Sequence[callbacks.Callback],
    parent: "Parent | None",
    *,
    verbose: bool,
) -> "tuple[Run, FitResult]":
    """Train with a record, and return the run too."""
    from xpnet.recording.training import check_extension, describe_run, record
    from xpnet.storage.run import Run
    from xpnet.training.console import TrainingConsole

    config, data = trainer.config, trainer.data
    if parent is not None:
        check_extension(parent, config, data)
    console = TrainingConsole(trainer, config.epochs, quiet=not verbose)
    info = describe_run(config, selection, data, parent)
    run = Run.start(config.out, config.name, config.overwrite, info)
    with record(trainer, run, console, users=users) as recording:
        return run, trainer.fit(**recording._asdict())


def _restore_state(trainer: Trainer, state: TrainState) -> TrainState:
    """Copy a state from the host to the trainer's device; ConfigError if its shapes differ."""
    expected = tree_map(np.shape, trainer.initial_state().variables)
    if tree_map(np.shape, state.variables) != expected:
        msg = "hidden, batch_norm, optimizer: expected those that the training began with"
        raise ConfigError(msg)
    return state._replace(variables=trainer.to_device(state.variables))
