"""Settings as keyword arguments of Python functions, and messages that name them so."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from xpnet.config.constraints import merge_settings
from xpnet.config.settings import RunSettings
from xpnet.config.training import (
    DEFAULTS,
    RULES,
    TABLE_SETTINGS,
    TrainConfig,
    convert,
    list_recipes,
    read_settings,
)
from xpnet.errors import ConfigError

COMMAND_LINE_ONLY = {field.name for field in fields(RunSettings)} - {"log_every"}
COMMAND_LINE_ONLY |= {"data", "test_data", *TABLE_SETTINGS, "repeats"}
"""Settings of files and output, which ``xpnet.fit`` does not take."""

_FLAG = re.compile(r"(?<![^ (])--([a-z][a-z-]*[a-z*])(?: (\w[\w-]*))?")


def name_keywords(message: str) -> str:
    """Replace the flags in a message: --batch-size becomes batch_size, --init he becomes init="he"."""
    return _FLAG.sub(_flag_to_keyword, message)


def _flag_to_keyword(match: re.Match[str]) -> str:
    name, word = match[1].replace("-", "_"), match[2]
    choices = {"recipe": list_recipes(), "device": ("auto", "cpu", "cuda")}
    choices |= {setting: rule.choices for setting, rule in RULES.items() if rule.choices}
    if name not in {*RULES, *choices} and not name.endswith("*"):
        return match[0]
    if word is None:
        return name
    if word.isupper():
        return f"{name}={word}"
    return f'{name}="{word}"' if word in choices.get(name, ()) else f"{name} {word}"


def from_keywords(
    keywords: Mapping[str, object], source: str, recipe: str | Path | None = None
) -> tuple[TrainConfig, frozenset[str]]:
    """Return the settings from keyword arguments and a recipe, and the names of those that either sets.

    Keywords override the recipe, a name or the path of a TOML file, as flags do; None stands for the default.
    Settings of files and output in the recipe are ignored.

    Raises
    ------
    ConfigError
        A keyword or a value is wrong, or two settings contradict each other: one line.
    DataError
        The TOML file cannot be read.
    """
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
