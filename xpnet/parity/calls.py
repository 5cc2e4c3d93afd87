"""Calls of a function with one array library, and what they do besides returning a result."""

import inspect
import json
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xpnet._typing import Function, HostArray, Namespace
from xpnet.backends.base import Backend
from xpnet.parity.devices import STRICT, BackendDevice

Arguments: TypeAlias = Mapping[int | str, Any]
"""The arguments of a call by position or keyword."""
HIDDEN = ("xpnet.parity", "xpnet.backends", "array_api_compat", "contextlib", "numpy")
"""Modules that are no place of an error, beside the array library."""


EFFORT: Any = 10_000
"""Candidates by which NumPy decides whether strided arrays overlap."""


class Run(NamedTuple):
    """A library on a device, and how the function is run there."""

    target: BackendDevice
    backend: Backend
    jit: bool = False
    narrow: bool = False  # float64 and int64 become what the device, or the user of JAX, has instead
    half: bool = False  # float16 is PyTorch's default dtype

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
        backend = self.backend
        # array-api-strict computes with NumPy, too.
        with backend.scope(), np.errstate(all="ignore"), ExitStack() as stack:
            if backend.name == "jax" and self.narrow:
                stack.enter_context(backend.library.enable_x64(new_val=False))
            if backend.name == STRICT and data_dependent_shapes:
                flags = {"boolean_indexing": True, "data_dependent_shapes": True}
                stack.enter_context(backend.library.ArrayAPIStrictFlags(**flags))
            if self.half:
                stack.callback(backend.library.set_default_dtype, backend.library.get_default_dtype())
                backend.library.set_default_dtype(backend.library.float16)
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
        The outputs by path, and what the function writes into arguments by contract. Those of NumPy are
        copies, which later calls cannot change.
    containers
        What holds them, by path: a tuple of two, a named tuple of certain fields.
    problems
        A line for each other argument that it changed, or that the library cannot hold.
    arrays
        The outputs themselves. With NumPy alone, as the next two.
    aliases
        Pairs of an output and an argument, or another output, that share memory.
    warnings
        RuntimeWarnings by kind: text and place.
    error
        The error that the function raises.
    """

    outputs: dict[str, Any]
    containers: dict[str, str]
    problems: list[str]
    arrays: dict[str, HostArray]
    aliases: set[tuple[str, str]]
    warnings: dict[str, str]
    error: Exception | None


NOTHING = Call({}, {}, [], {}, set(), {}, None)
"""The outcome of a call that was not made, or raises an error."""


def named_arguments(arguments: Arguments, names: Iterable[int | str]) -> Iterator[tuple[str, Any]]:
    """Yield the arrays and plain values of some arguments with their paths."""
    for name in names:
        yield from named_leaves(arguments[name], f"argument {name}")


def call(
    run: Run,
    function: Function,
    arguments: Arguments,
    mutates: Collection[int | str] = (),
    *,
    earlier: Call | None = None,
    quiet: bool = False,
    transform: Function = lambda apply: apply,
) -> Call:
    """Call a function of the namespace and of copies of the arrays on the device.

    It may write into the arguments that it `mutates`. With NumPy, results that share memory with those of an
    `earlier` call are among the aliases. If `quiet`, warnings are not passed on. `transform` changes what is
    called with the arrays.
    """
    __tracebackhide__ = True
    backend, fixed = run.backend, [name for name in arguments if name not in mutates]
    nested = [name for name in fixed if not isinstance(arguments[name], np.ndarray)]
    arrays: dict[str, Any] = {}
    dtypes: list[Any] = []
    for path, leaf in named_arguments(arguments, arguments):
        try:
            if isinstance(leaf, np.ndarray):
                arrays[path] = run.put(_copy(leaf))
            elif is_dtype(leaf):
                dtypes.append(run.put(np.empty(0, leaf)).dtype)
        except Exception as error:  # noqa: BLE001  each library raises its own errors
            name = getattr(leaf, "dtype", leaf)
            return NOTHING._replace(problems=[f"{path}: {backend.name} has no {name}: {first_line(error)}"])
    paths = [path for path, _ in named_arguments(arguments, fixed) if path in arrays and run.has_values]
    before = {path: backend.to_host(arrays[path]).tobytes() for path in paths}
    changed: dict[str, None] = {}
    plain: dict[str, Any] = {}
    containers: dict[str, str] = {}

    def apply(values: Iterable[Any]) -> dict[str, Any]:
        __tracebackhide__ = True
        each, types = iter(values), iter(dtypes)

        def replace(leaf: Any) -> Any:
            return next(each) if isinstance(leaf, np.ndarray) else next(types) if is_dtype(leaf) else leaf

        given = map_leaves(replace, dict(arguments))
        start = dict(named_arguments(given, nested))
        positional, keywords = _split(given)
        result = function(backend.xp, *positional, **keywords)
        leaves = {} if result is None and mutates else dict(named_leaves(result, "result", containers))
        end = dict(named_arguments(given, nested))
        changed.update((path, None) for path in {**start, **end} if start.get(path) is not end.get(path))
        plain.update((path, leaf) for path, leaf in leaves.items() if isinstance(leaf, str | None))
        written = dict(named_arguments(given, mutates))
        return {path: leaf for path, leaf in (leaves | written).items() if not isinstance(leaf, str | None)}

    is_numpy = backend.name == "numpy"
    found: dict[str, str] = {}
    silent = warnings.catch_warnings(action="ignore") if quiet else nullcontext()
    try:
        with _watch_warnings(found, quiet=quiet) if is_numpy else silent:
            compiled = backend.library.jit(apply) if run.jit else transform(apply)
            returned = compiled(list(arrays.values()))
    except Exception as error:  # noqa: BLE001  each library raises its own errors
        return NOTHING._replace(error=error)
    changed.update((path, None) for path, x in before.items() if backend.to_host(arrays[path]).tobytes() != x)
    lines = [f"{path} is changed in place: compute a new array instead" for path in changed]
    outcome = Call(returned | plain, containers, lines, {}, set(), found, None)
    if not is_numpy:
        return outcome
    own = {path: leaf for path, leaf in returned.items() if isinstance(leaf, np.ndarray)}
    copies = {path: np.array(leaf) for path, leaf in own.items() if not isinstance(leaf, np.ma.MaskedArray)}
    aliases = {*_find_aliases(own, arrays, earlier)}
    return outcome._replace(outputs=outcome.outputs | copies, arrays=own, aliases=aliases)


def _copy(array: HostArray) -> HostArray:
    """Return a copy with the same strides that can be written to if the array can."""
    low, high = (0, 0) if array.flags.forc else np.lib.array_utils.byte_bounds(array)
    if not low or array.dtype.hasobject or high - low > max(16 * array.nbytes, 1 << 20):
        copied = array.copy(order="K")
    else:
        memory, offset = np.empty(high - low, np.uint8), array.ctypes.data - low
        copied = np.ndarray(array.shape, array.dtype, memory, offset, array.strides)
        copied[...] = array
    copied.flags.writeable = array.flags.writeable
    return copied


def _find_aliases(
    outputs: dict[str, HostArray], arrays: dict[str, Any], earlier: Call | None
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of an output and an array that share memory."""
    others = [*arrays.items()]
    before = [] if earlier is None else [("that of an earlier call", x) for x in earlier.arrays.values()]
    for path, array in outputs.items():
        if path in arrays:
            continue
        yield from (
            (path, name)
            for name, x in others + before
            if isinstance(x, np.ndarray) and np.may_share_memory(array, x, max_work=EFFORT)
        )
        others.append((path, array))


@contextmanager
def _watch_warnings(found: dict[str, str], *, quiet: bool) -> Iterator[None]:
    """Collect the body's RuntimeWarnings by kind, those of NumPy too; others pass, unless `quiet`."""
    usual = np.errstate(divide="warn", over="warn", invalid="warn")
    with warnings.catch_warnings(record=True) as caught, usual:
        warnings.filterwarnings("always", category=Warning if quiet else RuntimeWarning)
        yield
    for each in caught:
        text, place = f"{each.category.__name__}: {each.message}", f"{Path(each.filename).name}:{each.lineno}"
        is_runtime = issubclass(each.category, RuntimeWarning)
        kind = text.partition(" encountered in ")[0] if is_runtime else ""
        found.setdefault(kind, f"{text} ({place})")
        if not (is_runtime or quiet):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def describe_error(run: Run, error: Exception) -> str:
    """Describe an error of the function in one line, with its place and perhaps a hint."""
    text = f"{first_line(error)}{_find_place(run.backend, error)}"
    if not run.has_values:
        return f"host synchronization, which sync=False forbids: {text}"
    if run.jit and type(error).__module__ == "jax.errors":
        return f"{text}; not inside jax.jit, where arrays have no values"
    if run.backend.name == STRICT and "flag has been disabled" in text:
        return f"{text}; data_dependent_shapes=True allows it"
    return text


def first_line(error: Exception) -> str:
    """Return the name of an error and the first line of its message."""
    lines = filter(None, map(str.strip, str(error).splitlines()))
    return f"{type(error).__name__}: {next(lines, 'no message')}"


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


def bind_xp(function: Function, arguments: Arguments) -> Function:
    """Return a function of the namespace, which is dropped if `function` has no parameter ``xp``."""
    positional, keywords = _split(arguments)
    try:
        signature = inspect.signature(function)
        signature.bind_partial(*positional, **keywords, xp=None)
        accepts_xp = "xp" in signature.parameters
    except (TypeError, ValueError):  # ValueError: a C function without a signature
        accepts_xp = False

    def bound(xp: Namespace, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return function(*args, **kwargs, xp=xp) if accepts_xp else function(*args, **kwargs)

    return bound


# Nested lists, tuples, dicts and dataclasses of arrays and plain values


def named_leaves(
    value: Any, path: str, containers: dict[str, str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path, such as result["loss"][1].scale. Describe what holds it by path."""
    children: dict[str, Any]
    if isinstance(value, np.ndarray):  # most leaves
        yield path, value
        return
    if isinstance(value, dict):
        keys = {key: json.dumps(key) if isinstance(key, str) else repr(key) for key in value}
        children = {f"[{keys[key]}]": child for key, child in value.items()}
        kind, names = "dict", sorted(keys.values())
    elif isinstance(value, list | tuple):
        children = {f"[{index}]": child for index, child in enumerate(value)}
        names = [*getattr(value, "_fields", getattr(value, "__match_args__", ()))]  # the second: PyTorch's
        kind = "named tuple" if names else "list" if isinstance(value, list) else "tuple"
        names = names or [str(len(value))]
    elif _is_record(value):
        names = [each.name for each in fields(value)]
        kind, children = "dataclass", {f".{name}": getattr(value, name) for name in names}
    else:
        yield path, value
        return
    if containers is not None:
        containers[path] = f"a {kind} of {', '.join(names) or 'nothing'}"
    for step, child in children.items():
        yield from named_leaves(child, path + step, containers)


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


def is_dtype(value: object) -> bool:
    """Tell whether a value is a dtype of NumPy's, or the class of its numbers."""
    return isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))


def _is_record(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)
