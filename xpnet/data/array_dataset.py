"""The data set that a user's arrays make, for ``xpnet.fit``, ``xpnet.verify`` and the estimator."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xpnet.data.arrays import table_from_arrays, weigh_samples
from xpnet.data.datasets import Dataset, join_halves
from xpnet.data.table import Table
from xpnet.errors import DataError

ClassWeight = Mapping[Any, float] | Literal["none", "balanced"] | None


@dataclass(frozen=True)
class ArrayData(Dataset):
    """Arrays as a data set."""

    number_of_classes: int = 0

    @property
    def classes(self) -> int:
        """The number of classes, of which some may have no samples."""
        return self.number_of_classes


def make_dataset(
    X: object,
    y: object,
    validation_data: tuple[object, object] | None,
    weights: tuple[object, ClassWeight],
    missing: Any,
    classes: int | None,
) -> Dataset:
    """Return the data set of a user's arrays, and weights of samples and of classes."""
    training, validation = table_from_arrays(X, y, missing=missing), None
    if validation_data is not None:
        validation = table_from_arrays(*validation_data, " in validation_data", columns=training.columns)
    data = join_tables(training, validation, classes)
    return weigh_samples(data, *weights, data.columns.classes or range(data.classes))


def join_tables(training: Table, validation: Table | None = None, classes: int | None = None) -> ArrayData:
    """Build a data set from tables.

    Raises
    ------
    DataError
        The tables do not match, or a label is not below the number of classes.
    """
    test = Table(training.x[:0], training.y[:0], "", "") if validation is None else validation
    largest = {table.y_from: int(table.y.max(initial=0)) for table in (training, test)}
    classes = classes or max(largest.values()) + 1
    for source, label in largest.items():
        if label >= classes:
            msg = f"{source}: expected labels from 0 to {classes - 1}, got {label}"
            raise DataError(msg)
    if training.columns.classes is not None and classes != len(training.columns.classes):
        msg = f"classes: expected {len(training.columns.classes)}, as many as there are names, got {classes}"
        raise DataError(msg)
    data = replace(
        join_halves("arrays", training, test), from_arrays=True, test_is_validation=bool(len(test.y))
    )
    return ArrayData(**vars(data), number_of_classes=classes)
