"""Settings that do not go together, each with the setting that would have to be another."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple


class Contradiction(NamedTuple):
    """A setting that makes no sense beside another.

    Both may come from different places. Where `of` comes from one that wins over that of `name` (a flag
    over a recipe, say), `name` falls back to its default: whoever takes a recipe with momentum and adds
    `--optimizer adam` needs no flag that takes the momentum away.
    """

    name: str  # of the setting without sense
    of: str | None  # the setting that deprives it of its sense; None if `name` is never to fall
    holds: Callable[[Any], bool]  # whether these settings contradict each other
    message: str  # to be formatted with the settings as `c`


CONTRADICTIONS = (
    Contradiction(
        "test_data",
        None,
        lambda c: c.test_data is not None and c.data is None,
        "needs --data TRAIN.csv beside it, got {c.test_data} alone",
    ),
    Contradiction(
        "augment_elastic_sigma",
        "augment_elastic_alpha",
        lambda c: c.augment_elastic_sigma is not None and c.augment_elastic_alpha == 0,
        "needs --augment-elastic-alpha, the strength of the deformation",
    ),
    Contradiction(
        "activation",
        "hidden",
        lambda c: c.activation != "relu" and not c.hidden,
        "needs hidden layers: leave it out, or give --hidden their units",
    ),
    Contradiction(
        "batch_norm",
        "hidden",
        lambda c: c.batch_norm and not c.hidden,
        "needs hidden layers: leave it out, or give --hidden their units",
    ),
    Contradiction(
        "batch_norm",
        "batch_size",
        lambda c: c.batch_norm and c.batch_size == 1,
        "needs a --batch-size of 2 or more, got 1: one sample has no variance",
    ),
    Contradiction(
        "dropout",
        "hidden",
        lambda c: c.dropout > 0 and not c.hidden,
        "needs hidden layers: give --hidden their units; --input-dropout drops inputs",
    ),
    Contradiction(
        "init",
        "init_from",
        lambda c: c.init != "uniform" and c.init_from is not None,
        "the initial parameters come from --init-from: give one of the two",
    ),
    Contradiction(
        "patience",
        "validation",
        lambda c: c.patience is not None and c.validation == 0,
        "needs --validation N, the number of samples that tell when to stop",
    ),
    Contradiction(
        "repeats",
        None,
        lambda c: c.seed + c.repeats > 2**64,
        "the last seed is above 2^64 - 1: use a smaller --seed",
    ),
    Contradiction(
        "repeats",
        None,
        lambda c: c.repeats > 1 and c.init_from is not None and not _is_random_after_the_start(c),
        "every seed trains the same: from --init-from on, nothing is random",
    ),
    Contradiction(
        "momentum",
        "optimizer",
        lambda c: c.momentum is not None and c.optimizer not in ("momentum", "nesterov"),
        "needs --optimizer momentum or nesterov, got {c.optimizer}",
    ),
    Contradiction(
        "learning_rate",
        None,
        lambda c: isinstance(c.learning_rate, tuple) and c.validation == 0,
        "several need --validation N, the number of samples to compare them on",
    ),
    Contradiction(
        "schedule_step_epochs",
        "schedule",
        lambda c: c.schedule_step_epochs is not None and c.schedule != "step",
        "needs --schedule step, got {c.schedule}",
    ),
    Contradiction(
        "schedule_factor",
        "schedule",
        lambda c: c.schedule_factor is not None and c.schedule not in ("step", "exponential"),
        "needs --schedule step or exponential, got {c.schedule}",
    ),
    Contradiction(
        "warmup_epochs",
        "epochs",
        lambda c: c.warmup_epochs > c.epochs,
        "expected at most the number of --epochs, {c.epochs}, got {c.warmup_epochs}",
    ),
    Contradiction(
        "dtype",
        "arithmetic",
        lambda c: c.arithmetic == "reproducible" and c.dtype == "float32",
        "reproducible arithmetic takes auto or float64, got float32: add --arithmetic native",
    ),
    Contradiction(
        "overwrite",
        None,
        lambda c: c.overwrite and c.name is None,
        "needs --name NAME, the run that it replaces",
    ),
)


def _is_random_after_the_start(c: Any) -> bool:
    amounts = (
        c.dropout,
        c.input_dropout,
        c.validation,
        c.augment_shift,
        c.augment_rotate,
        c.augment_scale,
        c.augment_shear,
        c.augment_elastic_alpha,
    )
    return c.batch_size != "full" or any(amounts)


def merged(
    defaults: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return every setting, and the names of those that come from a layer.

    `layers` hold settings that may be, each by itself; later layers win. What has lost its sense by a
    later layer is left out (see ``Contradiction``).
    """
    chosen = {name: value for layer in layers for name, value in layer.items()}
    rank = {name: place for place, layer in enumerate(layers) for name in layer}
    for name, of, holds, _ in CONTRADICTIONS:
        overruled = name in chosen and of is not None and rank[name] < rank.get(of, -1)
        if overruled and holds(SimpleNamespace(**{**defaults, **chosen})):
            del chosen[name]
    return {**defaults, **chosen}, frozenset(chosen)
