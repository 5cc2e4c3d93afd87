"""Values and arguments, checked by their annotated types."""

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from xpnet.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
LARGEST = sys.float_info.max


def matches(value: object, kind: Any, *, exact: bool = True) -> bool:
    """Return True if a value is of a type: a class, a Literal, a collection, a function, or a union of these.

    Booleans are no numbers, and floats no integers. If not ``exact``, a Literal stands for the type of its
    values, and a list for any iterable.
    """
    options, origin = get_args(kind), get_origin(kind)
    if origin is None:
        return _is_instance(value, kind)
    if origin in (Union, types.UnionType):
        return any(matches(value, option, exact=exact) for option in options)
    if origin is Literal:
        words = [option for option in options if type(option) is type(value)]
        return value in words if exact else bool(words)
    if origin is type:
        return isinstance(value, type) and issubclass(value, options)
    return _holds(value, origin, options, exact=exact) if issubclass(origin, Iterable) else callable(value)


def _is_instance(value: object, kind: Any) -> bool:
    if kind in (int, float):
        is_number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return is_number and not (kind is float and isinstance(value, int) and abs(value) > LARGEST)
    return kind is Any or isinstance(value, PathLike if kind is Path else kind)


def _holds(value: object, origin: Any, options: tuple[Any, ...], *, exact: bool) -> bool:
    """Return True for a collection whose items are of the types."""
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(matches(item, options[1]) for item in value.values())
    items = value if isinstance(value, list | tuple | str | bytes) else ()
    if origin is tuple and options[-1] is not ...:
        is_right = isinstance(value, tuple | list) and len(items) == len(options)
        return is_right and all(map(matches, items, options))
    is_right = isinstance(value, tuple if origin is tuple else list if exact else Iterable)
    return is_right and all(matches(item, options[0], exact=exact) for item in items)


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function to raise ConfigError for an argument of another type than that of its annotation.

    Booleans are not checked: any value is true or false.
    """
    parameters, others = inspect.signature(function), ("VAR_POSITIONAL", "VAR_KEYWORD")
    names = [name for name, each in parameters.parameters.items() if each.kind.name not in others]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        hints, values = get_type_hints(function), parameters.bind(*args, **kwargs).arguments
        for name in names:
            kind = hints.get(name, bool)
            if name in values and kind is not bool and not matches(values[name], kind, exact=False):
                expected = re.sub(r"\b\w+\.", "", inspect.formatannotation(kind))
                problem = f"{name}: expected {expected}, got {' '.join(repr(values[name]).split())[:60]}"
                raise ConfigError.at(function.__name__, problem)
        return function(*args, **kwargs)

    return call
