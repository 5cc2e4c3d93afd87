"""Classification metrics, on the host. Labels and predictions are (samples,) integers from 0."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]

MOST_CONFUSED = 1000
"""Classes up to which there is a confusion matrix."""


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class; a metric is None without samples to compute it from."""

    support: int  # samples of the class
    precision: float | None  # share of those predicted to be of the class that are
    recall: float | None  # share of those of the class that are predicted to be: its accuracy
    f1: float | None  # the harmonic mean of both


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64] | None:
    """Return how often each class (row) is predicted to be each class (column).

    None with more than 1,000 classes, for which the matrix would be too large.
    """
    if classes > MOST_CONFUSED:
        return None
    pairs = labels.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_metrics(predicted: Labels, labels: Labels, classes: int) -> list[ClassMetrics]:
    """Return the metrics of each class.

    F1 = 2 · hits / (support + predicted); precision and recall are hits / predicted and hits / support.
    """
    counts = (
        np.bincount(values, minlength=classes).tolist()
        for values in (labels[predicted == labels], labels, predicted)
    )
    return [
        ClassMetrics(
            support,
            _share(hits, predictions),
            _share(hits, support),
            _share(2 * hits, support + predictions),
        )
        for hits, support, predictions in zip(*counts, strict=True)
    ]


def accuracy_per_class(predicted: Labels, labels: Labels, classes: int) -> list[float | None]:
    """Return for each class the share of its samples that are predicted right.

    A class without samples has no accuracy: None.
    """
    return [figures.recall for figures in class_metrics(predicted, labels, classes)]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
