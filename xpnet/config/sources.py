"""Settings from TOML files, from recipes, and from the record of a run."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xpnet._lib.files import read_regular
from xpnet.config.rules import one_of, shown
from xpnet.config.training import RULES, TrainConfig
from xpnet.errors import ConfigError, DataError

_RECIPES = Path(__file__).resolve().parent / "recipes"
LARGEST = 2**20
"""Bytes that a TOML file of settings may have."""
RECIPE = "recipe"
"""The key in a TOML file that names the recipe it builds on."""


class File(NamedTuple):
    """The content of a TOML file."""

    settings: dict[str, Any]
    recipe: str | None = None


def read(file: Path) -> File:
    """Return the checked settings of a TOML file, and the recipe that it names.

    Raises
    ------
    ConfigError
        The file cannot be read, is no TOML, or a key or value is wrong: one line with file and key.
    """
    try:
        content = read_regular(file, LARGEST, "--config takes a TOML file")
        table = tomllib.loads(content.decode())
    except DataError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        msg = f"{file}: not a TOML file ({reason}): expected lines such as batch_size = 32"
        raise ConfigError(msg) from error
    recipe = table.pop(RECIPE, None)
    if recipe is not None:
        _check_recipe(f"{file}: {RECIPE}", recipe)
    return File(_settings(table, str(file)), recipe)


def recipes() -> tuple[str, ...]:
    """Return the names of all recipes."""
    return tuple(sorted(file.stem for file in _RECIPES.glob("*.toml")))


def recipe_settings(name: str) -> dict[str, Any]:
    """Return the settings that a recipe makes.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    _check_recipe("--recipe", name)
    return read(_RECIPES / f"{name}.toml").settings


def from_recipe(name: str) -> TrainConfig:
    """Return the settings of a recipe; ``dataclasses.replace`` changes them.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    return TrainConfig(**recipe_settings(name))


def from_resolved(settings: Mapping[str, object], source: str) -> TrainConfig:
    """Return the settings that ``resolved`` made JSON values of; `source` says where they stand.

    What is missing or null has its default.

    Raises
    ------
    ConfigError
        A key or value is wrong, or two settings contradict each other: one line with the source.
    """
    values = {name: value for name, value in settings.items() if value is not None}
    return TrainConfig(**_settings(values, source))


def _check_recipe(where: str, name: object) -> None:
    if problem := one_of(recipes()).problem(name, name):
        msg = f"{where}: {problem}"
        raise ConfigError(msg)


def _settings(table: Mapping[str, object], source: str) -> dict[str, Any]:
    return {key: _setting(source, key, found) for key, found in table.items()}


def _setting(source: str, key: str, found: object) -> object:
    """Return a TOML or JSON value as the setting's own type."""
    if key not in RULES:
        near = difflib.get_close_matches(key, RULES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        msg = f"{source}: unknown key {shown(key)}: {hint}Keys are the flags of --help with _ for -"
        raise ConfigError(msg)
    value = RULES[key].read(found)
    if problem := RULES[key].problem(value, found):
        msg = f"{source}: {key}: {problem}"
        raise ConfigError(msg)
    return value
