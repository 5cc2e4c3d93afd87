"""Training from Python: arrays in, a trained network out. Without a `run`, it writes no files.

``fit`` is `xpnet train` without the command line: the same settings, code and fingerprint; ``verify`` is
`xpnet verify`.
"""

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np

from xpnet._lib.kinds import check_arguments
from xpnet._lib.tree import tree_map
from xpnet._typing import Json, Names
from xpnet.api import Callback, EpochFunction, Model, UserCallbacks
from xpnet.backends.base import Backend
from xpnet.backends.resolve import Selection, backend_of
from xpnet.config import TrainConfig, keywords
from xpnet.config.rules import integer_from
from xpnet.config.settings import BackendName, TrackerName
from xpnet.config.training import RULES
from xpnet.data.arrays import make_dataset
from xpnet.data.datasets import Dataset, absent_note, digest
from xpnet.data.table import scale_note
from xpnet.data.texts import TableOptions, count_note, quantity_note
from xpnet.errors import ConfigError, DataError
from xpnet.recording.training import check_data, describe_run, extend_settings
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import Record
from xpnet.storage.run import WritableRun, complete_record
from xpnet.trackers import check_installed
from xpnet.training.callbacks import Evaluate, build_final, order_callbacks
from xpnet.training.loop import FitResult, TrainState
from xpnet.training.opening import open_training
from xpnet.training.score import initial_note
from xpnet.training.trainer import Trainer


@keywords.show_settings(keywords.FitSettings)
@keywords.with_keywords
@check_arguments
def fit(
    X: object,
    y: object,
    *,
    recipe: str | Path | None = None,
    validation_data: tuple[object, object] | None = None,
    classes: int | None = None,
    sample_weight: object = None,
    callback: EpochFunction | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    run: str | Path | None = None,
    overwrite: bool = False,
    report: bool = True,
    track: Sequence[TrackerName] = (),
    tags: Sequence[str] = (),
    extend: str | Path | None = None,
    **settings: Unpack[keywords.FitSettings],
) -> Model:
    """Train a network; the same settings and data give the same fingerprint as `xpnet train`.

    Parameters
    ----------
    X
        (m, features): uint8 pixels or floats. Other integers are pixels, too, and must be from 0 to 255.
        NumPy arrays, lists, tables of pandas, polars or pyarrow, or arrays of another library, which
        computes, on their device, unless `backend` or `device` is set. Masked arrays are refused, in labels
        and weights too.
    y
        (m,) labels: 0, 1, 2 and so on, or text, whose names the model keeps. Arrays of any library.
    recipe
        The name of a recipe, such as "tabular", or the path of a TOML file as for `--config`, whose settings
        of files and output are ignored. `settings` override it, as flags do.
    validation_data
        Validation samples: rows and labels. They are evaluated after each epoch, and `patience` stops
        training by them, as `best_by` says. Their weights are those of their classes. `validation=N` holds
        out N of the rows in `X` instead, `validation=0.1` a tenth.
    classes
        The number of classes; by default one more than the largest label.
    sample_weight
        (m,) weights of the samples in the loss that is minimised: finite numbers, 0 or more, of which only
        the ratios matter. A sample of weight 0 is left out. Evaluation has no weights, but for `best_by`.
    callback
        Called after each epoch with an `Epoch`, and before the first; training ends if it returns True.
    callbacks
        Instances of `xpnet.Callback`, whose hooks are called in this order.
    verbose
        Print the epochs as `xpnet train` does, with a progress bar in terminals and, by ipywidgets, Jupyter.
    run
        The folder of the run, such as "runs/mine", which receives the record that `xpnet train` writes. By
        default, no file is written.
    overwrite, report, track, tags
        As `--overwrite`, `--report`, `--track` and `--tag` of `xpnet train`; they need `run`.
    extend
        The folder of a completed run, from whose end to go on, with its settings but for those passed here,
        on the same data; `epochs` are those to add. It needs `run`, the folder of the new run.
    **settings
        The settings of `xpnet train`, except those of files and output; None is the default. `class_weight`
        may also be a dict from label to weight, 1 for labels that it lacks; sample weights are multiplied by
        those of the classes.

    Returns
    -------
    Model
        The network after the last epoch; with `patience` of the best one; with `average_epochs` the mean.

    Warns
    -----
    UserWarning
        The features differ in scale, and no setting says how to normalise them; labels seem quantities;
        integers of a table are nullable, or taken for floats because some are missing; no epoch is better
        than the initial network; or no sample has a label below the largest one, without `classes`.

    Raises
    ------
    ConfigError
        A setting is unknown, out of range, or contradicts another or the data; or the folder of the run
        exists already or cannot be written.
    DataError
        Rows, labels or weights are not as described above, or the run to extend is damaged.
    BackendError
        The backend or device is not usable here.
    DivergedError
        The loss became infinite or NaN.
    """
    keywords.check_names(settings, keywords.OF_FIT, "fit")
    folder = read_folder(run, extend, overwrite=overwrite, report=report, track=track, tags=tags)
    own = {"validation": 1} if validation_data else {}  # which a patience needs
    if own and settings.get("validation"):
        msg = "fit: validation: takes rows out of X, but there are validation_data: give one of the two"
        raise ConfigError(msg)
    config, explicit = keywords.from_keywords({**settings, "extend": extend, **own}, "fit", recipe)
    explicit -= own.keys()  # nobody has set them
    config, parent = replace(config, **folder), None
    if extend is not None:
        config, parent = extend_settings(Path(extend), config, explicit | folder.keys())
    if classes is not None:
        integer_from(1).check("fit: classes", keywords.to_python(classes))
    weights = sample_weight, settings.get("class_weight")
    arrays = (X, y), validation_data, weights, classes
    options = TableOptions(**config.table_options)
    data = _make_recorded(parent, *arrays) if parent else make_dataset(options, *arrays)
    if validation_data:
        config = replace(config, validation=len(data.y_test))
    scales = None if "normalize" in explicit or parent else scale_note(data.x_train)
    quantities = None if data.columns.classes else quantity_note(data.y_train)
    counts = None if parent else count_note(data.x_train, data.columns)
    absent = absent_note(data) if classes is None and data.weights is None else None
    for note in filter(None, (*data.notes, scales, quantities, counts, absent)):
        warn_user(note)
    users = UserCallbacks(callback, callbacks)
    return train_model(config, data, backend_of(X), users, verbose=verbose, parent=parent)[0]


def _make_recorded(run: RunFolder, *arrays: Any) -> Dataset:
    """Return the data set of ``make_dataset``, with integers as the training of a run took them.

    Before 0.4, nullable ones were floats.
    """
    options = TableOptions(**run.config.table_options)
    with suppress(DataError):
        data = make_dataset(options, *arrays, floats=True)
        if not run.find_other_data(data.name, digest(data)):
            for note in data.notes:
                warn_user(f"{note}, as in {run.path}")
            return replace(data, notes=())
    return make_dataset(options, *arrays)


def read_folder(run: str | Path | None, extend: object = None, **settings: Any) -> Json:
    """Return the settings of the folder of a run, with its path.

    Raises
    ------
    ConfigError
        One is not allowed, or there is no folder for it.
    """
    for name in settings.keys() & {"track", "tags"}:
        words = settings[name]
        settings[name] = (words,) if isinstance(words, str) else tuple(words)
    if run is None:
        for name in "overwrite", "extend", "track", "tags":
            if {**settings, "extend": extend}.get(name):
                raise ConfigError(f"fit: {name}: expected run too, the folder of the record")
        return {}
    settings |= {"out": Path(run).parent, "name": Path(run).name}
    for name, value in settings.items():
        RULES[name].check(f"fit: {'run' if name in ('out', 'name') else name}", value)
    check_installed(settings["track"])
    return settings


def warn_user(text: str) -> None:
    """Warn at the line of the first frame outside of this package."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals["__name__"].startswith(("xpnet.", "contextlib")):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def train_model(
    config: TrainConfig,
    data: Dataset,
    like: Backend | None,
    users: UserCallbacks,
    *,
    verbose: bool,
    parent: RunFolder | None = None,
    start: tuple[Model, TrainState] | None = None,
    epochs: int | None = None,
) -> tuple[Model, TrainState]:
    """Train from the initial state, from ``start`` or from the state of a parent.

    Return the network and the last state, with host arrays: the ``start`` of further training. It ends at
    epoch ``epochs``, by default that of the settings, and is recorded if they name the folder of a run.
    ``like`` is the backend of the user's arrays. Errors as in ``fit``.
    """
    begin = time.time()
    normalization = start[0].network.normalization if start else None
    run = None
    opened = open_training(config, data, like=like, normalization=normalization, warn=warn_user)
    with opened as (trainer, selection):
        if config.name:
            run, result = _fit_recorded(trainer, selection, users, parent, verbose=verbose)
        else:
            state, last = trainer.initial_state(), config.epochs if epochs is None else epochs
            if start:
                if tree_map(np.shape, start[1].variables) != tree_map(np.shape, state.variables):
                    msg = "hidden, batch_norm, optimizer: expected those that the training began with"
                    raise ConfigError(msg)
                state = start[1]._replace(variables=trainer.to_device(start[1].variables))
            final = build_final(config, state.epoch, last)
            order = order_callbacks(Evaluate(last=max(config.epochs, last), final=final), users.order)
            if verbose:
                from xpnet.training.console import TrainingConsole

                order.append(TrainingConsole(trainer, last))
            result = trainer.fit(order, state, last)
        if result.interrupted:
            raise KeyboardInterrupt
        network = trainer.model(result.best)
        rows = users.rows
        best = result.best_epoch
        if note := initial_note(trainer.best_by, result):
            warn_user(note)
        state = result.state._replace(variables=trainer.to_host(result.state.variables))
    ended, epoch = time.time(), state.epoch

    def make_record() -> Record:
        info = describe_run(config, selection, data)
        chosen, extra = (epoch, {}) if best is None else (best, {"best_epoch": best})
        metrics = next((row for row in rows if row["epoch"] == chosen), {})
        metrics = {**metrics, "epochs": epoch, "seconds": round(ended - begin, 3), **extra}
        return complete_record(info, begin, ended, metrics=metrics, fingerprint=network.fingerprint)

    model = Model.from_settings(network, config, rows)
    model.best_epoch = best
    model._training = data, make_record
    if run:
        model.run = run.folder
        model._training = data, lambda: run.record
    return model, state


def _fit_recorded(
    trainer: Trainer, selection: Selection, users: UserCallbacks, parent: RunFolder | None, *, verbose: bool
) -> tuple[WritableRun, FitResult]:
    """Train with a record. Return the run too."""
    from xpnet.recording.recorder import record
    from xpnet.training.console import TrainingConsole

    config = trainer.config
    if parent:
        check_data(parent, trainer.data, "extend")
    console = TrainingConsole(trainer, config.epochs, quiet=not verbose)
    info = describe_run(config, selection, trainer.data, parent)
    run = WritableRun.start(config.out, config.name, info, overwrite=config.overwrite)
    recorded = record(trainer, run, console, parent, users=users.order, notify=warn_user)
    with recorded as (callbacks, state, first):
        return run, trainer.fit(callbacks, state, first_epoch=first)


@dataclass(frozen=True)
class Verification:
    """The result of a verification, which is true if everything is the same."""

    difference: str | None
    """The first difference, in words; None if there is none."""

    start: tuple[Path, str | None] | None = None
    """The file that the training was computed from, and its SHA-256; None if it starts from the seed."""

    not_compared: Names = ()
    """The files that are missing, although the record has their digest, and those that no training writes."""

    def __bool__(self) -> bool:
        return self.difference is None


@keywords.with_keywords
@check_arguments
def verify(
    run: str | Path,
    X: object = None,
    y: object = None,
    *,
    validation_data: tuple[object, object] | None = None,
    sample_weight: object = None,
    class_weight: Mapping[Any, float] | None = None,
    between: tuple[int, int] | None = None,
    device: str = "auto",
    backend: BackendName = "auto",
    workers: Literal["auto"] | int = "auto",
    verbose: bool = False,
) -> Verification:
    """Train again with the settings of a record, and compare every result bit by bit, as `xpnet verify` does.

    Parameters
    ----------
    run
        The folder of the run.
    X, y, validation_data, sample_weight, class_weight
        The data and weights of a training by `fit`, as they were passed to it. The data of `xpnet train` are
        read from their files: leave all of these out.
    between
        Two epochs (A, B): verify those after A up to B alone, from the checkpoint that was kept after A.
    device, backend, workers
        Where to compute, as for `fit`; not necessarily where the training was.
    verbose
        Print the metrics of the epochs, with a progress bar.

    Returns
    -------
    Verification
        True if everything is the same; else `difference` names the first epoch, metric or layer that differs.

    Raises
    ------
    ConfigError
        It cannot be verified: the data are others, the arithmetic was native, the training has not ended, or
        it followed another version of the specification.
    DataError
        There is no run, or one of its files is damaged; or the data are not as `fit` takes them.
    BackendError
        The backend or device is not usable here.
    """
    from xpnet.recording.recorded_run import RecordedRun, check_recorded, find_file_difference
    from xpnet.recording.verification import find_difference

    recorded = RecordedRun(Path(run))
    if difference := find_file_difference(recorded, all_files=False):
        return Verification(difference)
    check_recorded(recorded, between)
    place: Json = {"device": device, "backend": backend, "workers": workers}
    config, data = replace(recorded.config, **place, require_device=False, quiet=not verbose), None
    if X is None:
        recorded.check_files("pass them")
    else:
        classes = recorded.record["data"].get("classes")
        data = _make_recorded(recorded, (X, y), validation_data, (sample_weight, class_weight), classes)
        if "feature_names" not in recorded.record["data"]:  # before 0.4, not every table's were read
            data = replace(data, columns=replace(data.columns, features=None))
    with open_training(config, data, like=backend_of(X), warn=warn_user) as (trainer, _):
        not_compared = (*recorded.missing, *recorded.others)
        return Verification(find_difference(recorded, trainer), recorded.initial_file, not_compared)
