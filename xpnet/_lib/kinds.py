"""Values and arguments, checked by their annotated types."""

import inspect
import re
from collections.abc import Mapping
from functools import cache, wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, Unpack, cast, get_args, get_origin, get_type_hints

from xpnet._typing import AnyFunction
from xpnet.errors import ConfigError

CLASSES: dict[Any, Any] = {int: Integral, float: Real, Path: PathLike, tuple: (list, tuple), Any: object}
"""The classes of values for some types."""


def matches(value: object, kind: Any) -> bool:
    """Return True if a value is of a type: a class, a Literal, a collection, a function, or a union of these.

    Booleans are no numbers, and floats no integers. A list is a tuple, too, and a word a sequence of one.
    """
    options, origin = get_args(kind), get_origin(kind) or kind
    if origin in (Union, UnionType):
        return any(matches(value, option) for option in options)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    is_bool = isinstance(value, bool) and kind in (int, float)
    if is_bool or not isinstance(value, CLASSES.get(origin, origin)):
        return False
    items = [value] if isinstance(value, str | bytes) else value
    items = list(value.values()) if isinstance(value, Mapping) else items
    if not options or not isinstance(items, list | tuple):
        return True
    if origin is tuple and options[-1] is not ...:
        return len(items) == len(options) and all(map(matches, items, options))
    return all(matches(item, options[isinstance(value, Mapping)]) for item in items)


def check_arguments(function: AnyFunction) -> AnyFunction:
    """Decorate a function to raise ConfigError for an argument of another type than that of its annotation.

    Booleans are not checked: any value is true or false.
    """
    parameters, find_kinds = inspect.signature(function).parameters.values(), cache(get_type_hints)
    positional = [each.name for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD]

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        hints = find_kinds(function)
        for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
            kind = hints.get(name, Any)
            if kind is not bool and get_origin(kind) is not Unpack and not matches(value, kind):
                expected = re.sub(r"\b\w+\.", "", inspect.formatannotation(kind))
                problem = f"{name}: expected {expected}, got {' '.join(repr(value).split())[:60]}"
                raise ConfigError(f"{function.__qualname__}: {problem}")
        return function(*args, **kwargs)

    return cast("AnyFunction", call)
