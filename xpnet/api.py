"""The Python API: a trained network, and the hooks of its training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from xpnet._lib.files import save
from xpnet._lib.kinds import check_arguments
from xpnet._typing import HostArray, Json, Names
from xpnet.backends.base import Backend
from xpnet.backends.resolve import backend_of, resolve
from xpnet.config import TrainConfig
from xpnet.config.keywords import with_keywords
from xpnet.config.settings import Arithmetic
from xpnet.data.arrays import like_input, read_features, table_from_arrays
from xpnet.data.datasets import Dataset
from xpnet.data.texts import TableOptions
from xpnet.errors import ConfigError
from xpnet.inference.predictor import Evaluation, Predictor, evaluate_rows, model_path
from xpnet.nn.architecture import format_sizes
from xpnet.storage.folder import RunFolder
from xpnet.storage.model_file import TrainedNetwork, describe_layers, encode_model, load_model
from xpnet.storage.record import RECORD_FILE, Record
from xpnet.training import loop

History = Sequence[Mapping[str, float]]
"""The metrics of the logged epochs."""


@dataclass(eq=False)
class Model:
    """A trained network.

    Its methods take raw rows (m, features) like those it was trained on, uint8 pixels or floats: NumPy
    arrays, lists, tables of pandas, polars or pyarrow, or arrays of PyTorch, JAX, CuPy, dpnp or
    array-api-strict, on any device. They return arrays of that library on that device; NumPy arrays for lists
    and tables. The columns of a table are found by their names, if those of the training had names.

    Parameters
    ----------
    network
        The parameters.
    history
        The metrics of the logged epochs: a mapping for each, with `epoch`.
    device, backend, arithmetic
        The device, array library and arithmetic, as in `fit`; with both "auto", those of the rows. By
        default the arithmetic is reproducible for float64 parameters and native for float32.
    run
        The folder of the run, if it is recorded.
    best_epoch
        The epoch whose parameters these are, if early stopping chose it; else None.
    """

    network: TrainedNetwork
    history: History = ()
    _: KW_ONLY
    device: str = "auto"
    backend: str = "auto"
    arithmetic: Arithmetic | None = None
    run: Path | None = None
    best_epoch: int | None = None
    _training: tuple[Dataset, Callable[[], Record]] | None = field(default=None, init=False)
    """The data of the training, and a function that returns its record."""

    @classmethod
    def from_settings(cls, network: TrainedNetwork, config: TrainConfig, history: History = ()) -> Self:
        """Return a network as a model that computes where its training did."""
        return cls(
            network, history, device=config.device, backend=config.backend, arithmetic=config.arithmetic
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of features, and of the units of each layer; the last is that of classes."""
        return self.network.sizes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the parameters, as `xpnet train` prints it."""
        return self.network.fingerprint

    @property
    def class_names(self) -> Names | None:
        """The names of the classes, in the order of their numbers; None if they have none."""
        return self.network.columns.classes

    @property
    def feature_names(self) -> Names | None:
        """The names of the features; None if they have none."""
        return self.network.columns.features

    def predict(self, X: object) -> Any:
        """Return the class of each row, (m,): its name if the classes have names, else its number (int64).

        Names are always a NumPy array, for other libraries have no text.

        Raises
        ------
        DataError
            The rows are not numbers, or do not have the network's features.
        """
        predictor, rows = self._predictor(X)
        numbers = predictor.predict(rows)
        if self.class_names is None:
            return like_input(numbers, X)
        return np.array(self.class_names)[numbers]

    def predict_proba(self, X: object, *, as_frame: bool = False) -> Any:
        """Return the probability of each class, (m, classes); errors as in `predict`.

        float64 in reproducible arithmetic, else of the dtype of the parameters; JAX has 32 bits unless
        ``jax_enable_x64`` is set. With `as_frame` a data frame of pandas with the names of the classes.
        """
        predictor, rows = self._predictor(X)
        return like_input(predictor.outputs(rows)[1], X, predictor.class_names if as_frame else None)

    def logits(self, X: object) -> Any:
        """Return the logits, the inputs of the softmax, (m, classes); dtype and errors as `predict_proba`."""
        predictor, rows = self._predictor(X)
        return like_input(predictor.outputs(rows)[0], X)

    def evaluate(self, X: object, y: object) -> Evaluation:
        """Return metrics on rows (m, features) with labels (m,), in NumPy; the loss is the cross-entropy.

        Raises
        ------
        DataError
            As in `predict`; or rows and labels differ in number, or a label is none of the classes.
        """
        table = table_from_arrays(X, y, "", TableOptions.of(self.network.columns), floats=True)
        return evaluate_rows(self.select_predictor(backend_of(X)), table.x, table.y, "the data")

    def score(self, X: object, y: object) -> float:
        """Return the accuracy on rows (m, features) with labels (m,); errors as in `evaluate`."""
        return self.evaluate(X, y).accuracy

    @check_arguments
    def save(self, path: str | Path) -> None:
        """Write the network to a .safetensors file, atomically.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        save(Path(path), encode_model(self.network))

    def summary(self) -> str:
        """Return a table of the layers: the shape of their outputs for m rows, and their parameters."""
        return _Text(describe_layers(self.network))

    @check_arguments
    def report(self, path: str | Path = "report.html") -> None:
        """Write the report, the page that `xpnet report` writes, atomically.

        It evaluates the test samples of a run of `xpnet train`. Of a training by `fit`, whose data the model
        keeps for it, it evaluates the validation samples, or without these the training samples.

        Raises
        ------
        ConfigError
            The model comes from a model file, which has no record of the training; or the page cannot be
            written.
        DataError
            The data of a loaded run are missing or have changed, or were arrays.
        """
        from xpnet.report import write_report
        from xpnet.report.page import render_training

        path = Path(path)
        if self._training:
            data, make_record = self._training
            record = make_record()
            save(path, render_training(record["id"], record, self.network, self.history, data))
        elif self.run:
            write_report(self.run, out=path)
        else:
            known = "a model that xpnet.fit has returned or that was loaded from a run's folder"
            raise ConfigError(f"report: expected {known}")

    @property
    def predictor(self) -> Predictor:
        """The network on its backend; built at first use."""
        return self.select_predictor(None)

    @with_keywords
    def select_predictor(self, like: Backend | None) -> Predictor:
        """Return the network on the backend of the user's arrays, if `device` and `backend` are "auto"."""
        if not self.device == self.backend == "auto":
            like = None
        key = (like.name, like.device_name) if like else None
        if key not in self._predictors:
            backend = resolve(self.device, self.backend, like=like).backend
            self._predictors[key] = Predictor(self.network, backend, self.arithmetic)
        return self._predictors[key]

    @cached_property
    def _predictors(self) -> dict[tuple[str, str] | None, Predictor]:
        return {}

    def _predictor(self, X: object) -> tuple[Predictor, HostArray]:
        """Return the predictor of rows, and the rows in NumPy."""
        rows, _ = read_features(X, "X", TableOptions.of(self.network.columns))
        return self.select_predictor(backend_of(X)), rows

    def __getstate__(self) -> Json:
        # The predictors, which hold a library's arrays, are rebuilt after unpickling; data are left out.
        return {name: value for name, value in vars(self).items() if name not in ("_predictors", "_training")}

    def __repr__(self) -> str:
        return f"<xpnet.Model {format_sizes(self.sizes)}, fingerprint {self.fingerprint[:16]}>"


@with_keywords
@check_arguments
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
    model = Model(load_model(model_path(path)), [], device=device, backend=backend, arithmetic=arithmetic)
    if path.is_dir():
        model.run, run = path, RunFolder(path)
        model.history = [{name: row[name] for name in row if name != "fingerprint"} for row in run.history]
        best = (run.record["metrics"] or {}).get("best_epoch") if (path / RECORD_FILE).is_file() else None
        model.best_epoch = best if isinstance(best, int) else None
    return model


class _Text(str):
    """Text of several lines, which Python and Jupyter show as it is."""

    __slots__ = ()
    __repr__ = str.__str__


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


class Callback(loop.LoopCallback):
    """The hooks of the training loop, for the `callbacks` of `fit`: a subclass overrides those it needs.

    Training ends before the next step once the attribute ``stop`` is the reason, a text.
    """

    needs_every_epoch = True

    def __init_subclass__(cls) -> None:
        cls.needs_every_step = cls.on_step_end is not Callback.on_step_end

    @property
    def model(self) -> Model:
        """The network as it is now, a copy; in ``on_train_end`` the trained one.

        Raises
        ------
        ConfigError
            There is no training at the moment.
        """
        if not self._now:
            raise ConfigError("callbacks: expected `model` to be read during training, in one of the hooks")
        trainer, state = self._now
        return Model.from_settings(trainer.model(state), trainer.config)


class _CallFunction(loop.LoopCallback):
    """Calls a function after each epoch, which ends training if it returns True."""

    def __init__(self, function: EpochFunction) -> None:
        self._function = function

    def on_epoch_end(self, log: loop.EpochLog) -> None:
        """Call the function."""
        answer = self._function(Epoch(log.epoch, log.metrics))
        # Other return values, such as the number of characters written, do not stop training.
        self.stop = "callback" if isinstance(answer, bool | np.bool_) and answer else None


class UserCallbacks(loop.LoopCallback):
    """Keeps the metrics of the epochs, after the user's function and callbacks.

    An epoch in which one of them ends training has metrics of the training samples too.

    Attributes
    ----------
    order
        The user's callbacks, and then this one.
    rows
        The epochs with their metrics.
    """

    @check_arguments
    def __init__(self, function: EpochFunction | None = None, callbacks: Sequence[Callback] = ()) -> None:
        for user in callbacks:
            vars(user).pop("stop", None)  # of an earlier training
        first = [] if function is None else [_CallFunction(function)]
        self.order = [*first, *callbacks, self]
        self.rows: list[Json] = []

    def on_epoch_end(self, log: loop.EpochLog) -> None:
        """Keep the metrics."""
        if not log.training and any(user.stop for user in self.order):
            log.training = self._trainer.evaluate(log.state)
        if log.metrics:
            self.rows.append({"epoch": log.epoch, **log.metrics})
