"""``assert_parity(…, reproducible=True)``: the same bits of `rp.Array` on every library and BLAS kernel."""

import ast
import hashlib
import inspect
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np

from xpnet import reproducible as rp
from xpnet._typing import Function
from xpnet.backends.resolve import CPU_BACKENDS, make
from xpnet.errors import ConfigError
from xpnet.parity.calls import Arguments, Container, Leaves, bind, named_leaves, replace_leaves
from xpnet.parity.devices import find_installed

KERNELS = ("Nehalem", "Haswell")
"""The kernels of OpenBLAS that other processes compute with."""
_CHILD = "import sys; from xpnet.parity.reproducible import print_digests; print_digests(*sys.argv[1:])"


def assert_reproducible(
    function: Function, arguments: Arguments, arrays: Leaves, backends: Sequence[str] | None
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
    names = sorted({"numpy", *(installed if backends is None else backends)})
    with warnings.catch_warnings(record=True, action="always") as caught, rp.conversions("warn"):
        found = {name: _digests(name, function, arguments, arrays) for name in names}
    file, name = inspect.getsourcefile(function), function.__qualname__
    if file is None or not name.isidentifier():
        raise ConfigError(f"reproducible=True: {name} is not at the top level of a module")
    text = repr(replace_leaves(arguments, dict.fromkeys(arrays)))
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    words = [sys.executable, "-c", _CHILD, file, name, text]
    modules = os.pathsep.join(filter(None, sys.path))
    for kernel in KERNELS:
        env = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONPATH": modules}
        printed = subprocess.run(words, input=archive.getvalue(), env=env, check=True, capture_output=True)  # noqa: S603 - our own
        found[f"numpy with the kernel {kernel}"] = json.loads(printed.stdout.splitlines()[-1])
    problems = [
        f"{name}: {path or 'the result'}: other bits than with numpy"
        for name, digests in found.items()
        for path in sorted({path for path, _ in digests.items() ^ found["numpy"].items()})
    ]
    texts = (str(each.message) for each in caught)
    lines = dict.fromkeys(text for text in texts if "leaves xpnet.reproducible" in text)
    if problems:
        raise AssertionError("\n".join([*problems, *lines]))
    for line in lines:
        warnings.warn(line, stacklevel=3)


def _digests(name: str, function: Function, arguments: Arguments, arrays: Leaves) -> dict[str, str]:
    """Return the digest of each result on a library."""
    backend = make(name, "cpu")
    wrapped = {path: rp.asarray(backend.from_host(x.copy())) for path, x in arrays.items()}
    results, _ = bind(function, arguments)(rp.namespace(name), wrapped)
    leaves = named_leaves(results, "").items()
    return {path: _digest(leaf) for path, leaf in leaves if not isinstance(leaf, Container)}


def _digest(leaf: Any) -> str:
    """Return the SHA-256 of a result as text, in which numbers are exact and all NaN are one."""
    array = leaf.host if isinstance(leaf, rp.Array) else np.asarray(leaf)
    return hashlib.sha256(f"{array.dtype.name}{array.shape}{array.tolist()}".encode()).hexdigest()


def print_digests(file: str, name: str, text: str) -> None:
    """Print the digests of a function of a file, given arrays on standard input."""
    function = run_path(file, run_name=Path(file).stem)[name]
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as arrays:
        digests = _digests("numpy", function, ast.literal_eval(text), arrays)
    sys.stdout.write(f"\n{json.dumps(digests)}\n")
