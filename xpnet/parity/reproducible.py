"""``assert_parity(…, reproducible=True)``: the same bits of `rp.Array` on every library and BLAS kernel."""

import ast
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import reproducible as rp
from xpnet.backends.resolve import CPU_BACKENDS, make
from xpnet.errors import ConfigError
from xpnet.parity.calls import Arguments, map_leaves, named_leaves
from xpnet.parity.devices import find_installed
from xpnet.reproducible.promotion import name_of

KERNELS = ("Nehalem", "Haswell")
"""The kernels of OpenBLAS that other processes compute with."""
_ARRAY = "array \0"  # and its name stand for an array among plain arguments
_CHILD = "import sys; from xpnet.parity.reproducible import print_digests; print_digests(*sys.argv[1:])"


def assert_reproducible(
    function: Callable[..., object], arguments: Arguments, backends: Sequence[str] | None
) -> None:
    """Assert that a function of `rp.Array` returns the same bits on every library and kernel.

    Where it leaves `xpnet.reproducible`, by ``numpy.asarray`` or in a compiled extension, is named: in the
    error, or in a warning if the bits are equal all the same.

    Raises
    ------
    AssertionError
        Bits differ. The message has a line for each result, and the places where arrays are converted.
    ConfigError
        The function is not at the top level of a module, where other processes find it.
    """
    __tracebackhide__ = True
    installed = {target.backend for target in find_installed()} & {*CPU_BACKENDS}
    expected, places = _digests("numpy", function, arguments)
    problems = []
    for name in sorted((installed if backends is None else {*backends}) - {"numpy"}):
        digests, left = _digests(name, function, arguments)
        problems += _compare(name, digests, expected)
        places += left
    for kernel in KERNELS:
        problems += _compare(
            f"numpy with the kernel {kernel}", _digests_with(kernel, function, arguments), expected
        )
    lines = [*dict.fromkeys(places)]
    if problems:
        raise AssertionError("\n".join([*problems, *lines]))
    for line in lines:
        warnings.warn(line, stacklevel=3)


def _compare(name: str, digests: dict[str, str], expected: dict[str, str]) -> list[str]:
    outputs = sorted(path for path in {*digests, *expected} if digests.get(path) != expected.get(path))
    return [f"{name}: {path or 'the result'}: other bits than with numpy" for path in outputs]


def _digests(
    name: str, function: Callable[..., object], arguments: Arguments
) -> tuple[dict[str, str], list[str]]:
    """Return the digest of each result on a library, and where arrays were converted."""
    backend = make(name, "cpu")

    def wrap(leaf: Any) -> Any:
        return rp.asarray(backend.from_host(leaf.copy())) if isinstance(leaf, np.ndarray) else leaf

    wrapped = map_leaves(wrap, arguments)
    positional = [value for key, value in wrapped.items() if isinstance(key, int)]
    named = {key: value for key, value in wrapped.items() if isinstance(key, str)}
    if "xp" in inspect.signature(function).parameters:
        named.setdefault("xp", rp.namespace(name))
    with warnings.catch_warnings(record=True) as caught, rp.conversions("warn"):
        warnings.simplefilter("always")
        results = function(*positional, **named)
    left = [str(each.message) for each in caught if "leaves xpnet.reproducible" in str(each.message)]
    return {path: _digest(leaf) for path, leaf in named_leaves(results, "")}, left


def _digest(leaf: Any) -> str:
    """Return the SHA-256 of a result, in which all NaN are one."""
    host = np.asarray(leaf.tolist() if isinstance(leaf, rp.Array) else leaf)
    host = np.where(host != host, np.nan, host) if host.dtype.kind == "f" else host  # noqa: PLR0124
    kind = name_of(leaf.dtype) if isinstance(leaf, rp.Array) else host.dtype.name
    return hashlib.sha256(f"{kind}{host.shape}".encode() + host.tobytes()).hexdigest()


def _digests_with(kernel: str, function: Callable[..., object], arguments: Arguments) -> dict[str, str]:
    """Return the digests on NumPy in a process that uses another kernel."""
    file = inspect.getsourcefile(function)
    if "<" in function.__qualname__ or file is None:
        raise ConfigError(f"reproducible=True: {function.__qualname__} is not at the top level of a module")
    arrays: dict[str, Any] = {}

    def encode(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            arrays[f"{len(arrays)}"] = leaf
            return f"{_ARRAY}{len(arrays) - 1}"
        return leaf

    text = repr(map_leaves(encode, arguments))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **arrays)
        words = [sys.executable, "-c", _CHILD, file, function.__qualname__, str(path), text]
        variables = {
            **os.environ,
            "OPENBLAS_CORETYPE": kernel,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        printed = subprocess.run(words, env=variables, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    digests: dict[str, str] = json.loads(printed.stdout.splitlines()[-1])
    return digests


def print_digests(file: str, name: str, path: str, text: str) -> None:
    """Print the digests of a function of a file, for the process that compares them."""
    spec = spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: not a module")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with np.load(path) as arrays:
        arguments = map_leaves(
            lambda leaf: arrays[leaf.removeprefix(_ARRAY)] if str(leaf).startswith(_ARRAY) else leaf,
            ast.literal_eval(text),
        )
    function: Any = reduce(getattr, name.split("."), module)
    sys.stdout.write(f"\n{json.dumps(_digests('numpy', function, arguments)[0])}\n")
