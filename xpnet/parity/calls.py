"""Calls of a function with one array library, and what they do besides returning a result."""

import inspect
import json
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.backends.base import Backend
from xpnet.parity.devices import STRICT, BackendDevice

Arguments: TypeAlias = Mapping[int | str, Any]
"""The arguments of a call by position or keyword."""
HIDDEN = ("xpnet.parity", "array_api_compat", "contextlib", "numpy")
"""Modules that are no place of an error, beside the array library."""


class Run(NamedTuple):
    """A library on a device, and how the function is run there."""

    target: BackendDevice
    backend: Backend
    jit: bool = False
    narrow: bool = False  # float64 and int64 become what the device, or the user of JAX, has instead

    @property
    def names(self) -> set[str]:
        """The names of the library, and of it on this device."""
        return {self.target.backend, str(self.target)}

    @property
    def has_values(self) -> bool:
        """False on PyTorch's device without numbers."""
        return self.target.device != "meta"

    def __str__(self) -> str:
        narrow_jax = self.narrow and self.backend.name == "jax"
        return self.target.where + ", 32 bits" * narrow_jax + ", jax.jit" * self.jit

    @contextmanager
    def scope(self, *, data_dependent_shapes: bool = False) -> Iterator[None]:
        """Compute with the library; array-api-strict may allow shapes that depend on values."""
        backend, others = self.backend, nullcontext()
        if backend.name == "jax" and self.narrow:
            others = backend.library.enable_x64(new_val=False)
        if backend.name == STRICT and data_dependent_shapes:
            flags = {"boolean_indexing": True, "data_dependent_shapes": True}
            others = backend.library.ArrayAPIStrictFlags(**flags)
        # array-api-strict computes with NumPy, too.
        with backend.scope(), others, np.errstate(all="ignore"):
            yield

    def put(self, array: HostArray) -> Any:
        """Put an array on the device."""
        backend = self.backend
        return backend.to_user(backend.narrow(array)) if self.narrow else backend.from_host(array)


class Call(NamedTuple):
    """The outcome of a call.

    Attributes
    ----------
    outputs
        The outputs by path, and what the function writes into arguments by contract.
    changes
        A line for each other argument that it changed.
    aliases
        Pairs of an output and an argument that share memory. With NumPy alone, as the warnings.
    warnings
        The places of RuntimeWarnings by category and text.
    error
        The error that it raises as expected.
    """

    outputs: dict[str, Any]
    changes: list[str]
    aliases: list[tuple[str, str]]
    warnings: dict[str, str]
    error: str | None = None


def named_arguments(arguments: Arguments, names: Iterable[int | str]) -> Iterator[tuple[str, Any]]:
    """Yield the arrays and plain values of some arguments with their paths."""
    for name in names:
        yield from named_leaves(arguments[name], f"argument {name}")


def call(run: Run, function: Function, arguments: Arguments, mutates: Collection[int | str] = ()) -> Call:
    """Call a function with copies of the arrays on the device; it may write into those that it `mutates`."""
    __tracebackhide__ = True
    backend, watched = run.backend, [name for name in arguments if name not in mutates]
    leaves = dict(named_arguments(arguments, arguments))
    arrays = {path: run.put(leaf.copy()) for path, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
    fixed = [path for path, _ in named_arguments(arguments, watched) if path in arrays and run.has_values]
    before = {path: backend.to_host(arrays[path]).tobytes() for path in fixed}
    namespace = {"xp": backend.xp} if _accepts_xp(function, arguments) else {}
    changed: dict[str, None] = {}

    def apply(values: Iterable[Any]) -> dict[str, Any]:
        __tracebackhide__ = True
        each = iter(values)
        given = map_leaves(lambda leaf: next(each) if isinstance(leaf, np.ndarray) else leaf, dict(arguments))
        start = dict(named_arguments(given, watched))
        positional, keywords = _split(given)
        result = function(*positional, **keywords, **namespace)
        outputs = {} if result is None and mutates else dict(named_leaves(result, "result"))
        end = dict(named_arguments(given, watched))
        changed.update((path, None) for path in {**start, **end} if start.get(path) is not end.get(path))
        written = named_arguments(given, mutates)
        return outputs | {path: leaf for path, leaf in written if not isinstance(leaf, str | None)}

    is_numpy = backend.name == "numpy"
    watch: AbstractContextManager[dict[str, str]] = _watch_warnings() if is_numpy else nullcontext({})
    with watch as found:
        outputs = (backend.library.jit(apply) if run.jit else apply)(list(arrays.values()))
    changed.update((path, None) for path in fixed if backend.to_host(arrays[path]).tobytes() != before[path])
    lines = [f"{path} is changed in place: compute a new array instead" for path in changed]
    return Call(outputs, lines, _find_aliases(outputs, arrays) if is_numpy else [], found)


def _find_aliases(outputs: dict[str, Any], arrays: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of an output and an argument that share memory."""
    new = [path for path, leaf in outputs.items() if isinstance(leaf, np.ndarray) and path not in arrays]
    pairs = ((output, argument) for output in new for argument in arrays)
    return [pair for pair in pairs if np.may_share_memory(outputs[pair[0]], arrays[pair[1]])]


@contextmanager
def _watch_warnings() -> Iterator[dict[str, str]]:
    """Collect the places of the body's RuntimeWarnings, those of NumPy too; other warnings pass."""
    found: dict[str, str] = {}
    usual = np.errstate(divide="warn", over="warn", invalid="warn")
    with warnings.catch_warnings(record=True) as caught, usual:
        warnings.filterwarnings("always", category=RuntimeWarning)
        yield found
    for each in caught:
        if issubclass(each.category, RuntimeWarning):
            text = f"{each.category.__name__}: {each.message}".replace("in scalar ", "in ")
            found.setdefault(text, f" ({Path(each.filename).name}:{each.lineno})")
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def describe_error(run: Run, error: Exception) -> str:
    """Describe an error of the function in one line, with its place and perhaps a hint."""
    text = next(filter(None, map(str.strip, str(error).splitlines())), "no message")
    text = f"{type(error).__name__}: {text}{_find_place(run.backend, error)}"
    if not run.has_values:
        return f"host synchronization, which sync=False forbids: {text}"
    if run.jit and type(error).__module__ == "jax.errors":
        return f"{text}; not inside jax.jit, where arrays have no values"
    if run.backend.name == STRICT and "flag has been disabled" in text:
        return f"{text}; data_dependent_shapes=True allows it"
    return text


def _find_place(backend: Backend, error: Exception) -> str:
    """Return file and line of the innermost call that is not the array library's."""
    place, hidden = "", (*HIDDEN, backend.module)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if not any(name == module or name.startswith(f"{module}.") for module in hidden):
            place = f" ({Path(frame.f_code.co_filename).name}:{line})"
    return place


def _split(arguments: Arguments) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments by position, and those by keyword."""
    positional = [value for name, value in arguments.items() if isinstance(name, int)]
    return positional, {name: value for name, value in arguments.items() if isinstance(name, str)}


def _accepts_xp(function: Callable[..., object], arguments: Arguments) -> bool:
    """Tell whether the function has a parameter ``xp`` besides those for the arguments."""
    positional, keywords = _split(arguments)
    try:
        signature = inspect.signature(function)
        signature.bind_partial(*positional, **keywords, xp=None)
    except (TypeError, ValueError):  # ValueError: a C function without a signature
        return False
    return "xp" in signature.parameters


# Nested lists, tuples, dicts and dataclasses of arrays and plain values


def named_leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path, such as result["loss"][1].scale."""
    children: Iterable[tuple[str, object]]
    if isinstance(value, dict):
        keys = {key: json.dumps(key) if isinstance(key, str) else repr(key) for key in value}
        children = ((f"[{keys[key]}]", child) for key, child in value.items())
    elif isinstance(value, list | tuple):
        children = ((f"[{index}]", child) for index, child in enumerate(value))
    elif _is_record(value):
        children = ((f".{field.name}", getattr(value, field.name)) for field in fields(value))
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
        for field in fields(value):  # of a frozen class, too
            object.__setattr__(copied, field.name, map_leaves(change, getattr(value, field.name)))
        return copied
    return change(value)


def _is_record(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)
