"""Evaluation of a trained network on labelled samples."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, as_array
from xpnet.arithmetic import ARITHMETICS
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.backends.resolve import make
from xpnet.errors import DataError
from xpnet.inference.predictor import Predictor
from xpnet.nn.architecture import Network
from xpnet.nn.metrics import ClassMetrics, class_metrics, confusion_matrix
from xpnet.nn.network import sample_losses


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics and predictions of a network on labelled samples.

    Attributes
    ----------
    accuracy
        Fraction of correct predictions.
    loss
        The mean of `loss_name` with `label_smoothing`.
    confusion
        Confusion matrix (classes, classes): counts by true class (row) and predicted class (column).
        None with more than 1,000 classes.
    classes
        Precision, recall, F1 and support of each class.
    predicted, probabilities
        Predicted classes (m,) and probabilities (m, classes).
    """

    accuracy: float
    loss: float
    loss_name: str
    label_smoothing: float
    confusion: NDArray[np.int64] | None
    classes: list[ClassMetrics]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.floating]


def evaluate(
    predictor: Predictor,
    x: NDArray[np.generic],
    labels: NDArray[np.int32],
    *,
    name: str = "the data",
    loss: str = "cross-entropy",
    label_smoothing: float = 0.0,
) -> Evaluation:
    """Evaluate a network on raw rows (m, features) with labels (m,).

    Parameters
    ----------
    name
        Name of the data in messages.
    loss, label_smoothing
        The loss, as in `xpnet.nn.network.Network`.

    Raises
    ------
    DataError
        The number of features differs from the network's, an output is not finite, or a label is not
        below the number of classes.
    """
    classes = predictor.classes
    if int(labels.max()) >= classes:
        row = int((labels >= classes).argmax())
        problem = f"label {labels[row]}: the network tells {classes} classes, 0 to {classes - 1}"
        raise DataError.at(name, problem, row=row + 1)
    logits, predicted, probabilities = predictor.classify(x, name)
    network = replace(predictor.model.network, loss=loss, label_smoothing=label_smoothing)
    return Evaluation(
        int((predicted == labels).sum()) / len(labels),
        _mean_loss(predictor.arithmetic, network, logits, labels),
        loss,
        label_smoothing,
        confusion_matrix(predicted, labels, classes),
        class_metrics(predicted, labels, classes),
        predicted,
        probabilities,
    )


def _mean_loss(
    arithmetic: str, network: Network, logits: NDArray[np.floating], labels: NDArray[np.int32]
) -> float:
    """Return the mean loss, summed in the order of training: bit-identical in reproducible arithmetic."""
    backend = make("numpy", "cpu")
    ops = ARITHMETICS[arithmetic](backend.xp, backend.device, logits.dtype)

    def block_loss(begin: int, end: int) -> list[Array]:
        columns, targets = as_array(logits[begin:end].T.copy()), as_array(labels[begin:end])
        losses = sample_losses(ops, columns, targets, network)
        return [ops.sum(losses, axis=-1)]

    with backend.scope():
        (total,) = tree_sum(block_loss(*bounds) for bounds in block_bounds(len(labels)))
    return float(ops.xp.reshape(total, ())) * (1.0 / len(labels))
