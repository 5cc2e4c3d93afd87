"""Memory mapping of large files, for data that do not fit in memory.

A map is read-only and shares the page cache: the system reads pages when they are accessed, and evicts
them when memory is short. If the file shrinks while it is mapped, the process is killed (SIGBUS).
"""

import mmap
from typing import IO

import numpy as np
from numpy.typing import NDArray

MIN_MAPPED_BYTES = 1 << 26
"""Size in bytes from which values are mapped instead of read.

Smaller files are read quickly, and a copy has advantages: it does not depend on the file any more, and
full-batch training can reorder it once.
"""


class _Map(mmap.mmap):
    """A map of a whole file, with a second one for access in random order."""

    random_access: mmap.mmap


def should_map(dtype: np.dtype, declared: int, start: int) -> bool:
    """Return True if `declared` bytes of values from offset `start` are to be mapped.

    They must be at least `MIN_MAPPED_BYTES`, aligned, and usable as features without conversion.
    """
    aligned = start % dtype.itemsize == 0  # else NumPy copies the whole array for each batch
    is_plain = dtype.isnative and dtype in (np.uint8, np.float32, np.float64)
    return declared >= MIN_MAPPED_BYTES and is_plain and aligned


def map_values(file: IO[bytes], start: int, declared: int, dtype: np.dtype) -> NDArray[np.generic]:
    """Map `declared` bytes from offset `start` as a read-only 1-D array of `dtype`.

    The map remains valid after the file is closed, as long as a view of the array exists.
    """
    whole = _Map(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole.random_access = whole
    if hasattr(mmap, "MADV_RANDOM"):  # not on Windows
        whole.random_access = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole.random_access.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(whole, np.uint8, declared, start).view(dtype)


def is_mapped(array: object) -> bool:
    """Return True for a NumPy array whose values are in a mapped file."""
    return _find_map(array) is not None


def with_random_access(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the same values, for access to rows in random order.

    Read-ahead makes sequential reading about ten times as fast, but random access would read megabytes for
    each row, and evict them again if memory is short. A mapped array is therefore returned as a view of a
    second map of its file without read-ahead; other arrays, and non-contiguous views, are returned
    unchanged.
    """
    whole = _find_map(array)
    if not isinstance(whole, _Map) or not array.flags.c_contiguous:
        return array
    begin = np.frombuffer(whole, np.uint8, 1).ctypes.data
    values = np.frombuffer(whole.random_access, array.dtype, array.size, array.ctypes.data - begin)
    return values.reshape(array.shape)


def _find_map(array: object) -> mmap.mmap | None:
    """Return the memory map that an array is a view of, None if it is none."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array if isinstance(array, mmap.mmap) else None
