"""Numbers of the test vectors: as text, and on a device."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.arithmetic import Reproducible
from xpnet.backends.base import Backend

Reals = NDArray[np.float64]
Content = dict[str, Any]
"""The content of a file, or a part of it."""
UNUSED: Any = 0
"""The purpose of words that training does not use: it uses 1 to 6."""


def hexadecimal(numbers: Any) -> Any:
    """Return a float as `float.fromhex` and C's `strtod` read it, without zeros at the end.

    Of an array or nested lists: nested lists of these texts.
    """
    nested = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    if isinstance(nested, list | tuple):
        return [hexadecimal(item) for item in nested]
    return re.sub(r"(\.[0-9a-f]+?)0+p", r"\1p", float(nested).hex())


def real(value: Any) -> Any:
    """Return the floats of texts, of nested lists, and of a pattern that is repeated."""
    if isinstance(value, dict):
        return np.resize(real(value["repeat"]), value["length"]).tolist()
    if isinstance(value, list):
        return [real(item) for item in value]
    return float.fromhex(value) if isinstance(value, str) else value


def word_texts(words: Any) -> list[str]:
    """Return 64-bit words as texts."""
    return [f"0x{int(number):016x}" for number in words]


class Device(NamedTuple):
    """A backend and the reproducible arithmetic on its device."""

    backend: Backend
    ops: Reproducible

    def put(self, numbers: Sequence[Any] | Reals) -> Array:
        """Return floats as an array on the device."""
        return self.backend.from_host(np.ascontiguousarray(numbers, dtype=np.float64))

    def get(self, array: Array) -> Any:
        """Return an array of the device on the host."""
        return np.asarray(self.backend.to_host(array))
