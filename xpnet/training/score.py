"""The score of an epoch on the validation samples, by which one is the best; computed on the host."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, HostArray
from xpnet.config import TrainConfig
from xpnet.data.arrays import weigh_validation
from xpnet.data.datasets import Dataset
from xpnet.nn.metrics import balanced_accuracy, weighted_accuracy
from xpnet.training.step import Evaluation

SCORE_NAMES = {"accuracy": "validation accuracy", "loss": "negative validation loss"}
SCORE_NAMES |= {f"{kind}-accuracy": f"{kind} validation accuracy" for kind in ("weighted", "balanced")}
"""The values of the setting `best_by` in words."""


def resolve_best_by(config: TrainConfig, weights: object) -> str:
    """Return the setting `best_by`, with "auto" resolved; `weights` of samples are None without."""
    if config.best_by != "auto":
        return config.best_by
    is_weighted = weights is not None or config.class_weight == "balanced"
    return "weighted-accuracy" if is_weighted else "accuracy"


def initial_note(best_by: str, best_epoch: int | None, epochs: int) -> str | None:
    """Return a note if the best of so many epochs is the one before training."""
    if best_epoch != 0 or not epochs:
        return None
    remedy = "another learning rate, more epochs or another --best-by may help"
    return f"best epoch 0: none had a better {SCORE_NAMES[best_by]} than the initial network: {remedy}"


def build_score(
    config: TrainConfig,
    data: Dataset,
    validation: NDArray[np.int64] | None,
    to_host: Callable[[Array], HostArray],
) -> Callable[[Evaluation], float] | None:
    """Return the function from an evaluation to its score; None if that is the accuracy.

    `validation` are the indices of the samples that are held out, None if there are none. Accuracies with
    weights need predictions, which ``to_host`` copies.

    Raises
    ------
    DataError
        The accuracy is weighted, and all validation samples have weight 0.
    """
    best_by = resolve_best_by(config, data.weights)
    if best_by == "loss":
        return lambda evaluation: 0.0 - evaluation.loss
    if best_by == "accuracy" or (validation is None and not data.test_is_validation):
        return None
    labels = data.y_test if validation is None else data.y_train[validation]
    measure = partial(balanced_accuracy, labels=labels, classes=data.classes)
    if best_by == "weighted-accuracy":
        measure = partial(
            weighted_accuracy, labels=labels, weights=weigh_validation(data, validation, config)
        )
    return lambda evaluation: measure(to_host(evaluation.predictions))
