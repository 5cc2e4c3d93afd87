"""Reading of IDX files, the format of MNIST: http://yann.lecun.com/exdb/mnist/."""

from pathlib import Path

import numpy as np

from xpnet.data.source import open_data_file, read_values
from xpnet.data.table import Table, Values, make_halves
from xpnet.errors import DataError

DTYPES: dict[int, np.dtype[np.generic]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
FILE_NAMES = {
    "x_train": ("train-images", "idx3-ubyte"),
    "y_train": ("train-labels", "idx1-ubyte"),
    "x_test": ("t10k-images", "idx3-ubyte"),
    "y_test": ("t10k-labels", "idx1-ubyte"),
}


def read_idx_folder(folder: Path) -> tuple[Table, Table]:
    """Read the four files of `folder`, named as MNIST names them, into (train, test).

    Raises
    ------
    DataError
        A file is missing or damaged, or the files do not match.
    """
    paths = [_find_file(folder, *name) for name in FILE_NAMES.values()]
    return make_halves(map(read_idx, paths))


def read_idx(path: Path) -> Values:
    """Read or map an IDX file, gzipped or not; the values are 1-D, in native byte order.

    Raises
    ------
    DataError
        The magic number is wrong, or the sizes contradict the number of bytes.
    """
    with open_data_file(path) as file:
        magic = file.read(4)
        if not magic:
            raise DataError.at(path, "is empty")
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] == 0:
            raise DataError.at(
                path,
                f"begins with 0x{magic.hex()}, the magic number of an IDX file is"
                " 0x0000, a type (08, 09, 0b to 0e) and the number of dimensions",
            )
        dtype, header = DTYPES[magic[2]], file.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError.at(path, "ends inside its header")
        sizes = tuple(np.frombuffer(header, ">u4").tolist())
        return Values(read_values(file, path, sizes, dtype, path.stat().st_size), sizes, str(path))


def _find_file(folder: Path, stem: str, ending: str) -> Path:
    """Return the path of a file under one of its usual names; raise DataError if it is missing."""
    for form in ("-{}", "-{}.gz", ".{}", ".{}.gz"):
        path = folder / (stem + form.format(ending))
        if path.exists():
            return path
    raise DataError.at(
        folder,
        f"has no {stem}-{ending} (or {stem}-{ending}.gz); a data folder holds"
        f" {', '.join('-'.join(name) for name in FILE_NAMES.values())}, or x_train.npy and so on",
    )
