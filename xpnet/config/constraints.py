"""Constraints between settings: combinations that are refused."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from xpnet.config.settings import DISTORTIONS
from xpnet.errors import setting

Settings: TypeAlias = Any
"""The attributes of a ``TrainConfig``, or of what is to become one."""


Violation: TypeAlias = tuple[str, str | None, str]
"""A setting that is not allowed in combination with another, the one that rules it out, and the message.

The two may come from different sources. If the other comes from the source with the higher precedence (a
flag over a recipe, say), the setting returns to its default: a recipe with momentum and the flag
`--optimizer adam` need no flag that removes the momentum. It never does if the other is None.
"""


def find_violations(c: Settings) -> Iterator[Violation]:  # noqa: C901, PLR0912, PLR0915 - one list
    """Yield the violated constraints, lazily: each is evaluated with the attributes as they are by then."""
    # Data
    if c.test_data and not c.data:
        yield "test_data", None, f"needs {setting('data')} TRAIN.csv beside it, got {c.test_data} alone"
    if c.test_split and c.test_data:
        yield "test_split", "test_data", f"there is {setting('test_data')} already: give one of the two"

    if c.augment_elastic_sigma and not c.augment_elastic_alpha:
        message = f"needs {setting('augment_elastic_alpha')}, the strength of the deformation"
        yield "augment_elastic_sigma", "augment_elastic_alpha", message
    if c.augment_fade_epochs and not any(getattr(c, name) for name in DISTORTIONS):
        message = f"needs a distortion that fades, such as {setting('augment_rotate')} 10"
        yield "augment_fade_epochs", None, message
    if c.augment_fade_epochs > c.epochs:
        yield "augment_fade_epochs", "epochs", _too_many(c, c.augment_fade_epochs)
    # Network
    needs_hidden = f"needs hidden layers: leave it out, or give {setting('hidden')} their units"
    if c.activation != "relu" and not c.hidden:
        yield "activation", "hidden", needs_hidden
    if c.batch_norm and not c.hidden:
        yield "batch_norm", "hidden", needs_hidden
    if c.batch_norm and c.batch_size == 1:
        message = f"needs a {setting('batch_size')} of 2 or more, got 1: one sample has no variance"
        yield "batch_norm", "batch_size", message
    if c.dropout and not c.hidden:
        remedy = f"give {setting('hidden')} their units; {setting('input_dropout')} drops inputs"
        yield "dropout", "hidden", f"needs hidden layers: {remedy}"
    if c.init != "uniform" and c.init_from:
        message = f"the initial parameters come from {setting('init_from')}: give one of the two"
        yield "init", "init_from", message
    if c.arithmetic == "reproducible" and c.dtype == "float32":
        remedy = f"add {setting('arithmetic', 'native')}"
        message = f"reproducible arithmetic takes auto or float64, got float32: {remedy}"
        yield "dtype", "arithmetic", message
    if c.overwrite and not c.name:
        yield "overwrite", None, f"needs {setting('name')} NAME, the run that it replaces"
    if c.resume_or_start and (not c.name or c.overwrite):
        message = f"needs {setting('name')} NAME, the run to go on with, and no {setting('overwrite')}"
        yield "resume_or_start", None, message
    if c.resume_or_start and (c.repeats > 1 or isinstance(c.learning_rate, tuple)):
        message = f"expected one training, not {setting('repeats')} or several learning rates"
        yield "resume_or_start", None, message
    # Training
    if c.patience and not c.validation:
        yield "patience", "validation", f"needs {setting('validation')}, the samples that tell when to stop"
    if c.best_by != "auto" and not c.validation:
        yield "best_by", "validation", f"needs {setting('validation')}, the samples that it judges by"
    if c.average_epochs > 1 and c.patience:
        yield "average_epochs", "patience", f"there is {setting('patience')} already: give one of the two"
    if c.average_epochs > max(c.epochs, 1):
        yield "average_epochs", "epochs", _too_many(c, c.average_epochs)
    if c.seed + c.repeats > 2**64:
        yield "repeats", None, f"the last seed is above 2^64 - 1: use a smaller {setting('seed')}"
    if c.repeats > 1 and isinstance(c.learning_rate, tuple):
        yield "repeats", None, "expected 1 with several learning rates: choose one rate first, then repeat"
    if c.jobs != 1 and c.repeats == 1 and not isinstance(c.learning_rate, tuple):
        remedy = f"add {setting('repeats')}, or several {setting('learning_rate')}"
        yield "jobs", "repeats", f"needs several trainings: {remedy}"
    # Optimizer
    if c.momentum is not None and c.optimizer not in ("momentum", "nesterov"):
        message = f"needs {setting('optimizer', 'momentum')} or nesterov, got {c.optimizer}"
        yield "momentum", "optimizer", message
    if isinstance(c.learning_rate, tuple) and not c.validation:
        yield "learning_rate", None, f"several need {setting('validation')}, the samples to compare them on"
    if c.schedule_step_epochs and c.schedule != "step":
        yield "schedule_step_epochs", "schedule", f"needs {setting('schedule', 'step')}, got {c.schedule}"
    if c.schedule_factor and c.schedule == "constant":
        message = f"needs {setting('schedule', 'step')}, exponential or cosine, got constant"
        yield "schedule_factor", "schedule", message
    if c.warmup_epochs > c.epochs:
        yield "warmup_epochs", "epochs", _too_many(c, c.warmup_epochs)


def _too_many(c: Settings, epochs: int) -> str:
    return f"expected at most the number of {setting('epochs')}, {c.epochs}, got {epochs}"
