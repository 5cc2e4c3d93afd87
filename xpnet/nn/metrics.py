"""Classification metrics, on the host. Labels and predictions are (samples,) integers from 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


REMEDY = "another learning rate, standardised features or more epochs may help"


def chance_note(accuracy: float, largest: float, samples: float) -> str | None:
    """Return a note if an accuracy on so many samples, of which the `largest` class has some, is chance."""
    chance = largest / samples
    if accuracy > chance + 2.0 * math.sqrt(chance * (1.0 - chance) / samples):
        return None
    level = f"{chance:.4f} of the samples are of the largest class"
    return f"training accuracy {accuracy:.4f} is at chance ({level}): {REMEDY}"


def recall_note(recalls: Sequence[float | None]) -> str | None:
    """Return a note if the mean recall of the classes is chance, whatever the weights of samples."""
    known = [recall for recall in recalls if isinstance(recall, float)]
    if not known or (mean := sum(known) / len(known)) > 1.05 / len(known):
        return None
    return f"mean recall {mean:.4f} is at chance ({len(known)} classes): {REMEDY}"


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64] | None:
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
    groups = labels[predicted == labels], labels, predicted
    return list(map(_measure, *(np.bincount(each, minlength=classes).tolist() for each in groups)))


def _measure(hits: int, support: int, guesses: int) -> ClassMetrics:
    """Return the metrics of a class from its numbers of correct predictions, samples and predictions."""
    ratios = (hits, guesses), (hits, support), (2 * hits, support + guesses)
    return ClassMetrics(support, *(part / whole if whole else None for part, whole in ratios))
