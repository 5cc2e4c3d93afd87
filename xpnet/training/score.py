"""The weights of samples, and the score of an epoch, by which one is the best; computed on the host."""

import math
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.compute.evaluation import SampleEvaluation
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import DataError, setting
from xpnet.nn.metrics import class_metrics
from xpnet.training.loop import FitResult

SCORE_NAMES = {"accuracy": "validation accuracy", "loss": "negative validation loss"}
SCORE_NAMES |= {f"{kind}-accuracy": f"{kind} validation accuracy" for kind in ("weighted", "balanced")}
"""The values of the setting `best_by` in words."""


def resolve_best_by(config: TrainConfig, weights: object) -> str:
    """Return the setting `best_by`, with "auto" resolved; `weights` of samples are None without."""
    if config.best_by != "auto":
        return config.best_by
    is_weighted = weights is not None or config.class_weight == "balanced"
    return "weighted-accuracy" if is_weighted else "accuracy"


def initial_note(best_by: str, result: FitResult) -> str | None:
    """Return a note if the best epoch is the one before training."""
    if result.best_epoch != 0 or not result.state.epoch:
        return None
    remedy = f"another learning rate, more epochs or another {setting('best_by')} may help"
    return f"best epoch 0: none had a better {SCORE_NAMES[best_by]} than the initial network: {remedy}"


def build_score(trainer: Any, validation: "HostArray | None") -> Function | None:
    """Return the function from an evaluation to its score; None if that is the accuracy.

    `validation` are the indices of the samples that are held out, None if there are none.

    Raises
    ------
    DataError
        The accuracy is weighted, and all validation samples have weight 0.
    """
    data = trainer.data
    to_host = trainer.backend.to_host
    best_by = trainer.best_by
    if best_by == "loss":
        return lambda evaluation: 0.0 - evaluation.loss
    if best_by == "accuracy" or (validation is None and not data.test_is_validation):
        return None
    labels = data.y_test if validation is None else data.y_train[validation]
    if best_by == "weighted-accuracy":
        weights = weigh_validation(data, labels, validation, trainer.config.class_weight)
        total = math.fsum(weights)
        return lambda evaluation: math.fsum(weights[to_host(evaluation.predictions) == labels]) / total

    def mean_recall(evaluation: SampleEvaluation) -> float:
        metrics = class_metrics(to_host(evaluation.predictions), labels, data.classes)
        recalls = [each.recall for each in metrics if each.recall is not None]
        return reduce(add, recalls) / len(recalls)  # Python's sum depends on its version

    return mean_recall


def normalize_weights(data: Dataset, training: "HostArray | None", config: TrainConfig) -> "HostArray | None":
    """Return the factor of each sample's loss, (m,). Their mean over the training samples is 1. None: all 1.

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
        weights = _balance(weights, data.y_train, rows)
    weights = weights / weights[rows].max()
    return np.asarray(weights * (weights[rows].size / math.fsum(weights[rows])), config.float_type)


def weigh_validation(data: Dataset, labels: HostArray, held_out: Any, kind: str) -> HostArray:
    """Return the weights of the validation samples with these labels, those that are held out or their own.

    They are those of `normalize_weights` but for the last two steps, with sums over these samples. `kind` is
    the setting ``class_weight``.

    Raises
    ------
    DataError
        All are 0.
    """
    weights = np.ones(len(labels)) if data.class_weights is None else data.class_weights[labels]
    if held_out is not None and data.weights is not None:
        weights = data.weights[held_out]
    if not weights.any():
        hint = "give classes in it a weight, or set best_by to accuracy"
        raise DataError.at("validation_data", f"all its samples have weight zero: {hint}")
    return _balance(weights, labels) if kind == "balanced" else weights


def _balance(weights: HostArray, labels: HostArray, rows: Any = slice(None)) -> HostArray:
    """Return weights divided by their sum over those `rows` that are of the class."""
    totals = np.bincount(labels[rows], weights[rows], minlength=int(labels.max()) + 1)
    return weights / np.where(totals > 0, totals, 1.0)[labels]
