"""Maps the values of a large file into memory, so that they need not fit there.

A map is read-only and shared with the system's cache of the file: the system reads the pages that are
touched, and drops them again when it needs the memory. If the file shrinks meanwhile, the process is
killed (SIGBUS).
"""

import mmap
from typing import IO

import numpy as np
from numpy.typing import NDArray

MIN_MAPPED_BYTES = 1 << 26
"""Bytes of values from which a file is mapped instead of read.

Below, reading takes a moment, and a copy has its advantages: what happens to the file later does not
matter, and full-batch training can bring it into the order of its epochs once.
"""


class _Map(mmap.mmap):
    """A map of a whole file, and a second one for reading it in an order of one's own."""

    random_access: mmap.mmap


def should_map(dtype: np.dtype, declared: int, start: int) -> bool:
    """Tell whether to map `declared` bytes of values from byte `start` of a file on.

    They must be many, and be features as they lie there, for a conversion would copy them.
    """
    aligned = start % dtype.itemsize == 0  # else NumPy copies the whole array for each batch
    is_plain = dtype.isnative and dtype in (np.uint8, np.float32, np.float64)
    return declared >= MIN_MAPPED_BYTES and is_plain and aligned


def map_values(file: IO[bytes], start: int, declared: int, dtype: np.dtype) -> NDArray[np.generic]:
    """Return the `declared` bytes from `start` on as a read-only 1-D array of `dtype`.

    The map outlives the file object, and lives as long as any view of the array.
    """
    whole = _Map(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole.random_access = whole
    if hasattr(mmap, "MADV_RANDOM"):  # Windows has no such thing
        whole.random_access = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole.random_access.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(whole, np.uint8, declared, start).view(dtype)


def is_mapped(array: object) -> bool:
    """Tell whether something is a NumPy array whose values lie in a mapped file."""
    return _find_map(array) is not None


def with_random_access(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the same values, for reading rows in any order.

    Where a file is read in its order, the system reads ahead, which makes it some ten times as fast.
    Where rows are read here and there, that would read megabytes for each, and throw them away again
    if memory is short. So a mapped array becomes a view of a second map of its file, whose pages are
    read one by one; any other array, and a view that skips some of the values, is returned itself.
    """
    whole = _find_map(array)
    if not isinstance(whole, _Map) or not array.flags.c_contiguous:
        return array
    begin = np.frombuffer(whole, np.uint8, 1).ctypes.data
    values = np.frombuffer(whole.random_access, array.dtype, array.size, array.ctypes.data - begin)
    return values.reshape(array.shape)


def _find_map(array: object) -> mmap.mmap | None:
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array if isinstance(array, mmap.mmap) else None
