"""Figures about predictions, on the host."""

import numpy as np
from numpy.typing import NDArray


def accuracy_per_class(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int
) -> list[float | None]:
    """Return for each class the share of its samples that are predicted right.

    Both arrays are (samples,). A class without samples has no accuracy: None.
    """
    totals = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return [
        float(hits / total) if total else None for hits, total in zip(right, totals, strict=True)
    ]
