"""Training from Python: arrays in, a trained network out. Without a `run`, it writes no files.

``fit`` is `xpnet train` without the command line: the same settings, code and fingerprint.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from xpnet.backends.base import Backend
from xpnet.backends.resolve import backend_of, resolve
from xpnet.config import TrainConfig
from xpnet.config.keywords import (
    OF_FIT,
    FitSettings,
    check_names,
    from_keywords,
    name_keywords,
    show_settings,
    to_python,
    with_keywords,
)
from xpnet.config.rules import integer_from
from xpnet.config.settings import Arithmetic, TrackerName
from xpnet.data.arrays import like_input, table_from_arrays, to_features
from xpnet.data.table import quantity_note
from xpnet.data.weights import weigh_samples
from xpnet.errors import ConfigError
from xpnet.fitting import (
    EpochFunction,
    Fitted,
    NetworkCallback,
    Training,
    Watchers,
    make_dataset,
    read_folder,
    select_from_settings,
    train,
)
from xpnet.inference.predictor import Evaluation, Predictor, evaluate, load_history, model_path
from xpnet.nn.architecture import format_sizes
from xpnet.nn.inputs import scale_note
from xpnet.recording.extension import extend_settings, read_parent
from xpnet.storage.model_file import SavedModel, describe_layers, fingerprint, load_model, save_model


class _Place(TypedDict):
    device: str
    backend: str
    arithmetic: Arithmetic


@dataclass(eq=False)
class Model:
    """A trained network.

    Its methods take raw rows (m, features) like those it was trained on, uint8 pixels or floats: NumPy
    arrays, lists, pandas data frames, or arrays of PyTorch, JAX, CuPy, dpnp or array-api-strict, on any
    device. They return arrays of that library on that device; NumPy arrays for lists and data frames. The
    columns of a data frame are found by their names, if those of the training had names.

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

    network: SavedModel
    history: Sequence[Mapping[str, float]] = ()
    _: KW_ONLY
    device: str = "auto"
    backend: str = "auto"
    arithmetic: Arithmetic | None = None
    run: Path | None = None
    best_epoch: int | None = None
    _training: Training | None = field(default=None, init=False)

    @classmethod
    def from_training(cls, fitted: Fitted, config: TrainConfig) -> Self:
        """Return the model that a training with these settings gives."""
        model = cls(fitted.network, fitted.history, **choose_place(config), run=fitted.folder)
        model._training, model.best_epoch = fitted.training, fitted.best_epoch
        return model

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

    def predict(self, X: object) -> Any:
        """Return the class of each row, (m,): its name if the classes have names, else its number (int64).

        Names are always a NumPy array, for other libraries have no text.

        Raises
        ------
        DataError
            The rows are not numbers, or do not have the network's features.
        """
        rows = to_features(X, "X", self.network.columns)
        numbers = self.select_predictor(backend_of(X)).predict(rows)
        if self.class_names is None:
            return like_input(numbers, backend_of(X))
        return np.array(self.class_names)[numbers]

    def predict_proba(self, X: object) -> Any:
        """Return the probability of each class, (m, classes); errors as in `predict`.

        float64 in reproducible arithmetic, else of the dtype of the parameters; JAX has 32 bits unless
        ``jax_enable_x64`` is set.
        """
        return like_input(self._outputs(X)[1], backend_of(X))

    def logits(self, X: object) -> Any:
        """Return the logits, the inputs of the softmax, (m, classes); dtype and errors as `predict_proba`."""
        return like_input(self._outputs(X)[0], backend_of(X))

    def evaluate(self, X: object, y: object) -> Evaluation:
        """Return metrics on rows (m, features) with labels (m,), in NumPy; the loss is the cross-entropy.

        Raises
        ------
        DataError
            As in `predict`; or rows and labels differ in number, or a label is none of the classes.
        """
        table = table_from_arrays(X, y, columns=self.network.columns)
        return evaluate(self.select_predictor(backend_of(X)), table.x, table.y)

    def save(self, path: str | Path) -> None:
        """Write the network to a .safetensors file, atomically.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        save_model(Path(path), self.network)

    def summary(self) -> str:
        """Return a table of the layers: the shape of their outputs for m rows, and their parameters."""
        return _Text(describe_layers(self.network))

    def report(self, path: str | Path) -> None:
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
        from xpnet.report import write_report, write_training_report

        training, path = self._training, Path(path)
        if training is not None:
            write_training_report(path, training.make_record(), self.network, self.history, training.data)
        elif self.run is not None:
            write_report(self.run, out=path)
        else:
            msg = (
                "report: expected a model that xpnet.fit has returned or that was loaded from a run's folder"
            )
            raise ConfigError(msg)

    @cached_property
    @with_keywords
    def predictor(self) -> Predictor:
        """The network on its backend; built at first use."""
        backend = resolve(self.device, self.backend).backend
        return Predictor(self.network, backend, self.arithmetic)

    @with_keywords
    def select_predictor(self, like: Backend | None) -> Predictor:
        """Return the network on the backend of the user's arrays, if `device` and `backend` are "auto"."""
        if like is None or not self.device == self.backend == "auto":
            return self.predictor
        key = like.name, like.device_name
        if key not in self._predictors:
            backend = resolve(self.device, self.backend, like=like).backend
            self._predictors[key] = Predictor(self.network, backend, self.arithmetic)
        return self._predictors[key]

    @cached_property
    def _predictors(self) -> dict[tuple[str, str], Predictor]:
        return {}

    def _outputs(self, X: object) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return logits and probabilities of rows, in NumPy."""
        rows = to_features(X, "X", self.network.columns)
        return self.select_predictor(backend_of(X)).outputs(rows)

    def __getstate__(self) -> dict[str, object]:
        # The predictors, which hold a library's arrays, are rebuilt after unpickling; data are left out.
        left_out = ("predictor", "_predictors", "_training")
        return {name: value for name, value in vars(self).items() if name not in left_out}

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
    rows, best = load_history(path)
    model = Model(network, rows, device=device, backend=backend, arithmetic=arithmetic, best_epoch=best)
    model.run = path if path.is_dir() else None
    return model


class Callback(NetworkCallback):
    """The hooks of the training loop, for the `callbacks` of `fit`: a subclass overrides those it needs.

    Training ends before the next step once the attribute ``stop`` is the reason, a text.
    """

    @property
    def model(self) -> Model:
        """The network as it is now, a copy; in ``on_train_end`` the trained one.

        Raises
        ------
        ConfigError
            There is no training at the moment.
        """
        network, config = self._network()
        return Model(network, **choose_place(config))


def choose_place(config: TrainConfig) -> _Place:
    """Return the device, backend and arithmetic of a model that was trained with these settings."""
    return {"device": config.device, "backend": config.backend, "arithmetic": config.arithmetic}


class _Text(str):
    """Text of several lines, which Python and Jupyter show as it is."""

    __slots__ = ()
    __repr__ = str.__str__


@show_settings(FitSettings)
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
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
    run: str | Path | None = None,
    overwrite: bool = False,
    report: bool = True,
    track: Sequence[TrackerName] = (),
    tags: Sequence[str] = (),
    extend: str | Path | None = None,
    **settings: Unpack[FitSettings],
) -> Model:
    """Train a network; the same settings and data give the same fingerprint as `xpnet train`.

    Parameters
    ----------
    X
        (m, features): uint8 pixels or floats. Other integers are pixels, too, and must be from 0 to 255.
        NumPy arrays, lists, pandas data frames, or arrays of another library, which computes, on their
        device, unless `backend` or `device` is set. Masked arrays are refused, in labels and weights too.
    y
        (m,) labels: 0, 1, 2 and so on, or text, whose names the model keeps. Arrays of any library.
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
        The features differ in scale, and no setting says how to normalise them; or labels seem quantities.

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
    check_names(settings, OF_FIT, "fit")
    check_callbacks(callbacks, "fit")
    folder = read_folder(run, extend, overwrite=overwrite, report=report, track=track, tags=tags)
    values = {**settings, "extend": extend}
    config, explicit = _read_settings(values, recipe, has_validation_data=validation_data is not None)
    parent = None if extend is None else read_parent(Path(extend))
    config = replace(config if parent is None else extend_settings(parent, config, explicit), **folder)
    if classes is not None:
        integer_from(1).check("fit: classes", to_python(classes))
    selection = select_from_settings(config, X)
    training, validation = table_from_arrays(X, y, missing=config.missing), None
    scales = None if "normalize" in explicit or parent is not None else scale_note(training.x)
    quantities = None if training.columns.classes else quantity_note(training.y)
    for note in filter(None, (scales, quantities)):
        warnings.warn(name_keywords(note), stacklevel=3)
    if validation_data is not None:
        source = " in validation_data"
        validation = table_from_arrays(*validation_data, source, columns=training.columns)
        config = replace(config, validation=len(validation.y))
    data = make_dataset(training, validation, classes)
    labels = data.columns.classes or range(data.classes)
    weighted = weigh_samples(data, sample_weight, settings.get("class_weight"), labels)
    watchers = Watchers(callback, callbacks, verbose=verbose)
    fitted = train(config, selection, weighted, watchers, recorded=run is not None, parent=parent)
    return Model.from_training(fitted, config)


def check_callbacks(callbacks: Sequence[Callback], source: str) -> None:
    """Check that callbacks are instances of `Callback`.

    Raises
    ------
    ConfigError
        One is none.
    """
    for item in callbacks:
        if not isinstance(item, Callback):
            msg = f"{source}: callbacks: expected instances of xpnet.Callback, got {item!r}"
            raise ConfigError(msg)


def _read_settings(
    settings: Mapping[str, object], recipe: str | Path | None, *, has_validation_data: bool
) -> tuple[TrainConfig, frozenset[str]]:
    """Return the settings, and the names of those that are set; validation data set none."""
    if not has_validation_data:
        return from_keywords(settings, "fit", recipe)
    if settings.get("validation"):
        msg = "fit: validation: takes rows out of X, but there are validation_data: give one of the two"
        raise ConfigError(msg)
    config, explicit = from_keywords({**settings, "validation": 1}, "fit", recipe)  # which a patience needs
    return config, explicit - {"validation"}
