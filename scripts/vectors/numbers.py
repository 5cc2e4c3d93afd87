"""Numbers of the test vectors: as text, made by a rule, and on a device."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.arithmetic import Reproducible, random
from xpnet.backends.base import Backend

if TYPE_CHECKING:
    from xpnet.arithmetic.random import Purpose

Reals = NDArray[np.float64]
UNUSED = cast("Purpose", 0)
"""The purpose of the words that the vectors' own numbers are made of; training uses 1 to 6."""


def hexadecimal(number: float) -> str:
    """Return a float as `float.fromhex` and C's `strtod` read it, without zeros at the end."""
    return re.sub(r"(\.[0-9a-f]+?)0+p", r"\1p", float(number).hex())


def hexadecimals(numbers: Any) -> Any:
    """Return the floats of an array, or of nested lists, as nested lists of texts."""
    nested = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    if isinstance(nested, list | tuple):
        return [hexadecimals(item) for item in nested]
    return hexadecimal(nested)


def word_text(word: int) -> str:
    """Return a 64-bit word as text."""
    return f"0x{int(word):016x}"


def word_texts(words: Any) -> list[str]:
    """Return 64-bit words as texts."""
    return [word_text(word) for word in words]


def uniform(count: int, *, index: int, epoch: int = 0) -> Reals:
    """Return the first `count` numbers u, from 0 to 1, of the words of purpose 0 and seed 0."""
    return random.uniform(random.words(0, UNUSED, count, index=index, epoch=epoch))


def reals(count: int, *, index: int, low: float, high: float) -> Reals:
    """Return numbers of 53 bits from `low` to `high`, made of the words of purpose 0 and seed 0."""
    words = random.words(0, UNUSED, count, index=index)
    return low + (high - low) * ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


class Device(NamedTuple):
    """A backend and the reproducible arithmetic on its device."""

    backend: Backend
    ops: Reproducible

    @classmethod
    def of(cls, backend: Backend) -> "Device":
        """Return the device of a backend; call it inside the backend's scope."""
        return cls(backend, Reproducible(backend.xp, backend.device, backend.xp.float64))

    def put(self, numbers: Sequence[Any] | Reals) -> Array:
        """Return floats as an array on the device."""
        return self.backend.from_host(np.ascontiguousarray(numbers, dtype=np.float64))

    def get(self, array: Array) -> Reals:
        """Return an array of the device on the host."""
        return np.asarray(self.backend.to_host(array))
