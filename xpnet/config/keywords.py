"""Settings as keyword arguments of Python functions, and functions whose messages name them so."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_type_hints

from xpnet._typing import AnyFunction, Json, Values
from xpnet.config import settings
from xpnet.config.rules import suggest
from xpnet.config.training import DEFAULTS, RULES, TrainConfig, convert, merge_settings, read_settings
from xpnet.errors import IN_PYTHON, ConfigError

ARGUMENTS = {"recipe", "validation_data", "classes", "sample_weight", "callback", "callbacks", "verbose"}
ARGUMENTS |= {"run", "overwrite", "report", "track", "tags", "extend"}
"""The keyword arguments of ``xpnet.fit`` that are not in ``FitSettings``."""

COMMAND_LINE_ONLY = settings.names_of(settings.RunSettings) - {"log_every"} - ARGUMENTS
COMMAND_LINE_ONLY |= {"data", "test_data", "test_split", "label", "columns", "repeats", "jobs"}
"""Settings of files and output, which ``xpnet.fit`` does not take."""

OF_FIT = ARGUMENTS | {*RULES} - COMMAND_LINE_ONLY
"""The keywords of ``xpnet.fit``."""

NO_PARAMETERS = {"drop", "encode", "unknown", "init_from", "class_weight", "seed"}
"""The settings of ``xpnet.fit`` that ``XPNetClassifier`` has not, or in a form of its own."""

OTHER_TYPES: Json = {"hidden": int | Sequence[int], "init_from": str | Path, "learning_rate": float}
OTHER_TYPES |= {"class_weight": Literal["none", "balanced"] | Mapping[Any, float], "drop": Sequence[str]}
"""The types of keywords that are not those of their settings: Python has other ways for them."""

if TYPE_CHECKING:
    from xpnet.config import keyword_types

    ClassifierSettings = keyword_types.ClassifierSettings
    FitSettings = keyword_types.FitSettings
else:
    _HINTS = get_type_hints(TrainConfig) | OTHER_TYPES
    _TYPES = {name: _HINTS[name] | None for name in DEFAULTS if name in OF_FIT - ARGUMENTS}
    FitSettings = TypedDict("FitSettings", _TYPES, total=False)
    _TYPES = {name: hint for name, hint in _TYPES.items() if name not in NO_PARAMETERS}
    ClassifierSettings = TypedDict("ClassifierSettings", _TYPES, total=False)


def check_names(names: Iterable[str], known: Collection[str], source: str) -> None:
    """Check the names of keyword arguments.

    Raises
    ------
    ConfigError
        One is none of those known, or a setting of files or output; `source` comes first in the message.
    """
    for name in sorted(set(names) - set(known)):
        near = suggest(name, known) or ": expected one of those of xpnet train"
        problem = f"unknown setting {name!r}{near}"
        if name in COMMAND_LINE_ONLY:
            problem = f"{name}: belongs to xpnet train, for it is about files or output: leave it out"
        raise ConfigError(f"{source}: {problem}")


def with_keywords(function: AnyFunction) -> AnyFunction:
    """Decorate a function whose errors and warnings name keywords in place of flags."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = IN_PYTHON.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            IN_PYTHON.reset(token)

    return cast("AnyFunction", call)


def show_settings(
    kind: type, defaults: Values = DEFAULTS, *, variadic: bool = True
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator of a function with the keywords `kind`: its signature names each, with its default.

    Completion, help and scikit-learn read it. With `variadic`, the ``**`` parameter stays.
    """

    def decorate(function: AnyFunction) -> AnyFunction:
        shown, by_name = inspect.signature(function), inspect.Parameter.KEYWORD_ONLY
        *named, others = shown.parameters.values()
        for name, hint in kind.__annotations__.items():
            named.append(inspect.Parameter(name, by_name, default=defaults[name], annotation=hint))
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
    arguments: Values, source: str, recipe: str | Path | None = None
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
    chosen = {name: value for name, value in keywords.items() if value is not None}
    ignored = COMMAND_LINE_ONLY | ARGUMENTS | (keywords.keys() - chosen.keys())
    recipes = [] if recipe is None else read_settings(recipe)
    sources = [{name: value for name, value in each.items() if name not in ignored} for each in recipes]
    values, explicit = merge_settings([*sources, convert(chosen, source)])
    rates = values.learning_rate
    if isinstance(rates, tuple) and len(rates) > 1:
        raise ConfigError(f"{source}: learning_rate: expected one number, got {list(rates)}")
    return TrainConfig(**vars(values)), explicit
