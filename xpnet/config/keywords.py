"""Settings as keyword arguments of Python functions, and messages that name them so."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, get_type_hints

from xpnet.config import settings, training
from xpnet.config.constraints import merge_settings
from xpnet.config.rules import one_of, suggest
from xpnet.config.settings import RunSettings
from xpnet.config.training import DEFAULTS, RULES, TABLE_SETTINGS, TrainConfig, convert, read_settings
from xpnet.errors import ConfigError, XPNetError

P = ParamSpec("P")
T = TypeVar("T")

ARGUMENTS = {"recipe", "validation_data", "classes", "sample_weight", "callback", "callbacks", "verbose"}
ARGUMENTS |= {"run", "overwrite", "report", "track", "tags", "extend"}
"""The keyword arguments of ``xpnet.fit`` that are not in ``FitSettings``."""

COMMAND_LINE_ONLY = {field.name for field in fields(RunSettings)} - {"log_every"} - ARGUMENTS
COMMAND_LINE_ONLY |= {"data", "test_data", *TABLE_SETTINGS, "repeats", "jobs"} - {"missing"}
"""Settings of files and output, which ``xpnet.fit`` does not take."""

OF_FIT = ARGUMENTS | {*RULES} - COMMAND_LINE_ONLY
"""The keywords of ``xpnet.fit``."""


class ClassifierSettings(TypedDict, total=False):
    """The settings that ``XPNetClassifier`` takes as keywords, for type checkers; None is the default."""

    validation: float | None
    normalize: settings.Normalize | None
    augment_shift: float | None
    augment_rotate: float | None
    augment_scale: float | None
    augment_shear: float | None
    augment_elastic_alpha: float | None
    augment_elastic_sigma: float | None
    augment_thickness: float | None
    augment_fade_epochs: int | None
    hidden: int | Sequence[int] | None
    activation: settings.Activation | None
    batch_norm: bool | None
    dropout: float | None
    input_dropout: float | None
    input_noise: float | None
    init: settings.Initialization | None
    epochs: int | None
    batch_size: Literal["full"] | int | None
    loss: settings.Loss | None
    label_smoothing: float | None
    patience: int | None
    average_epochs: int | None
    optimizer: settings.OptimizerName | None
    momentum: float | None
    learning_rate: float | None
    schedule: settings.ScheduleName | None
    schedule_step_epochs: int | None
    schedule_factor: float | None
    warmup_epochs: int | None
    weight_decay: float | None
    clip_norm: float | None
    max_norm: float | None
    arithmetic: settings.Arithmetic | None
    dtype: settings.DType | None
    device: str | None
    backend: settings.BackendName | None
    workers: Literal["auto"] | int | None
    require_device: bool | None
    log_every: Literal["auto"] | int | None


class FitSettings(ClassifierSettings, total=False):
    """The settings that ``xpnet.fit`` takes as keywords, for type checkers; None is the default."""

    missing: settings.Missing | None
    init_from: str | Path | None
    class_weight: Literal["none", "balanced"] | Mapping[Any, float] | None
    seed: int | None


def check_names(names: Iterable[str], known: Collection[str], source: str) -> None:
    """Check the names of keyword arguments.

    Raises
    ------
    ConfigError
        One is none of those known, or a setting of files or output; `source` comes first in the message.
    """
    for name in sorted(set(names) - set(known)):
        if name in COMMAND_LINE_ONLY:
            msg = f"{source}: {name}: belongs to xpnet train, for it is about files or output: leave it out"
        else:
            near = suggest(name, known)
            msg = f"{source}: unknown setting {name!r}{near or ': expected one of those of xpnet train'}"
        raise ConfigError(msg)


def name_keywords(message: str) -> str:
    """Replace the flags in a message: --batch-size becomes batch_size, --init he becomes init="he"."""
    rules = {**RULES, "recipe": one_of(training.list_recipes()), "augment_*": RULES["augment_shift"]}

    def replace(match: re.Match[str]) -> str:
        name, word = match[1].replace("-", "_"), match[2]
        if name not in rules:
            return match[0]
        return f'{name}="{word[1:]}"' if word and word[1:] in rules[name].choices else f"{name}{word or ''}"

    message = message.replace("the flags of --help", "the flags of xpnet train")
    return re.sub(r"(?<![^ (])--([a-z][a-z-]*[a-z*])( \w[\w-]*)?", replace, message)


def with_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function whose errors are to name keywords in place of flags."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except XPNetError as error:
            error.args = (name_keywords(str(error)),)
            raise

    return call


def show_settings(
    kind: type, defaults: Mapping[str, object] = DEFAULTS, *, variadic: bool = True
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator of a function with the keywords `kind`: its signature names each, with its default.

    Completion, help and scikit-learn read it. With `variadic`, the ``**`` parameter stays.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        shown, hints = inspect.signature(function), get_type_hints(kind)
        *named, others = shown.parameters.values()
        for name in (name for name in DEFAULTS if name in hints):
            by_name = inspect.Parameter.KEYWORD_ONLY
            named.append(inspect.Parameter(name, by_name, default=defaults[name], annotation=hints[name]))
        parameters = [*named, others] if variadic else named
        function.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def to_python(value: Any) -> object:
    """Convert NumPy numbers to Python numbers, and arrays and tuples to lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(map(to_python, value)) if isinstance(value, list | tuple) else value


def from_keywords(
    arguments: Mapping[str, object], source: str, recipe: str | Path | None = None
) -> tuple[TrainConfig, frozenset[str]]:
    """Return the settings from keyword arguments and a recipe, and the names of those that either sets.

    Values are Python's or NumPy's; None stands for the default. They override the recipe, a name or the path
    of a TOML file, as flags do. Settings of files and output in the recipe are ignored.

    Raises
    ------
    ConfigError
        A keyword or a value is wrong, or two settings contradict each other: one line.
    DataError
        The TOML file cannot be read.
    """
    keywords = {name: to_python(value) for name, value in arguments.items()}
    if isinstance(keywords.get("class_weight"), Mapping):  # which weigh the samples instead
        keywords["class_weight"] = "none"
    ignored = COMMAND_LINE_ONLY | ARGUMENTS | {name for name, value in keywords.items() if value is None}
    chosen = {name: value for name, value in keywords.items() if value is not None}
    sources = [
        {name: value for name, value in values.items() if name not in ignored}
        for values in (() if recipe is None else read_settings(recipe))
    ]
    values, explicit = merge_settings(DEFAULTS, [*sources, convert(chosen, source)])
    rates = values.learning_rate
    if isinstance(rates, tuple) and len(rates) > 1:
        raise ConfigError.at(source, f"learning_rate: expected one number, got {list(rates)}")
    return TrainConfig(**vars(values)), explicit
