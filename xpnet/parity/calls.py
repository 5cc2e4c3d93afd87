"""Calls of a function with one array library, and what they do besides returning a result."""

import inspect
import json
import operator
import sys
import traceback
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from xpnet._typing import Function, HostArray, Namespace
from xpnet.backends.base import Backend
from xpnet.parity.devices import STRICT, BackendDevice
from xpnet.parity.distance import DtypeCheck, Tolerance

Arguments = Mapping[int | str, Any]
"""The arguments of a call by position or keyword."""
Leaves = Mapping[str, Any]
"""Arrays and plain values, in nested containers, by path."""
HIDDEN = ("xpnet.parity.", "xpnet.backends.", "array_api_compat.", "contextlib.", "numpy.")
"""Modules that are no place of an error, beside the array library."""
NARROWER = {"float64": "float32", "complex128": "complex64", "int64": "int32", "uint64": "uint32"}
"""Dtypes of 64 bits, and those in place of them."""
PLAIN = np.ndarray | np.generic | int | float | complex | str | np.dtype | slice | EllipsisType | None
"""The types of arguments besides containers and callables."""
EFFORT: Any = 10_000
"""Candidates by which NumPy decides whether strided arrays overlap."""


class Run(NamedTuple):
    """A library on a device, and how the function is run there."""

    backend: Backend
    dtype: DtypeCheck = True  # of results, to be compared
    narrow: bool = False  # float64 and int64 become what the device, or the user of JAX, has instead
    data_dependent_shapes: bool = False  # array-api-strict allows them
    may_wait: bool = True  # for the device, which the emulated one counts
    jit: bool = False
    half: bool = False  # float16 is PyTorch's default dtype

    @property
    def name(self) -> str:
        """The name of the library."""
        return self.backend.name

    @property
    def target(self) -> BackendDevice:
        """The library and the device."""
        return BackendDevice(self.name, self.backend.device_name)

    @property
    def names(self) -> set[str]:
        """The names of the library, and of it on this device."""
        return {self.name, str(self.target)}

    @property
    def has_values(self) -> bool:
        """False on PyTorch's device without numbers."""
        return self.backend.device_name != "meta"

    def __str__(self) -> str:
        bits = ", 32 bits" if self.narrow and self.name == "jax" else ""
        return f"{self.target.where}{bits}{', jax.jit' if self.jit else ''}"

    @contextmanager
    def scope(self) -> Iterator[Sequence[warnings.WarningMessage]]:
        """Compute with the library. Yield the warnings that are given with NumPy."""
        backend: Any = self.backend
        is_numpy = backend.name == "numpy"  # with which others compute, too, such as array-api-strict
        action: Any = "warn" if is_numpy else "ignore"
        with backend.scope(), np.errstate(divide=action, over=action, invalid=action), ExitStack() as stack:
            caught: Sequence[warnings.WarningMessage] = ()
            if is_numpy:
                record = warnings.catch_warnings(record=True, action="always", category=RuntimeWarning)
                caught = stack.enter_context(record)
            if backend.name == "jax" and self.narrow:
                stack.enter_context(backend.library.enable_x64(new_val=False))
            if backend.name == STRICT and self.data_dependent_shapes:
                flags = {"boolean_indexing": True, "data_dependent_shapes": True}
                stack.enter_context(backend.library.ArrayAPIStrictFlags(**flags))
            if not self.has_values:
                stack.enter_context(backend.forbid_loops())
            if self.half:
                stack.callback(backend.library.set_default_dtype, backend.library.get_default_dtype())
                backend.library.set_default_dtype(backend.library.float16)
            yield caught

    def put(self, array: HostArray) -> Any:
        """Put an array on the device."""
        backend = self.backend
        return backend.to_user(backend.narrow(array)) if self.narrow else backend.from_host(array)


class Task(NamedTuple):
    """The function, its arguments, and what is compared."""

    function: Function  # of the namespace, and of leaves, as the next one
    reference: Function
    leaves: Leaves  # of the arguments
    fixed: Leaves  # those into which it does not write
    mutates: Collection[int | str]
    whose: str  # results are compared with: NumPy or the reference
    raises: tuple[type[Exception], ...]
    tolerance: Tolerance
    check_memory: bool = True
    check_warnings: bool = True
    float64: bool = True


class Outcome(NamedTuple):
    """The outcome of a call.

    Attributes
    ----------
    lines
        A line for each problem: another argument that it changed, or that the library cannot hold; and, once
        it is compared, each difference.
    outputs
        The outputs by path, what the function writes into arguments by contract, and the containers of both.
        Arrays of NumPy are copies, which later calls cannot change.
    arrays
        With NumPy, the arrays themselves.
    aliases
        With NumPy, pairs of an output and an argument, or another output, that share memory.
    warnings
        RuntimeWarnings by kind: text and place.
    error
        The error that the function raises.
    """

    run: Run
    lines: list[str]
    outputs: Mapping[str, Any] = {}
    arrays: Mapping[str, Any] = {}
    aliases: Collection[tuple[str, str]] = frozenset()
    warnings: Mapping[str, str] = {}
    error: Exception | None = None


def call(
    task: Task,
    run: Run,
    function: Function,
    earlier: Outcome | None = None,
    transform: Function = operator.call,
) -> Outcome:
    """Call a function of a task with copies of the arguments on the device.

    With NumPy, results that share memory with those of an `earlier` call are among the aliases. `transform`
    is called with the function of the arrays, and these.
    """
    __tracebackhide__ = True
    backend, given = run.backend, {**task.leaves}
    arrays = {}
    changed = list[str]()
    outputs = dict[str, Any]()

    def apply(values: Leaves) -> Leaves:
        __tracebackhide__ = True
        start = {**given, **values}
        result, arguments = function(backend.xp, start)
        outputs.update({} if result is None and task.mutates else named_leaves(result, "result"))
        outputs.update(name_leaves(arguments, task.mutates))
        end = name_leaves(arguments, arguments)
        others = (path for path in (*task.fixed, *end) if path not in outputs)
        changed.extend(path for path in others if start.get(path) is not end.get(path))
        return {path: leaf for path, leaf in outputs.items() if not isinstance(leaf, str | None)}

    with run.scope() as caught:
        for path, leaf in given.items():
            try:
                if isinstance(leaf, np.ndarray):
                    arrays[path] = run.put(_copy(leaf))
                elif is_dtype(leaf):
                    given[path] = run.put(np.empty(0, leaf)).dtype
            except Exception as error:  # noqa: BLE001  each library raises its own errors
                name = getattr(leaf, "dtype", leaf)
                return Outcome(run, [f"{path}: {backend.name} has no {name}: {first_line(error)}"])
        waits = _count_waits()
        try:
            returned = transform(backend.library.jit(apply) if run.jit else apply, arrays)
        except Exception as error:  # noqa: BLE001  each library raises its own errors
            error.add_note(f"raised with {run}")
            return Outcome(run, [], error=error)
        waits = _count_waits() - waits
        for path in [path for path in arrays if path in task.fixed and run.has_values]:
            old, new = (backend.to_host(x).tobytes() for x in (run.put(task.leaves[path]), arrays[path]))
            if old != new:
                changed.append(path)
    lines = [f"{path} is changed in place: compute a new array instead" for path in dict.fromkeys(changed)]
    if waits and not run.may_wait:
        lines.append(f"host synchronization, which sync=False forbids: it waits {waits} times for the device")
    outputs.update(returned)
    own = named_arrays(outputs) if backend.name == "numpy" else {}
    outputs.update((path, leaf.copy()) for path, leaf in own.items())
    aliases = {*_find_aliases(own, arrays, earlier)} if task.check_memory else ()
    return Outcome(run, lines, outputs, own, aliases, _sort_warnings(caught))


def _count_waits() -> int:
    """Return how often the host has waited for the emulated CUDA device, 0 if there is none."""
    emulation = sys.modules.get("xpnet.emulation")
    return emulation.read_counts()["synchronizations"] if emulation else 0


def _copy(array: HostArray) -> HostArray:
    """Return a copy with the same strides that can be written to if the array can.

    A view of little in large memory becomes contiguous.
    """
    low, high = np.lib.array_utils.byte_bounds(array)
    if array.flags.forc or array.dtype.hasobject or high - low > max(16 * array.nbytes, 1 << 20):
        copied = array.copy(order="K")
    else:
        memory, offset = np.empty(high - low, np.uint8), array.ctypes.data - low
        copied = np.ndarray(array.shape, array.dtype, memory, offset, array.strides)
        copied[...] = array
    copied.flags.writeable = array.flags.writeable
    return copied


def _find_aliases(outputs: Leaves, arrays: Leaves, earlier: Outcome | None) -> Iterator[tuple[str, str]]:
    """Yield the pairs of an output and an array that share memory."""
    others = [*arrays.items()]
    if earlier:
        others += [("that of an earlier call", x) for x in earlier.arrays.values()]
    for path, array in outputs.items():
        if path not in arrays:
            for name, x in others:
                if np.may_share_memory(array, x, max_work=EFFORT):
                    yield path, name
            others.append((path, array))


def _sort_warnings(caught: Iterable[warnings.WarningMessage]) -> dict[str, str]:
    """Return RuntimeWarnings by kind: text and place. Pass others on."""
    found = dict[str, str]()
    for each in caught:
        text, kind = f"{each.category.__name__}: {each.message}", ""
        if issubclass(each.category, RuntimeWarning):
            kind, *_ = text.split(" encountered in ")
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        found.setdefault(kind, f"{text} ({Path(each.filename).name}:{each.lineno})")
    return found


def describe_error(run: Run, error: Exception) -> str:
    """Describe an error of the function in one line, with its place and perhaps a hint."""
    text = f"{first_line(error)}{_find_place(run.backend, error)}"
    if not run.has_values:
        return f"{text}; sync=False forbids host synchronization, and loops over arrays"
    if run.jit and type(error).__module__ == "jax.errors":
        return f"{text}; not inside jax.jit, where arrays have no values"
    if run.name == STRICT and "flag has been disabled" in text:
        return f"{text}; data_dependent_shapes=True allows it"
    return text


def first_line(error: Exception) -> str:
    """Return the name of an error and the first line of its message."""
    lines = filter(None, map(str.strip, str(error).splitlines()))
    return f"{type(error).__name__}: {next(lines, 'no message')}"


def _find_place(backend: Backend, error: Exception) -> str:
    """Return file and line of the innermost call that is not the array library's."""
    place, hidden = "", (*HIDDEN, f"{backend.module}.")
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not f"{frame.f_globals.get('__name__')}.".startswith(hidden):
            place = f" ({Path(frame.f_code.co_filename).name}:{line})"
    return place


def bind(function: Function, arguments: Arguments) -> Function:
    """Return a function of the namespace and of leaves in place of those of the arguments.

    It returns the result and the arguments that it was called with. The namespace is dropped if the function
    has no parameter ``xp``.
    """
    positional = [name for name in arguments if isinstance(name, int)]
    keywords = [name for name in arguments if isinstance(name, str)]
    accepts_xp = False
    with suppress(TypeError, ValueError):  # it is an argument already, or a C function has no signature
        signature = inspect.signature(function)
        accepts_xp = "xp" in signature.bind_partial(*positional, **dict.fromkeys(keywords), xp=None).arguments

    def bound(xp: Namespace, leaves: Leaves) -> tuple[Any, Arguments]:
        __tracebackhide__ = True
        given = replace_leaves(arguments, leaves)
        named = {name: given[name] for name in keywords}
        if accepts_xp:
            named["xp"] = xp
        return function(*(given[name] for name in positional), **named), given

    return bound


# Nested lists, tuples, dicts and dataclasses of arrays and plain values


class Container(str):
    """What holds leaves: a tuple of two, a named tuple of certain fields."""

    __slots__ = ()


def name_leaves(arguments: Arguments, names: Iterable[int | str]) -> Leaves:
    """Return the arrays and plain values of some arguments by path."""
    nested = (named_leaves(arguments[name], f"argument {name}") for name in names)
    return {path: leaf for each in nested for path, leaf in each.items() if not isinstance(leaf, Container)}


def replace_leaves(arguments: Arguments, leaves: Leaves) -> Arguments:
    """Return a copy of arguments with other leaves at some paths."""
    return {name: _replace(value, f"argument {name}", leaves) for name, value in arguments.items()}


def named_leaves(value: Any, path: str) -> Leaves:
    """Return each container and each leaf by its path, such as result["loss"][1].scale."""
    container, children = _open(value)
    named = {path: container or value}
    for step, child in children.items():
        named.update(named_leaves(child, path + step))
    return named


def _replace(value: Any, path: str, leaves: Leaves) -> Any:
    if path in leaves:
        return leaves[path]
    container, children = _open(value)
    if container is None:
        return value
    parts = [_replace(child, path + step, leaves) for step, child in children.items()]
    if isinstance(value, list | tuple):
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    copied = copy(value)
    if isinstance(value, dict):
        copied.update(zip(value, parts, strict=True))
        return copied
    for field, part in zip(fields(value), parts, strict=True):  # of a frozen class, too
        object.__setattr__(copied, field.name, part)
    return copied


def _open(value: Any) -> tuple[Container | None, dict[str, Any]]:
    """Return the description and the children of a container, by the step of their paths."""
    if isinstance(value, dict):
        keys = [json.dumps(key) if isinstance(key, str) else repr(key) for key in value]
        children = {f"[{key}]": child for key, child in zip(keys, value.values(), strict=True)}
        kind, names = "dict", sorted(keys)
    elif isinstance(value, list | tuple):
        children = {f"[{index}]": child for index, child in enumerate(value)}
        names = [*getattr(value, "_fields", getattr(value, "__match_args__", ()))]  # the second: PyTorch's
        kind = "named tuple" if names else "list" if isinstance(value, list) else "tuple"
        names = names or [str(len(value))]
    elif is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value)]
        kind, children = "dataclass", {f".{name}": getattr(value, name) for name in names}
    else:
        return None, {}
    return Container(f"a {kind} of {', '.join(names) or 'nothing'}"), children


def check_kinds(leaves: Leaves) -> None:
    """Raise TypeError for an argument that is neither a NumPy array nor a plain value."""
    for path, leaf in leaves.items():
        if not (callable(leaf) or isinstance(leaf, PLAIN)):
            known = "a NumPy array, a number, text, None, a dtype, a slice, a callable"
            nested = "lists, tuples, dicts and dataclasses of these (functools.partial binds everything else)"
            raise TypeError(f"{path} is a {type(leaf).__name__}: expected {known}, or {nested}")


def narrow_leaf(leaf: Any) -> Any:
    """Convert a dtype, an array, or a number with a dtype, from 64 bits to float32 and complex64."""
    if is_dtype(leaf):
        return narrow_leaf(np.empty(0, leaf)).dtype
    is_inexact = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "fc"
    return leaf.astype(NARROWER.get(leaf.dtype.name, leaf.dtype)) if is_inexact else leaf


def is_dtype(value: object) -> bool:
    """Tell whether a value is a dtype of NumPy's, or the class of its numbers."""
    return isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))


def named_arrays(leaves: Leaves) -> Leaves:
    """Return the arrays among leaves by path."""
    return {path: leaf for path, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
