"""Training from Python: arrays in, a trained network out. It writes no files and prints nothing.

``fit`` is `xpnet train` without the command line: the same settings, code and fingerprint.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.tree import tree_map
from xpnet.backends.base import Backend, NamespaceMismatchError, check_namespace
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import resolve
from xpnet.config import TrainConfig
from xpnet.config.rules import integer_from
from xpnet.config.settings import Arithmetic, RunSettings
from xpnet.config.sources import from_json
from xpnet.data.datasets import Dataset, join_halves
from xpnet.data.table import Table, as_features, as_labels
from xpnet.errors import ConfigError, DataError
from xpnet.inference.evaluation import Evaluation, evaluate
from xpnet.inference.predictor import Predictor, model_path
from xpnet.nn.architecture import format_sizes
from xpnet.nn.inputs import Normalization
from xpnet.storage.model_file import SavedModel, fingerprint, load_model, save_model
from xpnet.storage.record import METRICS_FILE, read_metrics
from xpnet.training.callbacks import Callback, EarlyStopping, EpochLog, Evaluate
from xpnet.training.state import TrainState
from xpnet.training.trainer import Trainer, select_backend

if TYPE_CHECKING:
    from xpnet._typing import Array

COMMAND_LINE_ONLY = {"data", "test_data", "repeats"} | {field.name for field in fields(RunSettings)}
COMMAND_LINE_ONLY -= {"log_every"}
"""Settings of what the command reads, writes and prints, which ``fit`` does not."""


@dataclass(frozen=True)
class Epoch:
    """A finished epoch."""

    epoch: int
    """Epochs that are complete; 0 is before the first."""

    figures: dict[str, float]
    """train_loss, train_accuracy, validation_loss and validation_accuracy: those of the training samples each
    `log_every` epochs and at the end, those of validation samples, if there are any, always."""


EpochFunction = Callable[[Epoch], object]
"""Called after each epoch, and before the first; training ends if it returns True."""


class Model:
    """A trained network.

    Rows given to it are as those it was trained on: uint8 pixels or floats, (m, features), raw. They
    may be NumPy arrays, lists, pandas data frames, or arrays of the model's backend. What it returns are
    NumPy arrays.

    Parameters
    ----------
    network
        The parameters.
    history
        The figures of the epochs it was trained for, a mapping each, with `epoch`.
    device, backend, arithmetic
        The device, array library and arithmetic, as in `fit`. By default the arithmetic is reproducible
        for float64 parameters and native for float32.
    """

    def __init__(
        self,
        network: SavedModel,
        history: Iterable[Mapping[str, float]] = (),
        *,
        device: str = "auto",
        backend: str = "auto",
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.network = network
        self.history = [dict(row) for row in history]
        self.device, self.backend, self.arithmetic = device, backend, arithmetic

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features and the units of each layer; the last are the classes."""
        return self.network.sizes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the parameters, as `xpnet train` prints it."""
        return fingerprint(self.network.layers, self.network.norms)

    def predict(self, X: object) -> NDArray[np.int64]:
        """Return the class of each row, (m,).

        Raises
        ------
        DataError
            The rows are not numbers, or do not have the network's features.
        """
        return self.predictor.predict(_features(X, self.predictor.backend))

    def predict_proba(self, X: object) -> NDArray[np.floating]:
        """Return the probability of each class, (m, classes); errors as in `predict`.

        float64 in reproducible arithmetic, else of the dtype of the parameters.
        """
        return self.predictor.probabilities(_features(X, self.predictor.backend))

    def logits(self, X: object) -> NDArray[np.floating]:
        """Return what the softmax makes the probabilities of, (m, classes); else as `predict_proba`."""
        return self.predictor.logits(_features(X, self.predictor.backend))

    def evaluate(self, X: object, y: object) -> Evaluation:
        """Return how well the network does on rows with labels (m,); the loss is the cross-entropy.

        Raises
        ------
        DataError
            As in `predict`; or there are not as many labels, or one that the network has no class for.
        """
        table = _table(X, y, self.predictor.backend)
        return evaluate(self.predictor, table.x, table.y)

    def save(self, path: str | Path) -> None:
        """Write the network to a .safetensors file: completely, or not at all.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        save_model(Path(path), self.network)

    @cached_property
    def predictor(self) -> Predictor:
        """The network on its backend; built at first use."""
        backend = resolve(self.device, self.backend).backend
        return Predictor(self.network, backend, self.arithmetic)

    def __getstate__(self) -> dict[str, object]:
        # What computes is made anew where the copy is used.
        return {name: part for name, part in vars(self).items() if name != "predictor"}

    def __repr__(self) -> str:
        return f"<xpnet.Model {format_sizes(self.sizes)}, fingerprint {self.fingerprint[:16]}>"


def load(
    path: str | Path, *, device: str = "auto", backend: str = "auto", arithmetic: Arithmetic | None = None
) -> Model:
    """Return the network of a run's folder, with its history, or in a .safetensors file.

    Raises
    ------
    DataError
        There is no model, or it is damaged.
    """
    path = Path(path)
    network = load_model(model_path(path))
    rows = read_metrics(path / METRICS_FILE) if (path / METRICS_FILE).is_file() else []
    return Model(network, rows, device=device, backend=backend, arithmetic=arithmetic)


def fit(
    X: object,
    y: object,
    *,
    validation_data: tuple[object, object] | None = None,
    classes: int | None = None,
    callback: EpochFunction | None = None,
    **settings: object,
) -> Model:
    """Train a network.

    Parameters
    ----------
    X
        (m, features): uint8 pixels or floats. Whole numbers of another type are pixels, too, and must
        be from 0 to 255. NumPy arrays, lists, pandas data frames, or arrays of the chosen backend.
    y
        (m,) labels: 0, 1, 2 and so on.
    validation_data
        Rows and labels that are not trained on. They are evaluated after each epoch, and with
        `patience` they tell when to stop. `validation=N` takes N of the rows in `X` instead.
    classes
        The number of classes; by default one more than the largest label.
    callback
        Called after each epoch with an `Epoch`, and before the first; training ends if it returns True.
    **settings
        Those of `xpnet train`, with their defaults, but for those of files and output. With a patience
        the model is that of the best epoch.

    Raises
    ------
    ConfigError
        A setting is unknown, out of range, or contradicts another or the data.
    DataError
        Rows or labels are not as described above.
    BackendError
        The backend or device is not usable here.
    DivergedError
        The loss became infinite or NaN.
    """
    for name in sorted(COMMAND_LINE_ONLY & settings.keys()):
        msg = f"fit: {name}: belongs to xpnet train, for it is about files or output: leave it out"
        raise ConfigError(msg)
    if validation_data is not None:
        if settings.get("validation"):
            msg = "fit: validation: takes rows out of X, but there are validation_data: give one of the two"
            raise ConfigError(msg)
        settings["validation"] = 1  # which a patience needs
    config = checked(settings, "fit")
    patience = config.patience
    if validation_data is not None:
        config = replace(config, patience=None, validation=0)
    if classes is not None:
        integer_from(1).check("fit: classes", _plain(classes), classes)
    backend = chosen_backend(config)
    training, validation = _table(X, y, backend), None
    if validation_data is not None:
        validation = _table(*validation_data, backend, " in validation_data")
    data = in_memory(training, validation, classes)
    return train(config, backend, data, patience=patience, callback=callback)[0]


# What the estimator shares


@dataclass(frozen=True)
class InMemory(Dataset):
    """Arrays as a data set: its test samples, of which there may be none, are those to validate with."""

    number_of_classes: int

    @property
    def classes(self) -> int:
        """Number of classes, which the labels need not show."""
        return self.number_of_classes


class Progress(NamedTuple):
    """The state of training to continue from, as host arrays, and the normalisation of the inputs."""

    state: TrainState
    normalization: Normalization


def in_memory(training: Table, validation: Table | None = None, classes: int | None = None) -> InMemory:
    """Return a data set of these tables.

    Raises
    ------
    DataError
        They do not go together, or a label is too large for so many classes.
    """
    test = Table(training.x[:0], training.y[:0], "", "") if validation is None else validation
    if classes is None:
        classes = int(max(table.y.max(initial=0) for table in (training, test))) + 1
    for table in (training, test):
        largest = int(table.y.max(initial=0))
        if largest >= classes:
            msg = f"{table.y_from}: expected labels from 0 to {classes - 1}, got {largest}"
            raise DataError(msg)
    data = join_halves("arrays", training, test)
    return InMemory(**vars(data), number_of_classes=classes)


def checked(arguments: Mapping[str, object], source: str) -> TrainConfig:
    """Return settings from Python's or NumPy's values; None stands for the default.

    Raises
    ------
    ConfigError
        A setting is unknown, out of range or contradicts another: one line that begins with `source`.
    """
    settings = {name: _plain(value) for name, value in arguments.items()}
    rates = settings.get("learning_rate")
    if isinstance(rates, list) and len(rates) > 1:
        msg = f"{source}: learning_rate: expected one number, got {rates}"
        raise ConfigError(msg)
    return from_json(settings, source)


def chosen_backend(config: TrainConfig) -> Backend:
    """Return the backend that the settings ask for; warn where the CPU takes the place of a GPU.

    Raises
    ------
    BackendError
        It is not usable here.
    """
    selection = select_backend(config)
    if selection.warning is not None:
        warnings.warn(selection.warning, stacklevel=3)
    return selection.backend


def host_array(array: object, backend: Backend) -> object:
    """Return an array of the backend's as a NumPy array, and anything else as it is."""
    try:
        check_namespace(backend, array)
    except NamespaceMismatchError:
        return array
    return backend.to_host(cast("Array", array))


def train(
    config: TrainConfig,
    backend: Backend,
    data: InMemory,
    *,
    patience: int | None = None,
    callback: EpochFunction | None = None,
    begin: Progress | None = None,
    epochs: int | None = None,
) -> tuple[Model, Progress]:
    """Train from the start or from ``begin``, for so many epochs or up to those of the settings.

    Return the best network and the progress at the end; errors as in ``fit``.
    """
    normalization = None if begin is None else begin.normalization
    with Trainer.open(config, data, backend, normalization) as trainer:
        state = None if begin is None else _restored(trainer, begin.state)
        last = epochs if epochs is None or state is None else epochs + state.epoch
        validate = trainer.evaluate_test if len(data.y_test) else None
        history = _History(callback)
        evaluation = Evaluate(trainer, validate, max(config.epochs, last or 0))
        callbacks = [evaluation, EarlyStopping(patience), history]
        result = trainer.fit(callbacks, state, last)
        if result.interrupted:
            raise KeyboardInterrupt
        state = result.state._replace(variables=trainer.to_host(result.state.variables))
        where = {"device": config.device, "backend": config.backend}
        model = Model(trainer.model(result.best), history.rows, **where, arithmetic=config.arithmetic)
        return model, Progress(state, trainer.normalization)


class _History(Callback):
    """Keeps the metrics of the epochs, and asks the user's function whether to stop."""

    def __init__(self, function: EpochFunction | None) -> None:
        self._function = function
        self.rows: list[dict[str, float]] = []

    def on_epoch_end(self, log: EpochLog) -> None:
        """Keep the metrics of a logged epoch."""
        if log.metrics:
            self.rows.append({"epoch": log.epoch, **log.metrics})
        answer = None if self._function is None else self._function(Epoch(log.epoch, log.metrics))
        # What else functions happen to return, such as numbers of characters, is no wish.
        if isinstance(answer, bool | np.bool_) and answer:
            self.stop = "callback"


def _restored(trainer: Trainer, state: TrainState) -> TrainState:
    """Return a state on the host on the device of a trainer, whose network must have its shapes."""
    shapes = [tree_map(np.shape, start.variables) for start in (trainer.initial_state(), state)]
    if shapes[0] != shapes[1]:
        msg = "hidden, batch_norm, optimizer: expected those that the training began with"
        raise ConfigError(msg)
    return trainer.restored(state)


# From arguments to settings and arrays


def _plain(value: object) -> object:
    """Return NumPy's numbers as Python's, and arrays and tuples as lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _table(X: object, y: object, backend: Backend, where: str = "") -> Table:
    x_from, y_from = f"X{where}", f"y{where}"
    x, numbers = _features(X, backend, x_from), _numbers(y, backend, y_from)
    return Table(x, as_labels(numbers, numbers.shape, y_from), x_from, y_from)


def _features(X: object, backend: Backend, where: str = "X") -> NDArray[np.generic]:
    numbers = _numbers(X, backend, where)
    return as_features(numbers, numbers.shape, where)


def _numbers(values: object, backend: Backend, where: str) -> NDArray[np.generic]:
    """Return anything that holds numbers as a NumPy array."""
    try:
        array = np.asarray(host_array(values, backend))
        if array.dtype == object:  # Python's numbers, and missing ones
            array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # each library raises its own
        msg = f"{where}: expected an array of numbers, got a {type(values).__name__}: {one_line(error)}"
        raise DataError(msg) from error
    if array.dtype.kind not in "buif":
        msg = f"{where}: expected an array of numbers, got {array.dtype}"
        raise DataError(msg)
    return array
