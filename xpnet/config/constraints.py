"""Constraints between settings: combinations that are refused."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, NamedTuple


class Violation(NamedTuple):
    """A setting that makes no sense beside another.

    Both may come from different places. If `of` comes from one that wins over that of `name` (a flag over
    a recipe, say), `name` falls back to its default: a recipe with momentum and the flag `--optimizer adam`
    need no flag that takes the momentum away.
    """

    name: str  # of the setting without sense
    of: str | None  # the setting that deprives it of its sense; None if `name` never falls back
    message: str


def violations(c: Any) -> Iterator[Violation]:
    """Yield the constraints that settings, the attributes of `c`, violate; each is looked at in its turn."""
    return (Violation(*violation) for violation in chain(_of_network(c), _of_training(c)))


def _of_network(c: Any) -> Iterator[tuple[str, str | None, str]]:
    needs_hidden = "needs hidden layers: leave it out, or give --hidden their units"
    if c.test_data is not None and c.data is None:
        yield "test_data", None, f"needs --data TRAIN.csv beside it, got {c.test_data} alone"
    if c.augment_elastic_sigma is not None and c.augment_elastic_alpha == 0:
        message = "needs --augment-elastic-alpha, the strength of the deformation"
        yield "augment_elastic_sigma", "augment_elastic_alpha", message
    if c.activation != "relu" and not c.hidden:
        yield "activation", "hidden", needs_hidden
    if c.batch_norm and not c.hidden:
        yield "batch_norm", "hidden", needs_hidden
    if c.batch_norm and c.batch_size == 1:
        message = "needs a --batch-size of 2 or more, got 1: one sample has no variance"
        yield "batch_norm", "batch_size", message
    if c.dropout > 0 and not c.hidden:
        message = "needs hidden layers: give --hidden their units; --input-dropout drops inputs"
        yield "dropout", "hidden", message
    if c.init != "uniform" and c.init_from is not None:
        yield "init", "init_from", "the initial parameters come from --init-from: give one of the two"
    if c.arithmetic == "reproducible" and c.dtype == "float32":
        message = "reproducible arithmetic takes auto or float64, got float32: add --arithmetic native"
        yield "dtype", "arithmetic", message
    if c.overwrite and c.name is None:
        yield "overwrite", None, "needs --name NAME, the run that it replaces"


def _of_training(c: Any) -> Iterator[tuple[str, str | None, str]]:
    if c.patience is not None and c.validation == 0:
        yield "patience", "validation", "needs --validation N, the number of samples that tell when to stop"
    if c.seed + c.repeats > 2**64:
        yield "repeats", None, "the last seed is above 2^64 - 1: use a smaller --seed"
    if c.repeats > 1 and c.init_from is not None and not _is_random_after_the_start(c):
        yield "repeats", None, "every seed trains the same: from --init-from on, nothing is random"
    if c.repeats > 1 and isinstance(c.learning_rate, tuple):
        yield "repeats", None, "expected 1 with several learning rates: choose one rate first, then repeat"
    if c.momentum is not None and c.optimizer not in ("momentum", "nesterov"):
        yield "momentum", "optimizer", f"needs --optimizer momentum or nesterov, got {c.optimizer}"
    if isinstance(c.learning_rate, tuple) and c.validation == 0:
        yield "learning_rate", None, "several need --validation N, the number of samples to compare them on"
    if c.schedule_step_epochs is not None and c.schedule != "step":
        yield "schedule_step_epochs", "schedule", f"needs --schedule step, got {c.schedule}"
    if c.schedule_factor is not None and c.schedule not in ("step", "exponential"):
        yield "schedule_factor", "schedule", f"needs --schedule step or exponential, got {c.schedule}"
    if c.warmup_epochs > c.epochs:
        message = f"expected at most the number of --epochs, {c.epochs}, got {c.warmup_epochs}"
        yield "warmup_epochs", "epochs", message


def _is_random_after_the_start(c: Any) -> bool:
    distorted = c.augment_shift, c.augment_rotate, c.augment_scale, c.augment_shear, c.augment_elastic_alpha
    return c.batch_size != "full" or any((c.dropout, c.input_dropout, c.validation, *distorted))


def merge(
    defaults: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return every setting, and the names of those that come from a source.

    `sources` hold settings that are right each by itself; later ones win. A setting that has lost its sense
    by a later source falls back to its default (see ``Violation``).
    """
    rank = {name: place for place, source in enumerate(sources) for name in source}
    settings = SimpleNamespace(**defaults)
    for source in sources:
        vars(settings).update(source)
    for name, of, _ in violations(settings):
        if of is not None and rank[name] < rank.get(of, -1):
            setattr(settings, name, defaults[name])
            del rank[name]
    return vars(settings), frozenset(rank)
