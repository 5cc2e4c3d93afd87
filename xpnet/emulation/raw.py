"""Checks of kernels that users write: the types of their arguments, and the address sanitizer."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from xpnet.errors import BackendError

SANITIZER = "libasan.so"
OPTIONS = "detect_leaks=0:detect_stack_use_after_return=0:"
KINDS = {"f": "f", "c": "f", "b": "i", "i": "i", "u": "i"}
"""Of NumPy's kinds of dtypes, the float and the integer ones."""
NAMES = {"f4": "float", "f8": "double", "i1": "bool or char", "i2": "short", "i4": "int", "i8": "long long"}


class Kernel(ctypes.Structure):
    """A kernel as ``kernel.h`` defines it."""

    _fields_ = (("count", ctypes.c_int), ("sizes", ctypes.c_void_p), ("types", ctypes.POINTER(ctypes.c_char)))


def preload_sanitizer() -> None:
    """Start the process anew with the address sanitizer, unless it is there."""
    if hasattr(ctypes.CDLL(None), "__asan_init"):
        return
    words = ["g++", f"-print-file-name={SANITIZER}"]
    file = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    if file == SANITIZER or "LD_PRELOAD" in os.environ:
        raise BackendError("cannot load the address sanitizer: install libasan, and do not set LD_PRELOAD")
    options = OPTIONS + os.environ.get("ASAN_OPTIONS", "")
    environment = os.environ | {"LD_PRELOAD": file, "ASAN_OPTIONS": options}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def make_checked(cupy: Any) -> tuple[type, type]:
    """Return CuPy's RawKernel and RawModule, whose kernels refuse arguments of other types than declared."""

    class RawKernel(cupy.RawKernel):  # type: ignore[misc]
        def __call__(self, grid: Any, block: Any, args: Any, **keywords: Any) -> Any:
            check_arguments(cupy, self, args)
            return super().__call__(grid, block, args, **keywords)

    class KernelOfModule:
        def __init__(self, kernel: Any) -> None:
            self._of_cupy = kernel

        def __getattr__(self, name: str) -> Any:
            return getattr(self._of_cupy, name)

        def __call__(self, grid: Any, block: Any, args: Any, **keywords: Any) -> Any:
            check_arguments(cupy, self._of_cupy, args)
            return self._of_cupy(grid, block, args, **keywords)

    class RawModule(cupy.RawModule):  # type: ignore[misc]
        def get_function(self, name: str) -> Any:
            return KernelOfModule(super().get_function(name))

    return RawKernel, RawModule


def check_arguments(cupy: Any, kernel: Any, arguments: Sequence[Any]) -> None:
    """Raise TypeError if an argument of a kernel has another type than its parameter."""
    declared = Kernel.from_address(kernel.kernel.ptr)
    if len(arguments) != declared.count:
        msg = f"kernel {kernel.name} has {declared.count} parameters, but gets {len(arguments)} arguments"
        raise TypeError(msg)
    for number, argument in enumerate(arguments):
        kind = declared.types[3 * number : 3 * number + 3].decode()
        if problem := _find_problem(cupy, argument, kind[0] == "*", kind[1:]):
            name = NAMES.get(kind[1:], "a structure") + " *" * (kind[0] == "*")
            msg = f"kernel {kernel.name}: argument {number} is {problem}, but the parameter is {name}"
            raise TypeError(msg)


def _find_problem(cupy: Any, argument: Any, is_pointer: bool, kind: str) -> str | None:  # noqa: FBT001
    """Return what an argument is, if it is not of the type of its parameter."""
    if isinstance(argument, cupy.ndarray):
        if not is_pointer:
            return f"an array of {argument.dtype}" if "?" not in kind else None
        size = argument.dtype.itemsize // (2 if argument.dtype.kind == "c" else 1)
        own = f"{KINDS.get(argument.dtype.kind, '?')}{size}"
        return None if "?" in own + kind or own == kind else f"an array of {argument.dtype}"
    dtype = cupy.dtype(type(argument)) if isinstance(argument, bool | int | float) else None
    dtype = getattr(argument, "dtype", dtype)
    if dtype is None or "?" in kind or dtype.kind not in KINDS:
        return None
    if is_pointer:
        return None if KINDS[dtype.kind] == "i" else f"the number {argument}"
    if kind[0] == "i" == KINDS[dtype.kind] and dtype.itemsize >= int(kind[1]):
        return None if -(1 << 8 * int(kind[1]) - 1) <= argument < 1 << 8 * int(kind[1]) else f"{argument}"
    return None if f"{KINDS[dtype.kind]}{dtype.itemsize}" == kind else f"a number of {dtype}"
