"""Settings as keyword arguments of Python functions, and messages that name them so."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from xpnet._lib.text import did_you_mean
from xpnet.config import list_recipes
from xpnet.config.constraints import merge_settings
from xpnet.config.rules import one_of
from xpnet.config.settings import RunSettings
from xpnet.config.training import DEFAULTS, RULES, TABLE_SETTINGS, TrainConfig, convert, read_settings
from xpnet.errors import ConfigError, XPNetError

P = ParamSpec("P")
T = TypeVar("T")

COMMAND_LINE_ONLY = {field.name for field in fields(RunSettings)} - {"log_every"}
COMMAND_LINE_ONLY |= {"data", "test_data", *TABLE_SETTINGS, "repeats"}
"""Settings of files and output, which ``xpnet.fit`` does not take."""

OF_FIT = {
    "recipe",
    "validation_data",
    "classes",
    "sample_weight",
    "callback",
    "verbose",
    *RULES,
} - COMMAND_LINE_ONLY
"""The keywords of ``xpnet.fit``."""

SYNONYMS = {"lr": "learning_rate", "random_state": "seed", "seed": "random_state"}
"""Keywords of other functions, each with its name where it is unknown."""


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
            near = f": did you mean {SYNONYMS[name]}?" if name in SYNONYMS else did_you_mean(name, known)
            msg = f"{source}: unknown setting {name!r}{near or ': expected one of those of xpnet train'}"
        raise ConfigError(msg)


def name_keywords(message: str) -> str:
    """Replace the flags in a message: --batch-size becomes batch_size, --init he becomes init="he"."""
    rules = {**RULES, "recipe": one_of(list_recipes()), "augment_*": RULES["augment_shift"]}

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
    ignored = COMMAND_LINE_ONLY | {name for name, value in keywords.items() if value is None}
    settings = {name: value for name, value in keywords.items() if value is not None}
    sources = [
        {name: value for name, value in values.items() if name not in ignored}
        for values in (() if recipe is None else read_settings(recipe))
    ]
    values, explicit = merge_settings(DEFAULTS, [*sources, convert(settings, source)])
    rates = values.learning_rate
    if isinstance(rates, tuple) and len(rates) > 1:
        msg = f"{source}: learning_rate: expected one number, got {list(rates)}"
        raise ConfigError(msg)
    return TrainConfig(**vars(values)), explicit
