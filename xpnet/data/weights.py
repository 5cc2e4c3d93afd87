"""Weights of the training samples in the loss, from those of samples and of classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config import TrainConfig
from xpnet.data.arrays import to_numbers
from xpnet.data.datasets import Dataset
from xpnet.data.table import format_shape
from xpnet.errors import DataError
from xpnet.nn.columns import format_names


def weigh_samples(
    data: Dataset, sample_weight: object, class_weight: object, labels: Sequence[Any]
) -> Dataset:
    """Return the dataset with the weights of its training samples, and without those of weight 0.

    A weight is that of the sample, (m,) numbers or None for all 1, times that of its class: 1, unless
    `class_weight` is a mapping from labels. `labels` are those of the classes, in their order.

    Raises
    ------
    DataError
        The weights are not finite numbers, 0 or more, one for each sample; all are 0; or one belongs to no
        class.
    """
    weights = np.ones(len(data.y_train))
    if sample_weight is not None:
        weights = _to_weights("sample_weight", sample_weight, range(len(weights)))
    if isinstance(class_weight, Mapping):
        unknown = class_weight.keys() - set(labels)
        if unknown and set(labels) - class_weight.keys():  # if none is missing, the samples may lack a class
            msg = f"class_weight: {min(map(repr, unknown))} is none of {format_names([*map(str, labels)])}"
            raise DataError(msg)
        by_class = [class_weight.get(label, 1.0) for label in labels]
        weights = weights * _to_weights("class_weight", by_class, labels)[data.y_train]
    elif sample_weight is None:
        return data
    used = weights > 0
    if not used.any():
        msg = "sample_weight, class_weight: expected a sample of a weight above zero, all have weight zero"
        raise DataError(msg)
    if not used.all():
        data = replace(data, x_train=data.x_train[used], y_train=data.y_train[used])
    return replace(data, weights=weights[used])


def normalize_weights(
    data: Dataset, training: NDArray[np.int64] | None, config: TrainConfig
) -> NDArray[np.floating] | None:
    """Return the factor of each sample's loss, (m,); their mean over the training samples is 1. None: all 1.

    If `class_weight` is balanced, weights are first divided by their sum over the training samples of the
    class (King & Zeng 2001). `training` are the indices of these samples, None for all. Sums are exactly
    rounded or sequential, so that the bits do not depend on the machine.
    """
    balanced = config.class_weight == "balanced"
    if data.weights is None and not balanced:
        return None
    rows = slice(None) if training is None else training
    weights = np.ones(len(data.y_train)) if data.weights is None else data.weights
    if balanced:
        totals = np.bincount(data.y_train[rows], weights[rows], minlength=data.classes)
        weights = weights / np.where(totals > 0, totals, 1.0)[data.y_train]
    weights = weights / weights[rows].max()
    return np.asarray(weights * (weights[rows].size / math.fsum(weights[rows])), config.float_type)


def _to_weights(name: str, values: object, keys: Sequence[object]) -> NDArray[np.float64]:
    """Check numbers, one for each key; return them divided by the largest: products cannot overflow."""
    numbers = to_numbers(values, name).astype(np.float64)
    if numbers.shape != (len(keys),):
        msg = f"{name}: expected {len(keys)} numbers, one for each sample, got {format_shape(numbers.shape)}"
        raise DataError(msg)
    allowed = np.isfinite(numbers) & (numbers >= 0)
    if not allowed.all():
        place = int(allowed.argmin())
        msg = f"{name}[{keys[place]!r}]: expected a finite number, 0 or more, got {numbers[place]}"
        raise DataError(msg)
    return numbers / (numbers.max() or 1.0)
