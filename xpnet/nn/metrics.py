"""Classification metrics, on the host. Labels and predictions are (samples,) integers from 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import HostArray

Labels = NDArray[np.integer]

MAX_CONFUSION_CLASSES = 1000
"""The number of classes up to which a confusion matrix is made."""


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class; a metric is None without samples to compute it from."""

    support: int  # the number of samples of the class
    precision: float | None  # the share of correct ones among the predictions of the class
    recall: float | None  # the share of correct ones among the samples of the class
    f1: float | None  # the harmonic mean of both


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> "HostArray | None":
    """Return the number of samples of each class (row) predicted as each class (column).

    None with more than 1,000 classes, for which the matrix would be too large.
    """
    if classes > MAX_CONFUSION_CLASSES:
        return None
    counts = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_metrics(predicted: Labels, labels: Labels, classes: int) -> list[ClassMetrics]:
    """Return the metrics of each class.

    F1 = 2 · hits / (support + guesses); precision and recall are hits / guesses and hits / support.
    """
    hits = np.bincount(labels[predicted == labels], minlength=classes).tolist()
    supports = np.bincount(labels, minlength=classes).tolist()
    guesses = np.bincount(predicted, minlength=classes).tolist()
    return list(map(_measure, hits, supports, guesses))


def mean_metric(classes: Sequence[ClassMetrics], name: str) -> float | None:
    """Return the mean of a metric over the classes that have it ("macro"); None if none has."""
    values = [value for each in classes if (value := getattr(each, name)) is not None]
    return math.fsum(values) / len(values) if values else None


def area_under_curve(scores: HostArray, labels: Labels) -> float | None:
    """Return the area under the ROC curve of scores of class 1, of two; None without samples of both.

    It is the share of pairs of samples, one of each class, whose scores are in order, ties a half: the sum of
    the ranks of class 1 among the others, in whole numbers, rounded once.
    """
    others, ones = np.sort(scores[labels == 0]), scores[labels == 1]
    ranks = sum(int(np.searchsorted(others, ones, side).sum()) for side in ("left", "right"))
    return ranks / (2 * len(others) * len(ones)) if len(others) and len(ones) else None


def _measure(hits: int, support: int, guesses: int) -> ClassMetrics:
    """Return the metrics of a class from its numbers of correct predictions, samples and predictions."""
    precision = hits / guesses if guesses else None
    recall = hits / support if support else None
    f1 = 2 * hits / (support + guesses) if support + guesses else None
    return ClassMetrics(support, precision, recall, f1)
