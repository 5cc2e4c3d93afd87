"""A scikit-learn classifier, trained by the same code as `xpnet train`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import numpy as np

from xpnet._lib.extras import install_command
from xpnet._lib.text import shorten
from xpnet._typing import Args, HostArray
from xpnet.api import Callback, UserCallbacks
from xpnet.backends.base import Backend
from xpnet.backends.resolve import backend_of
from xpnet.config.keywords import ClassifierSettings, check_names, from_keywords, show_settings, with_keywords
from xpnet.config.settings import TrackerName
from xpnet.config.training import DEFAULTS, RULES, TrainConfig, read_recipe
from xpnet.data import arrays
from xpnet.data.datasets import Dataset
from xpnet.data.table import Table, as_features
from xpnet.data.texts import TableOptions, quantity_note
from xpnet.errors import ConfigError, DataError
from xpnet.fitting import read_folder, train_model, warn_user
from xpnet.inference.predictor import Predictor
from xpnet.nn.columns import Columns

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.metrics import accuracy_score
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    msg = f"XPNetClassifier needs scikit-learn 1.6 or newer: {install_command('sklearn')}"
    raise ImportError(msg) from error

DTYPES = (np.float64, np.float32, np.uint8)
"""The dtypes that features keep; others are converted to the first."""

RECIPE = read_recipe("tabular")
SETTINGS = {**DEFAULTS, **RECIPE, "schedule_factor": None, "log_every": 1}
"""The defaults of the constructor. The recipe's factor is that of its schedule alone; it is above 0 so that
calls of ``partial_fit`` after `epochs` still learn."""


@contextmanager
def _value_errors() -> Iterator[None]:
    """Raise the ValueError that scikit-learn expects in place of DataError."""
    try:
        yield
    except DataError as error:
        raise ValueError(error) from error


_to_host = _value_errors()(arrays.host_array)


class XPNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A neural network that classifies the rows of a table.

    It takes the inputs of scikit-learn's classifiers (NumPy arrays, lists, tables of pandas, polars or
    pyarrow, labels of any kind), and arrays of PyTorch, JAX, CuPy, dpnp or array-api-strict, on any device.
    It returns arrays of that library on that device; NumPy arrays for lists and data frames. uint8 features
    are pixels; others need not share a scale.

    Parameters
    ----------
    random_state
        The seed of the initial weights and the order of the samples. The same number gives the same bits
        in reproducible arithmetic. None draws a seed from NumPy's global generator.
    class_weight
        A dict from label to weight, 1 for labels that it lacks, or "balanced": all classes weigh the same in
        total. None: all samples do.
    verbose
        Print the metrics of the epochs, as ``xpnet.fit`` does.
    callbacks
        Instances of ``xpnet.Callback``; None for none. scikit-learn's ``clone`` copies them.
    run, track
        The folder of a record and its trackers, as in ``xpnet.fit``, of one call of ``fit``.
    hidden, activation, ...
        The settings of `xpnet train` of the same names, with the defaults of the recipe "tabular". For the
        schedule "cosine", `schedule_factor` None is 0.1.

    Attributes
    ----------
    classes_
        The labels, sorted, (classes,).
    model_
        The ``xpnet.Model``, with `fingerprint`, `history`, `save` and the names of features. Its classes are
        those of ``classes_`` if they are text, else indices into it.
    n_iter_
        The number of epochs it was trained for.
    loss_curve_
        The training loss after each epoch that `log_every` logs.
    n_features_in_, feature_names_in_
        As in every scikit-learn estimator.
    """

    @show_settings(ClassifierSettings, SETTINGS, variadic=False)
    def __init__(
        self,
        *,
        class_weight: Mapping[object, float] | Literal["balanced"] | None = None,
        verbose: bool = False,
        callbacks: Sequence[Callback] | None = None,
        run: str | Path | None = None,
        track: Sequence[TrackerName] = (),
        random_state: int | np.random.RandomState | None = 0,
        **settings: Unpack[ClassifierSettings],
    ) -> None:
        check_names(settings, XPNetClassifier._get_param_names(), "XPNetClassifier")
        # scikit-learn expects each parameter as an attribute of the same name.
        defaults = {name: SETTINGS[name] for name in ClassifierSettings.__annotations__}
        self.__dict__.update(defaults, **settings)
        self.class_weight = class_weight
        self.verbose = verbose
        self.callbacks = callbacks
        self.run = run
        self.track = track
        self.random_state = random_state

    def set_params(self, **parameters: object) -> Self:
        """Set parameters, as scikit-learn does.

        Raises
        ------
        ConfigError
            One is unknown.
        """
        names = {name.partition("__")[0] for name in parameters}
        check_names(names, self._get_param_names(), type(self).__name__)
        return super().set_params(**parameters)  # type: ignore[no-any-return]

    @with_keywords
    def fit(self, X: object, y: object, sample_weight: object = None) -> Self:
        """Train on rows (m, features) with labels (m,) and weights (m,) or None, from the start.

        Raises
        ------
        ValueError
            scikit-learn's validation rejects the rows or labels; or weights are not finite numbers, 0 or
            more, of which one is above 0.
        ConfigError
            A setting is out of range, or contradicts another or the data.
        BackendError
            The backend or device is not usable here.
        DivergedError
            The loss became infinite or NaN.
        """
        config = self._parse_settings()
        config = replace(config, **read_folder(self.run, track=self.track))
        rows, columns, labels = self._validate(X, y, reset=True)
        self.classes_ = np.unique(labels)
        data = self._make_dataset(rows, columns, labels, sample_weight)
        if self.classes_.dtype.kind in "iuf" and (note := quantity_note(data.y_train)):
            warn_user(note)
        self._train(config, backend_of(X), data, one_epoch=False)
        return self

    @with_keywords
    def partial_fit(self, X: object, y: object, classes: object = None, sample_weight: object = None) -> Self:
        """Train for one more epoch on these rows.

        Inputs are normalised with the statistics of the rows of the first call. `epochs` calls with the
        same rows are equivalent to ``fit``. Schedules run over `epochs` epochs.

        Parameters
        ----------
        X, y
            Rows (m, features) with labels (m,).
        classes
            All labels, of later calls too; required in the first call.
        sample_weight
            (m,) weights as in ``fit``, relative to each other.

        Raises
        ------
        ValueError
            As in ``fit``; or ``classes`` is missing, differs from that of the first call, or lacks a label.
        ConfigError, BackendError, DivergedError
            As in ``fit``; ConfigError also if `validation` is not 0 or `class_weight` is "balanced".
        """
        config = self._parse_settings()
        if config.validation:
            msg = "validation: expected 0 for partial_fit, which takes all the rows that it is given"
            raise ConfigError(msg)
        if config.class_weight == "balanced":
            msg = "class_weight: expected a dict or None for partial_fit, which does not know all rows"
            raise ConfigError(msg)
        if self.run is not None:
            raise ConfigError("run: expected None for partial_fit, of whose calls there is no record")
        first, known = not hasattr(self, "model_"), _to_host(classes, "classes")
        rows, columns, labels = self._validate(X, y, reset=first)
        if first:
            if known is None:
                raise ValueError("classes: expected all labels in the first call of partial_fit, got none")
            self.classes_ = np.unique(known)
        elif known is not None and not np.array_equal(self.classes_, np.unique(known)):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {known}")
        if unknown := sorted(set(labels.tolist()) - set(self.classes_.tolist())):
            raise ValueError(f"y: expected labels in {self.classes_.tolist()}, got {unknown}")
        data = self._make_dataset(rows, columns, labels, sample_weight)
        self._train(config, backend_of(X), data, one_epoch=True)
        return self

    def predict(self, X: object) -> Any:
        """Return the predicted label of each row (m, features), as (m,); errors as in `predict_proba`.

        Labels that are no numbers are always a NumPy array, for other libraries have none.
        """
        predictor, rows = self._predictor(X)
        labels = self.classes_[predictor.predict(rows)]
        return arrays.like_input(labels, X) if labels.dtype.kind in "buif" else labels

    def predict_proba(self, X: object, *, as_frame: bool = False) -> Any:
        """Return the probability of each label in the order of ``classes_``, (m, classes).

        float64; float32 in native arithmetic of that dtype, and in JAX unless ``jax_enable_x64`` is set. With
        `as_frame` they are a data frame of pandas, with the labels as names.

        Raises
        ------
        NotFittedError
            The classifier is not trained.
        ValueError
            scikit-learn's validation rejects the rows.
        """
        predictor, rows = self._predictor(X)
        return arrays.like_input(predictor.outputs(rows)[1], X, self.classes_ if as_frame else None)

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the accuracy on rows (m, features) with labels (m,); errors as in `predict_proba`."""
        predicted, weights = _to_host(self.predict(X), "X"), _to_host(sample_weight, "sample_weight")
        return float(accuracy_score(_to_host(y, "y"), predicted, sample_weight=weights))

    def _train(self, config: TrainConfig, like: Backend | None, data: Dataset, *, one_epoch: bool) -> None:
        """Train from the start, or for one more epoch."""
        start = getattr(self, "_progress", None) if one_epoch else None
        epochs = getattr(self, "n_iter_", 0) + 1 if one_epoch else None
        users, verbose = UserCallbacks(callbacks=self.callbacks or ()), self.verbose
        self._progress = train_model(config, data, like, users, verbose=verbose, start=start, epochs=epochs)
        self.model_, state = self._progress
        self.n_iter_ = state.epoch
        losses = [row["train_loss"] for row in users.rows if row["epoch"] and "train_loss" in row]
        self.loss_curve_: list[float] = [*(getattr(self, "loss_curve_", []) if start else []), *losses]

    @_value_errors()
    def _make_dataset(self, X: HostArray, columns: Columns, y: HostArray, sample_weight: object) -> Dataset:
        """Return the training samples with their weights, and the names of features and classes."""
        labels, classes = np.searchsorted(self.classes_, y).astype(np.int32), self.classes_.tolist()
        columns = replace(columns, classes=tuple(classes) if {*map(type, classes)} == {str} else None)
        table = Table(as_features(X, "X", fills=True), labels, "X", "y", columns)
        if not columns.means:  # of a first call
            table = table.fit(TableOptions(missing=self.missing))
        data = arrays.join_tables(table, classes=len(classes))
        return arrays.weigh_samples(data, sample_weight, self.class_weight, classes)

    def _parse_settings(self) -> TrainConfig:
        parameters = self.get_params(deep=False)
        state, *_ = map(parameters.pop, ("random_state", "verbose", "callbacks", "run", "track"))
        if not isinstance(state, int | np.integer):
            state = check_random_state(state).randint(2**31 - 1)
        if self.schedule == "cosine" and self.schedule_factor is None:
            parameters["schedule_factor"] = RECIPE["schedule_factor"]
        name, seed = type(self).__name__, np.asarray(state).item()
        RULES["seed"].check(f"{name}: random_state", seed)
        return from_keywords({**parameters, "seed": seed}, name)[0]

    @_value_errors()
    def _validate(self, X: object, *y: object, reset: bool) -> Args:
        """Validate rows, and labels if there are some, with scikit-learn.

        Return the rows, in the order of the columns of the training, with its means, these columns, and the
        labels.
        """
        frame, labels = arrays.take_apart(X, "X"), [arrays.host_array(each, "y") for each in y]
        if frame.texts:
            remedy = "leave them out, or encode them, as by make_column_transformer"
            raise DataError(f"X: {', '.join(map(shorten, frame.texts))} hold text or dates: {remedy}")
        array = np.asarray(rows := arrays.host_array(frame.rows, "X"))
        if arrays.holds_text(array):
            raise DataError(f"X: {arrays.TEXT}")
        if array.dtype.kind in "iu" and array.ndim == 2:
            arrays.check_exact(array, "X", frame.names or ())
        if frame.names is not None:
            headings = getattr(X, "columns", None) if hasattr(X, "iloc") else frame.names or None
            rows = arrays.like_input(frame.rows, X, headings)
        finite = {"ensure_all_finite": True if self.missing == "error" else "allow-nan"}
        checked = validate_data(self, rows, *labels, dtype=DTYPES, reset=reset, **finite)
        rows, *labels = checked if y else (checked,)
        for each in labels:
            check_classification_targets(each)
        columns = Columns(frame.features) if reset else self.model_.network.columns
        return columns.encode(frame.sort(rows, columns, "X"), {}, "X"), columns, *labels

    def _predictor(self, X: object) -> tuple[Predictor, HostArray]:
        """Return the predictor of rows, and the rows, which scikit-learn has validated."""
        check_is_fitted(self)
        rows, _ = self._validate(X, reset=False)
        return self.model_.select_predictor(backend_of(X)), rows
