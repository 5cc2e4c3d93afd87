"""Figures about predictions, on the host. All arrays are (samples,) whole numbers from 0."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is told from the others; a figure without samples to take it from is None."""

    support: int  # samples of the class
    precision: float | None  # share of those predicted to be of the class that are
    recall: float | None  # share of those of the class that are predicted to be: its accuracy
    f1: float | None  # the harmonic mean of both


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64]:
    """Return how often each class (row) is predicted to be each class (column)."""
    pairs = labels.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_figures(confusion: NDArray[np.int64]) -> list[ClassFigures]:
    """Return the figures of each class from a confusion matrix.

    F1 = 2 · hits / (support + predicted); precision and recall are hits / predicted and hits / support.
    """
    figures = []
    for index, row in enumerate(confusion):
        hits, support, predicted = int(row[index]), int(row.sum()), int(confusion[:, index].sum())
        figures.append(
            ClassFigures(
                support,
                _share(hits, predicted),
                _share(hits, support),
                _share(2 * hits, support + predicted),
            )
        )
    return figures


def accuracy_per_class(predicted: Labels, labels: Labels, classes: int) -> list[float | None]:
    """Return for each class the share of its samples that are predicted right.

    A class without samples has no accuracy: None.
    """
    confusion = confusion_matrix(predicted, labels, classes)
    return [figures.recall for figures in class_figures(confusion)]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
