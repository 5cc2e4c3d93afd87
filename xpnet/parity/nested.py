"""Nested lists, tuples, dicts and dataclasses of arrays and plain values."""

import json
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any


def named_leaves(value: object, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path, such as result["loss"][1].scale."""
    children: Iterable[tuple[str, object]]
    if isinstance(value, dict):
        children = (
            (f"[{json.dumps(key) if isinstance(key, str) else repr(key)}]", value[key]) for key in value
        )
    elif isinstance(value, list | tuple):
        children = ((f"[{index}]", child) for index, child in enumerate(value))
    elif _is_record(value):
        children = ((f".{name}", getattr(value, name)) for name in _field_names(value))
    else:
        yield path, value
        return
    for step, child in children:
        yield from named_leaves(child, path + step)


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a copy with ``change`` applied to each leaf, in the order of `named_leaves`."""
    if isinstance(value, dict):
        copied = copy(value)
        copied.update((key, map_leaves(change, child)) for key, child in value.items())
        return copied
    if isinstance(value, list | tuple):
        parts = [map_leaves(change, child) for child in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if _is_record(value):
        copied = copy(value)
        for name in _field_names(value):  # of a frozen class, too
            object.__setattr__(copied, name, map_leaves(change, getattr(value, name)))
        return copied
    return change(value)


def _is_record(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _field_names(value: Any) -> list[str]:
    return [field.name for field in fields(value)]
