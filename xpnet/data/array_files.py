"""Reading of arrays in IDX files, .npy files and .npz archives, without trust in their headers.

IDX is the format of MNIST: http://yann.lecun.com/exdb/mnist/.
"""

import math
import mmap
import tokenize
import warnings
import zipfile
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format  # noqa: A004 (NumPy's name)

from xpnet._lib.files import read_start
from xpnet._lib.text import format_names, format_shape, join_lines, shorten
from xpnet._typing import HostArray, Shape
from xpnet.data.table import GZIP_MAGIC, ROLES, Source, Table, check_memory, make_table, open_data_file
from xpnet.errors import DataError

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_NAMES = [("train-images", "idx3-ubyte"), ("train-labels", "idx1-ubyte")]
IDX_NAMES += [("t10k-images", "idx3-ubyte"), ("t10k-labels", "idx1-ubyte")]
"""The beginning and the ending of the names of MNIST's files, in the order of `ROLES`."""
MAX_EXPANSION = 1032
"""Maximum expansion factor of deflate (zlib technical notes)."""
MAX_BYTES = 1 << 63
_HEADER_ERRORS = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)


_Header = tuple[Shape, np.dtype[np.generic], bool]
"""The shape and dtype of an array, and True if its values are in Fortran's order."""


def read_halves(path: Path) -> tuple[Table, Table]:
    """Read the tables (train, test) of a .npz archive, or of a folder of .npy files or of MNIST's IDX files.

    Raises
    ------
    DataError
        A file is missing or damaged, the files do not match, or training features are there in both formats.
    """
    if not path.is_dir():
        arrays = read_npz(path, ", ".join(ROLES), lambda keys: ROLES if set(ROLES) <= set(keys) else ())
    elif not (path / "x_train.npy").exists():
        arrays = [read_array(_find_idx_file(path, *name)) for name in IDX_NAMES]
    elif both := sorted(file.name for file in path.glob(f"{IDX_NAMES[0][0]}*")):
        raise DataError(f"{path}: holds both x_train.npy and {both[0]}: keep one of them in this folder")
    else:
        arrays = [read_array(path / f"{role}.npy") for role in ROLES]
    return make_table(*arrays[:2]), make_table(*arrays[2:])


def is_array_file(path: Path) -> bool:
    """Return True if a file is one of arrays, by its name, or by the first bytes of IDX and gzip."""
    magic_numbers = GZIP_MAGIC, *(bytes([0, 0, kind]) for kind in IDX_TYPES)
    return path.name.lower().endswith((".npy", ".npz")) or read_start(path, 3).startswith(magic_numbers)


def read_array(path: Path) -> Source:
    """Read or map an IDX file, gzipped or not, or a .npy file.

    Raises
    ------
    DataError
        The header is damaged, the array holds Python objects, or its shape contradicts the number of bytes.
    """
    read_header = _read_npy_header if path.name.lower().endswith(".npy") else _read_idx_header
    with open_data_file(path) as file:
        return _read_values(file, str(path), path.stat().st_size, read_header(file, str(path))), str(path)


def read_npz(path: Path, expected: str, choose: Callable[[list[str]], Sequence[str]]) -> list[Source]:
    """Read the arrays of a .npz archive that are chosen from the names in it.

    Raises
    ------
    DataError
        The file is not a zip file, none is chosen, or an array is damaged or holds Python objects.
    """
    arrays = []
    where = str(path)
    with open_data_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
                for name in choose(keys):
                    where = f"{path}, {shorten(name)}"
                    with archive.open(f"{name}.npy") as member:
                        header = _read_npy_header(member, where)
                        arrays.append((_read_values(member, where, path.stat().st_size, header), where))
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: is not an intact .npz archive ({error})") from error
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:  # decompressors raise almost any exception for damaged bytes
            reason = join_lines(error) or "its data end too early"
            raise DataError(f"{where}: cannot be unpacked ({reason}): write the archive again") from error
    if not arrays:
        raise DataError(f"{path}: expected {expected} (found: {format_names(sorted(keys)) or 'nothing'})")
    return arrays


def _find_idx_file(folder: Path, stem: str, ending: str) -> Path:
    """Return the path of a file under one of its usual names. Raise DataError if it is missing."""
    for form in ("-{}", "-{}.gz", ".{}", ".{}.gz"):
        path = folder / (stem + form.format(ending))
        if path.exists():
            return path
    names = ", ".join(map("-".join, IDX_NAMES))
    problem = f"has no {stem}-{ending} (or {stem}-{ending}.gz); a data folder holds {names}"
    raise DataError(f"{folder}: {problem}, or x_train.npy and so on")


def _read_idx_header(file: IO[bytes], where: str) -> _Header:
    magic = file.read(4)
    if not magic:
        raise DataError(f"{where}: is empty")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
        form = "0x0000, a type (08, 09, 0b to 0e) and the number of dimensions"
        raise DataError(f"{where}: begins with 0x{magic.hex()}, the magic number of an IDX file is {form}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{where}: ends inside its header")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(IDX_TYPES[magic[2]]), False


def _read_npy_header(file: IO[bytes], where: str) -> _Header:
    try:
        with warnings.catch_warnings(action="ignore"):
            version = format.read_magic(file)
            if version != (1, 0):
                raise DataError(f"{where}: .npy version {version} is not that of a plain array")
            shape, fortran, dtype = format.read_array_header_1_0(file)
    except _HEADER_ERRORS as error:
        raise DataError(f"{where}: its .npy header is damaged") from error
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects, which are never loaded: save numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"{where}: its type {dtype} is neither an integer nor a float of 64 bits")
    if not all(type(size) is int and 0 <= size < MAX_BYTES for size in shape):
        raise DataError(f"{where}: its shape {str(shape)[:60]} is not possible")
    return shape, dtype, fortran


def _read_values(file: IO[bytes], where: str, stored: int, header: _Header) -> HostArray:
    """Read the values after the header from a file, or a member of an archive, that takes `stored` bytes.

    At least `MIN_MAPPED_BYTES` of aligned values that are features without conversion, in a file that is not
    compressed, are returned as a read-only memory map, and need not fit in memory. Others are converted to
    native byte order.

    Raises
    ------
    DataError
        The number of bytes contradicts the header, or values that are not mapped exceed the available
        memory. Sizes in the header are checked before memory is allocated.
    """
    shape, dtype, fortran = header
    declared, start = math.prod(shape) * dtype.itemsize, file.tell()
    packed = not isinstance(file, BufferedReader)
    if declared > stored * (MAX_EXPANSION if packed else 1):
        size = f"{declared if declared < MAX_BYTES else 'more than 2^63'} bytes of values"
        available = f"{stored} {'compressed ' if packed else ''}bytes"
        raise DataError(f"{where}: its header announces {size}, {available} cannot hold them")
    is_plain = dtype.isnative and dtype in (np.uint8, np.float32, np.float64) and not fortran and not packed
    is_aligned = start % dtype.itemsize == 0  # else NumPy copies the whole array for each batch
    follow, is_mapped = stored - start, declared >= MIN_MAPPED_BYTES and is_plain and is_aligned
    if not is_mapped:
        check_memory(where, declared)
        buffer, follow = np.empty(declared, np.uint8), 0
        while count := file.readinto(buffer[follow : follow + (1 << 20)].data):  # type: ignore[attr-defined]
            follow += count
        follow += len(file.read(1))
    if follow != declared:
        problem = f"only {follow} follow" if follow < declared else "more follow"
        raise DataError(f"{where}: its sizes {format_shape(shape)} take {declared} bytes, {problem}")
    values = map_values(file, start, declared, dtype) if is_mapped else buffer.view(dtype)
    native = values.astype(dtype.newbyteorder("="), copy=False)
    try:
        return native.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: its shape of {len(shape)} dimensions is not possible") from error


# Memory maps of large files

MIN_MAPPED_BYTES = 1 << 26
"""Size in bytes from which values are mapped instead of read.

Smaller files are read quickly, and a copy has advantages: it does not depend on the file any more, and
full-batch training can reorder it once.
"""


class _Map(mmap.mmap):
    """A map of a whole file, with a second one for access in random order."""

    random_access: mmap.mmap


def map_values(file: IO[bytes], start: int, declared: int, dtype: np.dtype) -> HostArray:
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


def with_random_access(array: HostArray) -> HostArray:
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
