"""Settings from TOML files, from recipes, and from the record of a run."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet._lib.files import read_regular_file
from xpnet._lib.text import did_you_mean
from xpnet.config.rules import format_value, one_of
from xpnet.config.training import RULES, TrainConfig
from xpnet.errors import ConfigError

_RECIPES = Path(__file__).resolve().parent / "recipes"
LARGEST = 2**20
"""Bytes that a TOML file of settings may have."""
RECIPE = "recipe"
"""The key in a TOML file that names the recipe it builds on."""


def read_toml(file: Path) -> tuple[dict[str, object], str | None]:
    """Read a TOML file; return its checked settings and the name of its recipe, if any.

    Raises
    ------
    DataError
        The file cannot be read.
    ConfigError
        It is no TOML, or a key or value is wrong: one line with file and key.
    """
    content = read_regular_file(file, LARGEST, "--config takes a TOML file")
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        msg = f"{file}: not a TOML file ({reason}): expected lines such as batch_size = 32"
        raise ConfigError(msg) from error
    recipe = table.pop(RECIPE, None)
    if recipe is not None:
        one_of(list_recipes()).check(f"{file}: {RECIPE}", recipe)
    return _convert(table, str(file)), recipe


def list_recipes() -> tuple[str, ...]:
    """Return the names of all recipes."""
    return tuple(sorted(file.stem for file in _RECIPES.glob("*.toml")))


def read_recipe(name: str) -> dict[str, object]:
    """Return the settings of a recipe.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    one_of(list_recipes()).check("--recipe", name)
    return read_toml(_RECIPES / f"{name}.toml")[0]


def from_json(settings: Mapping[str, object], source: str) -> TrainConfig:
    """Return the settings from the JSON object that ``to_json`` returns.

    Missing settings and null have their defaults. `source` names the origin in error messages.

    Raises
    ------
    ConfigError
        A key or value is wrong, or two settings contradict each other: one line with the source.
    """
    values = {name: value for name, value in settings.items() if value is not None}
    return TrainConfig(**_convert(values, source))


def _convert(table: Mapping[str, object], source: str) -> dict[str, Any]:
    """Convert TOML or JSON values to the types of the settings, and check them."""
    settings = {}
    for key, raw in table.items():
        if key not in RULES:
            hint = did_you_mean(key, RULES) or ":"
            msg = f"{source}: unknown key {format_value(key)}{hint} Keys are the flags of --help with _ for -"
            raise ConfigError(msg)
        settings[key] = RULES[key].read(raw)
        RULES[key].check(f"{source}: {key}", settings[key], raw)
    return settings
