"""The complete, validated configuration of a training run, and its forms in JSON, TOML files and recipes."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias, get_type_hints

from xpnet._lib.files import read_regular_file
from xpnet._lib.text import join_lines
from xpnet._typing import Json, Names, Values
from xpnet.config import settings
from xpnet.config.constraints import find_violations
from xpnet.config.rules import derive_rule, format_value, one_of, suggest
from xpnet.errors import ConfigError, in_words, setting

TABLE_SETTINGS = ("test_split", "label", "missing", "columns", "drop", "encode", "unknown")
"""The settings of CSV files."""

Settings: TypeAlias = dict[str, object]
"""Settings by name."""


@dataclass(frozen=True)
class TrainConfig(  # the bases in reverse: the fields of the last come first
    settings.RunSettings,
    settings.ComputationSettings,
    settings.OptimizerSettings,
    settings.TrainingSettings,
    settings.NetworkSettings,
    settings.AugmentationSettings,
    settings.DataSettings,
):
    """The settings of a training run, see ``xpnet.config.settings``; the defaults are the notebook's.

    A tuple of one learning rate becomes that rate. With `resume` or `extend`, the settings of that run apply,
    so that the constraints between those passed here are not checked.

    Raises
    ------
    ConfigError
        A value has the wrong type or lies out of range, or two settings contradict each other.
    """

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            rule.check(setting(name), getattr(self, name))
        if isinstance(self.learning_rate, tuple) and len(self.learning_rate) == 1:
            object.__setattr__(self, "learning_rate", self.learning_rate[0])
        continued = [name for name in ("resume", "resume_or_start", "extend") if getattr(self, name)]
        if len(continued) > 1:
            first, second = continued[:2]
            place = "" if first == "resume_or_start" else f" {getattr(self, first)}"
            raise ConfigError(
                f"{setting(second)}: there is {setting(first)}{place} already: give one of the two"
            )
        if not (self.resume or self.extend):
            for name, _, message in find_violations(self):
                raise ConfigError(f"{setting(name)}: {message}")

    @property
    def float_type(self) -> str:
        """The floating-point type, float32 or float64, with `dtype` "auto" resolved."""
        if self.dtype == "auto":
            return "float64" if self.arithmetic == "reproducible" else "float32"
        return self.dtype

    @property
    def log_interval(self) -> int:
        """Epochs from one logged epoch to the next, with `log_every` "auto" resolved."""
        if self.log_every == "auto":
            return 1 if self.epochs <= 20 or self.patience else self.epochs // 10
        return self.log_every

    def validation_samples(self, count: int) -> int:
        """Return how many of the `count` training samples are held out for validation."""
        if isinstance(self.validation, int):
            return self.validation
        return max(1, round(self.validation * count))

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates to compare, or the only one."""
        rates = self.learning_rate
        return rates if isinstance(rates, tuple) else (rates,)

    @property
    def seeds(self) -> range:
        """The seeds of the repeated training runs, or the only one."""
        return range(self.seed, self.seed + self.repeats)

    @property
    def table_options(self) -> Json:
        """The settings of CSV files, keyword arguments of ``xpnet.data.datasets.load``."""
        return {name: getattr(self, name) for name in TABLE_SETTINGS}

    @property
    def optimizer_options(self) -> Json:
        """The options of the optimiser, arguments of ``xpnet.nn.optim.build``."""
        names = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm, "max_norm": self.max_norm}
        return names if self.momentum is None else {**names, "decay": self.momentum}


DEFAULTS: Settings = {field.name: field.default for field in fields(TrainConfig)}
RULES = {name: derive_rule(hint) for name, hint in get_type_hints(TrainConfig, include_extras=True).items()}
"""The rule of each setting, by name."""

_RECIPES = Path(__file__).resolve().parent / "recipes"
LARGEST = 2**20
"""Bytes that a TOML file of settings may have."""


def merge_settings(sources: Sequence[Values]) -> tuple[SimpleNamespace, frozenset[str]]:
    """Return all settings as attributes, and the names of those that a source sets.

    `sources` hold settings that are valid one by one; later sources win. A setting that a later source
    rules out returns to its default (see ``Violation``).
    """
    rank = {name: position for position, source in enumerate(sources) for name in source}
    settings = SimpleNamespace(**DEFAULTS)
    for source in sources:
        vars(settings).update(source)
    for name, overridden_by, _ in find_violations(settings):
        if overridden_by and rank[name] < rank.get(overridden_by, -1):
            setattr(settings, name, DEFAULTS[name])
            del rank[name]
    return settings, frozenset(rank)


def to_json(config: TrainConfig) -> Settings:
    """Return the settings as a JSON object: paths become strings, tuples lists; None stays None."""
    return dict(json.loads(json.dumps(vars(config), default=str)))


def recorded_defaults() -> Settings:
    """Return the default settings as the record of a training without weights has them."""
    return to_json(TrainConfig()) | {"best_by": "accuracy"}


def to_toml(config: TrainConfig) -> str:
    """Return the settings as a TOML file that `--config` reads back to an equal `TrainConfig`.

    Raises
    ------
    ConfigError
        A path is not valid Unicode, so that a TOML file cannot hold it.
    """
    text = ""
    for key, value in to_json(config).items():
        if isinstance(value, str) and value.encode(errors="replace").decode() != value:
            msg = f"{setting(key)}: expected text that a TOML file can hold, got {format_value(value)}"
            raise ConfigError(msg)
        if value is not None:
            text += f"{key} = {json.dumps(value, ensure_ascii=False)}\n"  # TOML writes these as JSON does
    return "".join(each if each.isprintable() or each == "\n" else f"\\U{ord(each):08x}" for each in text)


def read_toml(file: Path) -> tuple[Settings, str | None]:
    """Read a TOML file; return its checked settings and the name of its recipe, if any.

    Raises
    ------
    DataError
        The file cannot be read.
    ConfigError
        It is no TOML, or a key or value is wrong: one line with file and key.
    """
    content = read_regular_file(file, LARGEST, "expected a TOML file")
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        msg = f"{file}: not a TOML file ({join_lines(error)}): expected lines such as batch_size = 32"
        raise ConfigError(msg) from error
    recipe = table.pop("recipe", None)
    if recipe is not None:
        one_of(list_recipes()).check(f"{file}: recipe", recipe)
    return convert(table, str(file)), recipe


def list_recipes() -> Names:
    """Return the names of all recipes."""
    return tuple(sorted(file.stem for file in _RECIPES.glob("*.toml")))


def read_recipe(name: str) -> Settings:
    """Return the settings of a recipe.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    one_of(list_recipes()).check(setting("recipe"), name)
    return read_toml(_RECIPES / f"{name}.toml")[0]


def read_settings(recipe: str | Path) -> list[Settings]:
    """Return the settings of a recipe by its name, or of the recipe of a TOML file and of the file.

    Raises
    ------
    DataError
        The file cannot be read.
    ConfigError
        There is no such recipe, or the file is wrong.
    """
    if isinstance(recipe, Path) or (isinstance(recipe, str) and recipe.endswith(".toml")):
        file, name = read_toml(Path(recipe))
        return [read_recipe(name or "notebook"), file]
    names = one_of(list_recipes())
    replace(names, expected=f"{names.expected}, or the path of a .toml file").check(setting("recipe"), recipe)
    return [read_recipe(recipe)]


def from_json(settings: Values, source: str) -> TrainConfig:
    """Return the settings from the JSON object that ``to_json`` returns.

    Missing settings and null have their defaults, but `best_by` is accuracy: older records lack it. Without
    validation samples it judges nothing, and is auto. `source` names the origin in error messages.

    Raises
    ------
    ConfigError
        A key or value is wrong, or two settings contradict each other: one line with the source.
    """
    best_by = settings.get("best_by", "accuracy") if settings.get("validation") else "auto"
    values = {name: value for name, value in settings.items() if value is not None} | {"best_by": best_by}
    return TrainConfig(**convert(values, source))


def convert(table: Values, source: str) -> Json:
    """Convert TOML, JSON or Python values to the types of the settings, and check them.

    Raises
    ------
    ConfigError
        A key or value is wrong: one line with `source`.
    """
    settings = {}
    for key, raw in table.items():
        if key not in RULES:
            hint = suggest(key, RULES) or ":"
            known = f"the flags of {in_words('--help', 'xpnet train')} with _ for -"
            raise ConfigError(f"{source}: unknown key {format_value(key)}{hint} Keys are {known}")
        one_layer = key == "hidden" and isinstance(raw, int)  # as in hidden = 32
        settings[key] = RULES[key].read([raw] if one_layer else raw)
        RULES[key].check(f"{source}: {key}", settings[key])
    return settings
