"""Reading of datasets: the bundled MNIST, folders of IDX or .npy files, CSV files, .npz archives."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.machine import available_memory
from xpnet.data.csv import read_csv
from xpnet.data.idx import FILE_NAMES, read_idx_folder
from xpnet.data.memmap import is_mapped
from xpnet.data.npy import read_npy_folder, read_npz
from xpnet.data.source import MAPPING_HINT, check_memory
from xpnet.data.table import ROLES, Table
from xpnet.errors import ConfigError, DataError

_FORMS = "a folder of four IDX or .npy files, a .csv or .csv.gz file, or an .npz archive"
_HASHED_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Dataset:
    """Training and test samples.

    Large features are read-only memory maps of their files (see `is_mapped`): read them in blocks.
    """

    x_train: NDArray[np.generic]  # (m, features) uint8 pixels, float32 or float64, C-contiguous
    y_train: NDArray[np.int32]  # (m,) labels from 0
    x_test: NDArray[np.generic]  # (m_test, features), of the same dtype
    y_test: NDArray[np.int32]  # (m_test,)
    name: str

    @property
    def features(self) -> int:
        """The number of features of a sample."""
        return int(self.x_train.shape[1])

    @property
    def classes(self) -> int:
        """The number of classes: one more than the largest label."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load(data: Path | None = None, test_data: Path | None = None) -> Dataset:
    """Read a dataset.

    Parameters
    ----------
    data
        None for the bundled MNIST; a folder with four IDX files named as MNIST names them, gzipped
        or not, or with x_train.npy, y_train.npy, x_test.npy and y_test.npy; a CSV file (label, then
        the features; a header or none; .gz or not); or an .npz with x_train, y_train, x_test and
        y_test. Large features in .npy or uncompressed IDX files are memory-mapped.
    test_data
        The CSV file of the test samples, if `data` is a CSV file; else None.

    Raises
    ------
    ConfigError
        The two arguments do not go together.
    DataError
        A file is missing, damaged or invalid: one line with the file, row and column.
    """
    try:
        return _read_dataset(data, test_data)
    except MemoryError as error:
        raise DataError.at(data, f"does not fit in this machine's memory: {MAPPING_HINT}") from error
    except OSError as error:
        raise DataError.at(data, f"cannot be read ({error.strerror or error})") from error


def digest(dataset: Dataset) -> str:
    """Return the SHA-256 of the four arrays, in hexadecimal; it does not depend on the file format.

    Hashed in the order x_train, y_train, x_test, y_test: the name, NumPy's little-endian type code
    and the shape as one ASCII line ("x_train |u1 60000x784"), then the values, little-endian in
    C order. Mapped features are read once, in blocks.
    """
    sha = hashlib.sha256()
    for name in ROLES:
        array = getattr(dataset, name)
        dtype = array.dtype.newbyteorder("<")
        sha.update(f"{name} {dtype.str} {'x'.join(map(str, array.shape))}\n".encode())
        rows = max(1, _HASHED_AT_ONCE // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            piece = np.ascontiguousarray(array[start : start + rows], dtype)
            sha.update(piece.data.cast("B"))
    return sha.hexdigest()


def check_copy_memory(dataset: Dataset, backend: str) -> None:
    """Raise DataError if mapped features are too large to be copied to a backend.

    Raises
    ------
    DataError
        The mapped features are larger than the available memory.
    """
    halves = dataset.x_train, dataset.x_test
    needed, memory = sum(x.nbytes for x in halves if is_mapped(x)), available_memory()
    if memory is not None and needed > memory:
        raise DataError.at(
            dataset.name,
            f"holds {needed / 2**30:.1f} GiB of features, which the {backend} backend"
            f" copies, and this machine has {memory / 2**30:.1f} GiB of memory: --backend numpy reads"
            " them block by block",
        )


def find_bundled_folder() -> Path:
    """Return the folder of the bundled MNIST: inside an installed wheel, else in the checkout.

    Raises
    ------
    DataError
        The folder is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_data" / "mnist", package.parent / "data" / "mnist"):
        if folder.is_dir():
            return folder
    raise DataError.at(
        package, "the bundled MNIST is missing: install xpnet again, or name a dataset with --data"
    )


def _read_dataset(data: Path | None, test_data: Path | None) -> Dataset:
    """Read a dataset, by the kind of `data`."""
    if data is None:
        if test_data is not None:
            msg = f"--test-data {test_data}: goes with --data TRAIN.csv"
            raise ConfigError(msg)
        return join_halves("mnist", *read_idx_folder(find_bundled_folder()))
    if _is_csv(data) and not data.is_dir():
        if test_data is None:
            msg = f"--data {data}: a CSV file needs --test-data TEST.csv beside it"
            raise ConfigError(msg)
        if not _is_csv(test_data):
            msg = f"--test-data {test_data}: is not a .csv or .csv.gz file"
            raise ConfigError(msg)
        return join_halves(_stem(data), read_csv(data), read_csv(test_data))
    if test_data is not None:
        msg = f"--test-data {test_data}: goes with a CSV file in --data; {data} holds its own test samples"
        raise ConfigError(msg)
    if data.is_dir():
        return join_halves(data.resolve().name, *_read_folder(data))
    if data.exists() and data.suffix.lower() == ".npz":
        return join_halves(_stem(data), *read_npz(data))
    problem = "is none of what --data takes:" if data.exists() else "no such file or folder; --data takes"
    raise DataError.at(data, f"{problem} {_FORMS}")


def _read_folder(folder: Path) -> tuple[Table, Table]:
    """Read a folder of IDX files, or of .npy files if it has x_train.npy.

    Raises
    ------
    DataError
        The folder has training features in both formats, or a file cannot be read.
    """
    if not (folder / "x_train.npy").exists():
        return read_idx_folder(folder)
    stem, _ = FILE_NAMES["x_train"]
    both = sorted(path.name for path in folder.glob(f"{stem}*"))
    if both:
        raise DataError.at(folder, f"holds both x_train.npy and {both[0]}: keep one of them in this folder")
    return read_npy_folder(folder)


def _is_csv(path: Path) -> bool:
    """Return True if the name is that of a CSV file."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def _stem(path: Path) -> str:
    """Return the name without .gz and its suffix."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def join_halves(name: str, train: Table, test: Table) -> Dataset:
    """Return the dataset of training and test samples, whose features must match.

    Raises
    ------
    DataError
        The numbers of features differ, or one half has pixels and the other decimals.
    """
    x_train, x_test = train.x, test.x
    if x_train.shape[1] != x_test.shape[1]:
        raise DataError.at(
            test.x_from, f"has {x_test.shape[1]} features a sample, {train.x_from} has {x_train.shape[1]}"
        )
    if x_train.dtype != x_test.dtype:
        if np.uint8 in (x_train.dtype, x_test.dtype):
            pixels, floats = (train, test) if x_train.dtype == np.uint8 else (test, train)
            raise DataError.at(
                pixels.x_from,
                f"holds whole numbers (pixels), {floats.x_from} decimals: write both in the same way",
            )
        check_memory(train.x_from, np.dtype(np.float64).itemsize * x_train.size)
        x_train, x_test = x_train.astype(np.float64), x_test.astype(np.float64)
    return Dataset(x_train, train.y, x_test, test.y, name)
