"""Training from Python: arrays in, a trained network out. It writes no files and prints nothing.

``fit`` is `xpnet train` without the command line: the same settings, code and fingerprint.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.tree import tree_map
from xpnet.backends.base import Backend
from xpnet.backends.resolve import resolve
from xpnet.config import TrainConfig
from xpnet.config.keywords import OF_FIT, check_names, from_keywords, name_keywords, to_python, with_keywords
from xpnet.config.rules import integer_from
from xpnet.config.settings import Arithmetic
from xpnet.data.arrays import table_from_arrays, to_features
from xpnet.data.datasets import Dataset, join_halves
from xpnet.data.table import Table
from xpnet.data.weights import weigh_samples
from xpnet.errors import ConfigError, DataError
from xpnet.inference.predictor import Evaluation, Predictor, evaluate, model_path
from xpnet.nn.architecture import format_sizes
from xpnet.nn.inputs import Normalization, scale_note
from xpnet.storage.model_file import SavedModel, fingerprint, load_model, save_model
from xpnet.storage.record import METRICS_FILE, read_metrics
from xpnet.training.callbacks import Callback, EarlyStopping, EpochLog, Evaluate
from xpnet.training.state import TrainState
from xpnet.training.trainer import Trainer, select_backend


@dataclass(frozen=True)
class Epoch:
    """The metrics after an epoch."""

    epoch: int
    """The number of completed epochs; 0 is before the first."""

    metrics: dict[str, float]
    """train_loss, train_accuracy, validation_loss and validation_accuracy. Those of the training samples are
    present in the epochs that `log_every` logs, those of validation samples, if there are any, always."""

    @property
    def figures(self) -> dict[str, float]:
        """The old name of `metrics`, deprecated."""
        warnings.warn("Epoch.figures is now Epoch.metrics", DeprecationWarning, stacklevel=2)
        return self.metrics


EpochFunction = Callable[[Epoch], object]
"""Called after each epoch, and before the first; training ends if it returns True."""


@dataclass(eq=False)
class Model:
    """A trained network.

    Its methods take raw rows (m, features) like those it was trained on, uint8 pixels or floats: NumPy
    arrays, lists, pandas data frames, or arrays of the model's backend. They return NumPy arrays. The columns
    of a data frame are found by their names, if those of the training had names.

    Parameters
    ----------
    network
        The parameters.
    history
        The metrics of the logged epochs: a mapping for each, with `epoch`.
    device, backend, arithmetic
        The device, array library and arithmetic, as in `fit`. By default the arithmetic is reproducible
        for float64 parameters and native for float32.
    """

    network: SavedModel
    history: Sequence[Mapping[str, float]] = ()
    _: KW_ONLY
    device: str = "auto"
    backend: str = "auto"
    arithmetic: Arithmetic | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of features, and of the units of each layer; the last is that of classes."""
        return self.network.sizes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the parameters, as `xpnet train` prints it."""
        return fingerprint(self.network.layers, self.network.norms)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, in the order of their numbers; None if they have none."""
        return self.network.columns.classes

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the features; None if they have none."""
        return self.network.columns.features

    def predict(self, X: object) -> NDArray[np.generic]:
        """Return the class of each row, (m,): its name if the classes have names, else its number.

        Raises
        ------
        DataError
            The rows are not numbers, or do not have the network's features.
        """
        numbers: NDArray[np.int64] = self.logits(X).argmax(axis=1)
        return numbers if self.class_names is None else np.array(self.class_names)[numbers]

    def predict_proba(self, X: object) -> NDArray[np.floating]:
        """Return the probability of each class, (m, classes); errors as in `predict`.

        float64 in reproducible arithmetic, else of the dtype of the parameters.
        """
        return self.predictor.outputs(self._to_features(X))[1]

    def logits(self, X: object) -> NDArray[np.floating]:
        """Return the logits, the inputs of the softmax, (m, classes); dtype and errors as `predict_proba`."""
        return self.predictor.outputs(self._to_features(X))[0]

    def evaluate(self, X: object, y: object) -> Evaluation:
        """Return metrics on rows (m, features) with labels (m,); the loss is the cross-entropy.

        Raises
        ------
        DataError
            As in `predict`; or rows and labels differ in number, or a label is none of the classes.
        """
        table = table_from_arrays(X, y, self.predictor.backend, columns=self.network.columns)
        return evaluate(self.predictor, table.x, table.y)

    def save(self, path: str | Path) -> None:
        """Write the network to a .safetensors file, atomically.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        save_model(Path(path), self.network)

    @cached_property
    @with_keywords
    def predictor(self) -> Predictor:
        """The network on its backend; built at first use."""
        backend = resolve(self.device, self.backend).backend
        return Predictor(self.network, backend, self.arithmetic)

    def _to_features(self, X: object) -> NDArray[np.generic]:
        return to_features(X, self.predictor.backend, "X", self.network.columns)

    def __getstate__(self) -> dict[str, object]:
        # The predictor, which holds a library's arrays, is rebuilt after unpickling.
        return {name: value for name, value in vars(self).items() if name != "predictor"}

    def __repr__(self) -> str:
        return f"<xpnet.Model {format_sizes(self.sizes)}, fingerprint {self.fingerprint[:16]}>"


@with_keywords
def load(
    path: str | Path, *, device: str = "auto", backend: str = "auto", arithmetic: Arithmetic | None = None
) -> Model:
    """Load a network from a run's folder, with its history, or from a .safetensors file; else as `Model`.

    Raises
    ------
    DataError
        There is no model, or it is damaged.
    """
    path = Path(path)
    network = load_model(model_path(path))
    rows = read_metrics(path / METRICS_FILE) if (path / METRICS_FILE).is_file() else []
    return Model(network, rows, device=device, backend=backend, arithmetic=arithmetic)


@with_keywords
def fit(
    X: object,
    y: object,
    *,
    recipe: str | Path | None = None,
    validation_data: tuple[object, object] | None = None,
    classes: int | None = None,
    sample_weight: object = None,
    callback: EpochFunction | None = None,
    verbose: bool = False,
    **settings: object,
) -> Model:
    """Train a network; the same settings and data give the same fingerprint as `xpnet train`.

    Parameters
    ----------
    X
        (m, features): uint8 pixels or floats. Other integers are pixels, too, and must be from 0 to 255.
        NumPy arrays, lists, pandas data frames, or arrays of the backend.
    y
        (m,) labels: 0, 1, 2 and so on, or text, whose names the model keeps.
    recipe
        The name of a recipe, such as "tabular", or the path of a TOML file as for `--config`, whose settings
        of files and output are ignored. `settings` override it, as flags do.
    validation_data
        Validation samples: rows and labels. They are evaluated after each epoch, and `patience` stops
        training by them. `validation=N` holds out N of the rows in `X` instead, `validation=0.1` a tenth.
    classes
        The number of classes; by default one more than the largest label.
    sample_weight
        (m,) weights of the samples in the loss that is minimised: finite numbers, 0 or more, of which only
        the ratios matter. A sample of weight 0 is left out. Evaluation has no weights.
    callback
        Called after each epoch with an `Epoch`, and before the first; training ends if it returns True.
    verbose
        Print what `xpnet train` prints of the epochs, with its progress bar in a terminal; in Jupyter too, if
        ipywidgets is installed.
    **settings
        The settings of `xpnet train`, except those of files and output; None is the default. `class_weight`
        may also be a dict from label to weight, 1 for labels that it lacks; sample weights are multiplied by
        those of the classes.

    Returns
    -------
    Model
        The network after the last epoch; with `patience`, of the best epoch.

    Warns
    -----
    UserWarning
        The features differ in scale, and no setting says how to normalise them.

    Raises
    ------
    ConfigError
        A setting is unknown, out of range, or contradicts another or the data.
    DataError
        Rows, labels or weights are not as described above.
    BackendError
        The backend or device is not usable here.
    DivergedError
        The loss became infinite or NaN.
    """
    check_names(settings, OF_FIT, "fit")
    if validation_data is not None:
        if settings.get("validation"):
            msg = "fit: validation: takes rows out of X, but there are validation_data: give one of the two"
            raise ConfigError(msg)
        settings["validation"] = 1  # which a patience needs
    config, explicit = from_keywords(settings, "fit", recipe)
    patience = config.patience
    if classes is not None:
        integer_from(1).check("fit: classes", to_python(classes))
    backend = backend_from_settings(config)
    training, validation = table_from_arrays(X, y, backend), None
    note = None if "normalize" in explicit else scale_note(training.x)
    if note is not None:
        warnings.warn(name_keywords(note), stacklevel=3)
    if validation_data is not None:
        config, source = replace(config, patience=None, validation=0), " in validation_data"
        validation = table_from_arrays(*validation_data, backend, source, columns=training.columns)
    data = make_dataset(training, validation, classes)
    labels = data.columns.classes or range(data.classes)
    weighted = weigh_samples(data, sample_weight, settings.get("class_weight"), labels, backend)
    return train(config, backend, weighted, patience=patience, callback=callback, verbose=verbose)[0]


# Shared with the estimator


@dataclass(frozen=True)
class ArrayData(Dataset):
    """Arrays as a data set, whose test samples, of which there may be none, are validation samples."""

    number_of_classes: int = 0

    @property
    def classes(self) -> int:
        """The number of classes, of which some may have no samples."""
        return self.number_of_classes


class TrainingProgress(NamedTuple):
    """The state to continue training from, with host arrays, and the normalisation of the inputs."""

    state: TrainState
    normalization: Normalization


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
    data = join_halves("arrays", training, test)
    return ArrayData(**vars(data), number_of_classes=classes)


def backend_from_settings(config: TrainConfig) -> Backend:
    """Return the backend that the settings ask for; warn if the CPU replaces a GPU.

    Raises
    ------
    BackendError
        The backend or device is not usable here.
    """
    selection = select_backend(config)
    if selection.warning is not None:
        warnings.warn(name_keywords(selection.warning), stacklevel=4)
    return selection.backend


def train(
    config: TrainConfig,
    backend: Backend,
    data: Dataset,
    *,
    patience: int | None = None,
    callback: EpochFunction | None = None,
    verbose: bool = False,
    start: TrainingProgress | None = None,
    epochs: int | None = None,
) -> tuple[Model, TrainingProgress]:
    """Train from the initial state or from ``start`` to epoch ``epochs``, by default that of the settings.

    Return the best network, and the progress at the end; errors as in ``fit``.
    """
    normalization = None if start is None else start.normalization
    with Trainer.open(config, data, backend, normalization) as trainer:
        state = None if start is None else _restore_state(trainer, start.state)
        validate = trainer.evaluate_test if len(data.y_test) else None
        evaluation = Evaluate(trainer, validate, max(config.epochs, epochs or 0))
        history = _RecordHistory(callback)
        callbacks: list[Callback] = [evaluation, EarlyStopping(patience), history]
        if verbose:
            from xpnet.training.console import TrainingConsole

            callbacks.append(TrainingConsole(trainer, epochs or config.epochs))
        result = trainer.fit(callbacks, state, epochs)
        if result.interrupted:
            raise KeyboardInterrupt
        state = result.state._replace(variables=trainer.to_host(result.state.variables))
        names = {"device": config.device, "backend": config.backend}
        model = Model(trainer.model(result.best), history.rows, **names, arithmetic=config.arithmetic)
        return model, TrainingProgress(state, trainer.normalization)


class _RecordHistory(Callback):
    """Records the metrics of the epochs, and calls the user's function, which may stop training."""

    def __init__(self, function: EpochFunction | None) -> None:
        self._function = function
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, log: EpochLog) -> None:
        """Record the metrics of a logged epoch."""
        if log.metrics:
            self.rows.append({"epoch": log.epoch, **log.metrics})
        stop_requested = None if self._function is None else self._function(Epoch(log.epoch, log.metrics))
        # Other return values, such as the number of characters written, do not stop training.
        if isinstance(stop_requested, bool | np.bool_) and stop_requested:
            self.stop = "callback"


def _restore_state(trainer: Trainer, state: TrainState) -> TrainState:
    """Copy a state from the host to the trainer's device; ConfigError if its shapes differ."""
    expected = tree_map(np.shape, trainer.initial_state().variables)
    if tree_map(np.shape, state.variables) != expected:
        msg = "hidden, batch_norm, optimizer: expected those that the training began with"
        raise ConfigError(msg)
    return state._replace(variables=trainer.to_device(state.variables))
