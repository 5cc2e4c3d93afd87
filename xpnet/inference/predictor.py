"""Trained networks: loading from run folders and model files, prediction, and evaluation."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xpnet._lib.machine import available_cpus
from xpnet._lib.text import complain, plain
from xpnet._lib.tree import tree_map
from xpnet._typing import Array, Arrays, Function, HostArray, Json, Names, Notify
from xpnet.arithmetic.blocks import Group, block_bounds
from xpnet.backends.base import Backend
from xpnet.backends.resolve import resolve
from xpnet.compute.context import build_context
from xpnet.compute.evaluation import chance_note, evaluate_groups, recall_note
from xpnet.config.settings import Arithmetic
from xpnet.errors import DataError
from xpnet.nn import functional as F
from xpnet.nn.inputs import flush_subnormals
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.metrics import ClassMetrics, area_under_curve, class_metrics, confusion_matrix, mean_metric
from xpnet.nn.network import BlockResults, evaluate_logits, forward
from xpnet.storage.find import find_newest_run, resolve_run
from xpnet.storage.folder import RunFolder
from xpnet.storage.model_file import TrainedNetwork, load_model
from xpnet.storage.record import MODEL_FILE, Record, is_number

MOST_SHOWN = 3
"""The number of classes and confusions in the text of an evaluation."""
MEANS = {"balanced": "balanced_accuracy", "macro F1": "macro_f1", "AUC": "auc"}
"""The attributes of an evaluation that stand beside its accuracy, by their names in text."""
ROWS = 2560
"""Rows that are computed in one call: what starting a call takes is then little, and memory is bounded."""


class Predictor:
    """A trained network on a backend.

    Parameters
    ----------
    model
        The network and its parameters.
    backend
        The backend that computes; see ``xpnet.backends.resolve``.
    arithmetic
        reproducible or native; by default reproducible for float64 parameters, native for float32.

    Raises
    ------
    BackendError
        The device does not support the dtype of the arithmetic.
    """

    def __init__(self, model: TrainedNetwork, backend: Backend, arithmetic: Arithmetic | None = None) -> None:
        self.model, self.backend = model, backend
        self.warn: Notify = partial(warnings.warn, stacklevel=4)
        double = bool(model.layers[0]["weight"].dtype == np.float64)
        self.arithmetic = arithmetic or ("reproducible" if double else "native")
        self._dtype = dtype = np.dtype("f8" if double or self.arithmetic == "reproducible" else "f4")
        with backend.scope():
            inputs = model.architecture, model.normalization
            context = replace(build_context(self.arithmetic, dtype.name, backend, *inputs), stack=1)
            self.context = context

            def on_device(array: HostArray) -> Array:
                return backend.from_host(array.astype(dtype) + 0.0)

            self._parameters, self._statistics = tree_map(on_device, (model.parameters, model.statistics))
            backend.to_host(self._parameters[-1][0])  # waits: threads may use all of it in other streams

        def logits(layers: Parameters, running: list[RunningStatistics], x: Array) -> Array:
            return forward(context.ops, layers, context.inputs(x), context.network, running=running)[0]

        def outputs(*args: Any) -> Arrays:
            z = logits(*args)
            return [context.ops.xp.matrix_transpose(each) for each in (z, F.softmax(context.ops, z))]

        self._outputs = context.compile(outputs)
        self._choose_rows = context.choose_rows()
        self._predictions = context.compile(lambda *args: [F.predictions(context.ops, logits(*args))])

    @property
    def class_names(self) -> Sequence[str | int]:
        """The names of the classes, or their numbers if they have no names."""
        return self.model.columns.classes or range(self.model.classes)

    def outputs(self, x: HostArray, name: str = "x") -> tuple[HostArray, HostArray]:
        """Return logits and probabilities, each (m, classes), of raw rows, which messages call `name`.

        Raises
        ------
        DataError
            The rows do not have the network's features.
        """
        logits, probabilities = (np.empty((len(x), self.model.classes), self._dtype) for _ in range(2))
        self._compute(self._outputs, x, name, (logits, probabilities))
        return logits, probabilities

    def predict(self, x: HostArray) -> HostArray:
        """Return the predicted class of each raw row, (m,), without probabilities; errors as in `outputs`."""
        predicted = np.empty(len(x), np.int64)
        self._compute(self._predictions, x, "x", (predicted,))
        return predicted

    def _compute(self, function: Function, x: HostArray, name: str, results: tuple[HostArray, ...]) -> None:
        """Write the results of a compiled function of parameters, running statistics and rows."""
        backend, features = self.backend, self.model.sizes[0]
        if x.ndim != 2 or x.shape[1] != features:
            problem = f"the network takes rows of {features} features, got an array of shape {x.shape}"
            raise DataError(f"{name}: {problem}")
        is_of_pixels = self.model.normalization.is_of_pixels
        if is_of_pixels and 0 <= x.min(initial=0) <= x.max(initial=0) <= 1 and (x % 1).any():
            advice = "but the network was trained on pixels from 0 to 255: multiply them by 255"
            self.warn(f"{name}: its values are from 0 to 1, {advice}")

        def compute(bounds: tuple[int, int]) -> Arrays:
            part = flush_subnormals(x[slice(*bounds)])
            missing = min(self._choose_rows(len(part)), ROWS) - len(part)
            rows = np.pad(part, ((0, missing), (0, 0))) if missing else np.ascontiguousarray(part)
            return list(function(self._parameters, self._statistics, backend.put(rows)))

        bounds = block_bounds(len(x), ROWS)
        with backend.scope(), backend.workers(max(min(available_cpus(), len(bounds)), 1)):
            for (begin, end), block in zip(bounds, backend.pool.map(compute, bounds), strict=True):
                for result, part in zip(results, block, strict=True):
                    result[begin:end] = backend.to_host(part)[: end - begin]

    def classify(self, x: HostArray, name: str) -> tuple[HostArray, HostArray, HostArray]:
        """Return logits (m, classes), predicted classes (m,) and probabilities (m, classes) of raw rows.

        Raises
        ------
        DataError
            The number of features differs from the network's, or an output is not finite. Messages call the
            rows `name`.
        """
        logits, probabilities = self.outputs(x, name)
        if not (np.isfinite(logits).all() and np.isfinite(probabilities).all()):
            problem = "the network's outputs are not all finite: are its numbers far too large?"
            raise DataError(f"{name}: {problem}")
        return logits, np.argmax(logits, axis=1), probabilities


def load_for_inference(
    run: Path | None, device: str, backend: str, arithmetic: Arithmetic | None
) -> tuple[Path, Predictor, RunFolder | None]:
    """Load a trained network on a backend. Return the path of its run or file, the network, and the run.

    Parameters
    ----------
    run
        The folder of a run, or a model file; None for the newest trained run in ``runs``.
    device, backend
        As in ``xpnet.backends.resolve.resolve``.
    arithmetic
        None for that of the training.

    Raises
    ------
    DataError
        The run or file is missing or damaged, or the run has not ended.
    ConfigError
        The device or backend is unknown.
    BackendError
        The device or backend is not usable on this machine.
    """
    path, model, folder = load_network(run)
    if folder:
        arithmetic = arithmetic or folder.config.arithmetic
    selection = resolve(device, backend)
    if selection.warning:
        complain(f"warning: {selection.warning}")
    predictor = Predictor(model, selection.backend, arithmetic)
    if folder and (note := _chance_note(folder.record)):
        complain(f"note: {path}: {note}")
    predictor.warn = lambda text: complain(f"warning: {text}")
    return path, predictor, folder


def _chance_note(record: Record) -> str | None:
    """Return a note if a run has learned nothing; older records do not say, or nothing of weights."""
    known: Json = {**record["data"], **(record["metrics"] or {})}
    class_weight, recalls = record["config"].get("class_weight"), known.get("test_accuracy_per_class")
    recalls = known.get("train_accuracy_per_class", recalls)  # of schema version 4
    if not known.get("epochs") or class_weight is None:
        return None
    if class_weight != "none" or "weights_sha256" in known:
        return recall_note(recalls if isinstance(recalls, list) else [])
    numbers: Any = [known.get(name) for name in ("train_accuracy", "largest_class", "training_samples")]
    return chance_note(*numbers) if all(map(is_number, numbers)) else None


def load_network(run: Path | None) -> tuple[Path, TrainedNetwork, RunFolder | None]:
    """Load a trained network. Return the path of its run or file, the network, and the run.

    Parameters
    ----------
    run
        The folder of a run, or a model file; None for the newest trained run in ``runs``.

    Raises
    ------
    DataError
        The run or file is missing or damaged, or the run has not ended.
    """
    path = resolve_run(run, others=", or a .safetensors file") if run else find_newest_run().folder
    if not path.is_dir():
        return path, load_model(path), None
    folder = RunFolder(path)
    if folder.record["status"] == "running":
        remedy = f"wait until it has ended, or go on with xpnet train --resume {path}"
        raise DataError(f"{path}: is still running, or was killed: {remedy}")
    if folder.record["status"] == "failed":
        raise DataError(f"{path}: holds no trained network, as the training has failed")
    return path, folder.model, folder


def model_path(path: Path) -> Path:
    """Return the model file in a run folder, or `path` itself if it is a file.

    Raises
    ------
    DataError
        `path` does not exist.
    """
    if not path.exists():
        problem = "no such file or folder: expected the folder of a run, or a .safetensors file"
        raise DataError(f"{path}: {problem}")
    return path / MODEL_FILE if path.is_dir() else path


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Metrics and predictions of a network on labelled samples; as text, a summary of at most ten lines.

    Attributes
    ----------
    accuracy
        Fraction of correct predictions.
    loss
        The mean of `loss_name` with `label_smoothing`.
    confusion
        Confusion matrix (classes, classes), int64: counts by true class (row) and predicted class (column).
        None with more than 1,000 classes.
    classes
        Precision, recall, F1 and support of each class.
    predicted, probabilities
        Predicted classes (m,), int64, and probabilities (m, classes).
    class_names
        The names of the classes; None if they have none.
    majority
        The share of the samples that the largest class has.
    balanced_accuracy, macro_f1
        The means of recall and F1 over the classes that have them.
    auc
        Area under the ROC curve, of two classes; None of others.
    """

    accuracy: float
    loss: float
    loss_name: str
    label_smoothing: float
    confusion: "HostArray | None"
    classes: list[ClassMetrics]
    predicted: HostArray
    probabilities: HostArray
    class_names: Names | None = None
    majority: float = 0.0
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    auc: float | None = None

    def __repr__(self) -> str:
        accuracy, loss = f"accuracy {self.accuracy:.4f}", f"loss {self.loss:.4f}"
        return f"<xpnet.Evaluation {accuracy}, {loss}, {len(self.predicted)} samples>"

    def __str__(self) -> str:
        """Return text of at most ten lines, with the most frequent confusions of classes.

        Control and other unprintable characters in the names of classes are escaped.
        Averages are over the classes that have the metric, unweighted ("macro").
        """
        classes = self.classes
        names = [plain(name) for name in self.class_names or range(len(classes))]
        lines = [
            f"samples         {sum(each.support for each in classes)} of {len(classes)} classes",
            f"accuracy        {self.accuracy:.4f} (largest class {self.majority:.4f})",
            f"loss            {self.loss:.4f} (mean {self.loss_name})",
        ]
        for name, attribute in MEANS.items():
            if (value := getattr(self, attribute)) is not None:
                lines.append(f"{name:<16}{value:.4f}")
        known = [(name, each) for name, each in zip(names, classes, strict=True) if each.recall is not None]
        worst = sorted(known, key=lambda item: item[1].recall or 0.0)[:MOST_SHOWN]
        lowest = (f"{name} {each.recall:.4f} of {each.support}" for name, each in worst)
        lines.append(f"lowest recall   {', '.join(lowest)}")
        if self.confusion is not None:
            wrong = self.confusion - np.diag(np.diag(self.confusion))
            order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_SHOWN]
            pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
            confused = [f"{names[i]} as {names[j]} {wrong[i, j]} times" for i, j in pairs if wrong[i, j]]
            lines.append(f"confused        {', '.join(confused) or 'none'}")
        return "\n".join(lines)


def evaluate_rows(predictor: Predictor, x: HostArray, y: HostArray, name: str, **loss: Any) -> Evaluation:
    """Evaluate a network on raw rows x (m, features) with labels y (m,).

    Parameters
    ----------
    name
        Name of the data in messages.
    loss
        The `loss` and `label_smoothing` of `xpnet.nn.architecture.Network`, by default the cross-entropy.

    Raises
    ------
    DataError
        The number of features differs from the network's, an output is not finite, or a label is not
        below the number of classes.
    """
    classes = predictor.model.classes
    logits, predicted, probabilities = predictor.classify(x, name)
    if int(y.max()) >= classes:
        row = int((y >= classes).argmax())
        problem = f"label {y[row]}: the network tells {classes} classes, 0 to {classes - 1}"
        raise DataError.at(name, problem, row=row + 1)
    context, names = predictor.context, predictor.model.columns.classes
    network = replace(context.network, **loss)

    def evaluate_group(group: Group) -> BlockResults:
        rows = slice(group.start, group.stop)
        columns, labels = map(context.backend.from_host, (logits[rows].T.copy(), y[rows]))
        return evaluate_logits(context.ops, columns, labels, network)

    with context.backend.scope():  # as in training: the same bits in reproducible arithmetic
        mean = evaluate_groups(context, len(y), evaluate_group)
    metrics = class_metrics(predicted, y, classes)
    losses = mean.accuracy, mean.loss, network.loss, network.label_smoothing
    confusion = confusion_matrix(predicted, y, classes)
    majority = max(each.support for each in metrics) / len(y)
    auc = area_under_curve(probabilities[:, 1], y) if classes == 2 else None
    means = mean_metric(metrics, "recall"), mean_metric(metrics, "f1"), auc
    return Evaluation(*losses, confusion, metrics, predicted, probabilities, names, majority, *means)
