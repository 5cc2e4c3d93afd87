"""Classification metrics, on the host. Labels and predictions are (samples,) integers from 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.text import plain

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


def chance_note(accuracy: float, largest: float, samples: float) -> str | None:
    """Return a note if an accuracy on so many samples, of which the `largest` class has some, is chance."""
    chance = largest / samples
    if accuracy > chance + 2.0 * math.sqrt(chance * (1.0 - chance) / samples):
        return None
    remedy = "another learning rate, standardised features or more epochs may help"
    level = f"{chance:.4f} of the samples are of the largest class"
    return f"training accuracy {accuracy:.4f} is at chance ({level}): {remedy}"


def confusion_matrix(predicted: Labels, labels: Labels, classes: int) -> NDArray[np.int64] | None:
    """Return the number of samples of each class (row) predicted as each class (column).

    None with more than 1,000 classes, for which the matrix would be too large.
    """
    if classes > MAX_CONFUSION_CLASSES:
        return None
    pairs = labels.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_metrics(predicted: Labels, labels: Labels, classes: int) -> list[ClassMetrics]:
    """Return the metrics of each class.

    F1 = 2 · hits / (support + guesses); precision and recall are hits / guesses and hits / support.
    """
    groups = labels[predicted == labels], labels, predicted
    counts = (np.bincount(each, minlength=classes).tolist() for each in groups)
    return [
        ClassMetrics(
            support, _ratio(hits, guesses), _ratio(hits, support), _ratio(2 * hits, support + guesses)
        )
        for hits, support, guesses in zip(*counts, strict=True)
    ]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


MOST_SHOWN = 3
"""The number of classes and confusions in a summary."""


def summarize(
    accuracy: float,
    loss: float,
    loss_name: str,
    classes: Sequence[ClassMetrics],
    confusion: NDArray[np.int64] | None,
    names: Sequence[str] | None = None,
) -> str:
    """Return the metrics as text of at most ten lines, with the most frequent confusions of classes.

    Control and other unprintable characters in the names of classes are escaped.
    Averages are over the classes that have the metric, unweighted ("macro").
    """
    names = [plain(name) for name in (range(len(classes)) if names is None else names)]
    lines = [f"samples         {sum(each.support for each in classes)} of {len(classes)} classes"]
    lines += [f"accuracy        {accuracy:.4f}", f"loss            {loss:.4f} (mean {loss_name})"]
    for metric in ("precision", "recall", "F1"):
        values = [value for each in classes if (value := getattr(each, metric.lower())) is not None]
        if values:
            lines.append(f"{metric:<16}{sum(values) / len(values):.4f} (mean over classes)")
    recalls = ((each.recall, name, each.support) for each, name in zip(classes, names, strict=True))
    known = ((recall, name, support) for recall, name, support in recalls if recall is not None)
    worst = sorted(known, key=lambda item: item[0])[:MOST_SHOWN]
    lowest = (f"{name} {recall:.4f} of {support}" for recall, name, support in worst)
    lines.append(f"lowest recall   {', '.join(lowest)}")
    if confusion is not None:
        wrong = confusion - np.diag(np.diag(confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_SHOWN]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        confused = [f"{names[i]} as {names[j]} {wrong[i, j]} times" for i, j in pairs if wrong[i, j]]
        lines.append(f"confused        {', '.join(confused) or 'none'}")
    return "\n".join(lines)
