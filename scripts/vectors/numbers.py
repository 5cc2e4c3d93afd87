"""Numbers of the test vectors: as text, and on a device."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.arithmetic import Reproducible
from xpnet.backends.base import Backend

if TYPE_CHECKING:
    from xpnet.arithmetic.random import Purpose

Reals = NDArray[np.float64]
Content = dict[str, Any]
"""The content of a file, or a part of it."""
UNUSED = cast("Purpose", 0)
"""The purpose of words that training does not use: it uses 1 to 6."""


def hexadecimal(number: float) -> str:
    """Return a float as `float.fromhex` and C's `strtod` read it, without zeros at the end."""
    return re.sub(r"(\.[0-9a-f]+?)0+p", r"\1p", float(number).hex())


def hexadecimals(numbers: Any) -> Any:
    """Return the floats of an array, or of nested lists, as nested lists of texts."""
    nested = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    if isinstance(nested, list | tuple):
        return [hexadecimals(item) for item in nested]
    return hexadecimal(nested)


def real(value: str | float) -> float:
    """Return the float of a text, or a whole number as it is."""
    return float.fromhex(value) if isinstance(value, str) else value


def reals(values: Any) -> Any:
    """Return the floats of nested lists of texts, and of a pattern that is repeated."""
    if isinstance(values, dict):
        return np.resize(reals(values["repeat"]), values["length"]).tolist()
    return [reals(item) for item in values] if isinstance(values, list) else real(values)


def word(text: str) -> int:
    """Return the 64-bit word of a text."""
    return int(text, 16)


def word_text(number: int) -> str:
    """Return a 64-bit word as text."""
    return f"0x{int(number):016x}"


def word_texts(words: Any) -> list[str]:
    """Return 64-bit words as texts."""
    return [word_text(number) for number in words]


class Device(NamedTuple):
    """A backend and the reproducible arithmetic on its device."""

    backend: Backend
    ops: Reproducible

    def put(self, numbers: Sequence[Any] | Reals) -> Array:
        """Return floats as an array on the device."""
        return self.backend.from_host(np.ascontiguousarray(numbers, dtype=np.float64))

    def get(self, array: Array) -> Reals:
        """Return an array of the device on the host."""
        return np.asarray(self.backend.to_host(array))
