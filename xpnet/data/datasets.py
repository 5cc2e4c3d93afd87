"""Reading of datasets for training, and of samples for inference, by the kind of file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpnet._lib.kinds import check_arguments
from xpnet._lib.text import format_names
from xpnet._typing import HostArray, Json, Names
from xpnet.arithmetic import random
from xpnet.config import TrainConfig
from xpnet.data.array_files import is_array_file, is_mapped, read_array, read_halves, read_npz
from xpnet.data.csv import read_csv
from xpnet.data.table import MAPPING_HINT, ROLES, Table, as_features, check_memory, make_table, refuse_foreign
from xpnet.data.texts import TableOptions, count_note, quantity_note
from xpnet.distributed.exchange import share_memory
from xpnet.distributed.ranks import ALONE, Ranks
from xpnet.errors import ConfigError, DataError, setting
from xpnet.nn.columns import NO_COLUMNS, Columns

FILE_FORMATS = ".csv, .csv.gz, .npy, .npz and IDX files"
"""The formats of tables, for messages."""
_FORMS = "a folder of four IDX or .npy files, a .csv or .csv.gz file, or an .npz archive"
_HASHED_AT_ONCE = 1 << 24
_DEFAULTS = (TableOptions(), TableOptions(columns="0.1.0"))


@dataclass(frozen=True)
class Dataset:
    """Training and test samples.

    Large features are read-only memory maps of their files (see `is_mapped`): read them in blocks.

    Attributes
    ----------
    x_train, x_test
        Features (m, features), C-contiguous: uint8 pixels, float32 or float64, of one dtype.
    y_train, y_test
        Labels (m,), from 0, int32.
    name
        The name of the file or folder.
    columns
        The names of features and classes.
    notes
        What was read, in words.
    weights
        Weights (m,) of the training samples, in (0, 1]; None: all 1.
    class_weights
        Weights (classes,) in [0, 1] by which those were multiplied; None: all 1.
    test_is_validation
        True if the test samples are evaluated after each epoch instead.
    from_arrays
        True if the arrays were passed from Python, so that no file holds them.
    number_of_classes
        The number of classes, of which some may have no samples; 0: one more than the largest label.
    test_rows, test_file
        The lines (m,), from 1, of the test samples in a CSV file, and its name; None and "" otherwise.
    """

    x_train: HostArray
    y_train: HostArray
    x_test: HostArray
    y_test: HostArray
    name: str
    columns: Columns = NO_COLUMNS
    notes: Names = ()
    weights: "HostArray | None" = None
    class_weights: "HostArray | None" = None
    test_is_validation: bool = False
    from_arrays: bool = False
    number_of_classes: int = 0
    test_rows: "HostArray | None" = None
    test_file: str = ""

    @property
    def features(self) -> int:
        """The number of features of a sample."""
        return int(self.x_train.shape[1])

    @property
    def classes(self) -> int:
        """The number of classes."""
        known = self.number_of_classes or len(self.columns.classes or ())
        return known or int(max(self.y_train.max(), self.y_test.max())) + 1

    @property
    def has_test(self) -> bool:
        """True if there are samples to test the trained network on."""
        return len(self.y_test) > 0 and not self.test_is_validation


@check_arguments
def load(
    data: Path | None = None,
    test_data: Path | None = None,
    *,
    label: str | None = None,
    test_split: float | None = None,
    columns: str = "auto",
    missing: str = "error",
    **options: Any,
) -> Dataset:
    """Read a dataset.

    Parameters
    ----------
    data
        None for the bundled MNIST; a folder with four IDX files named as MNIST names them, gzipped or not, or
        with x_train.npy, y_train.npy, x_test.npy and y_test.npy; a CSV file (a header or none; .gz or not);
        or an .npz with these names. Large features in .npy or uncompressed IDX files are memory-mapped.
    test_data
        The CSV file of the test samples, if `data` is a CSV file; else None.
    label, test_split, columns, missing, **options
        How a CSV file is read: the settings of these names, and drop, encode and unknown.

    Raises
    ------
    ConfigError
        The two arguments do not go together.
    DataError
        A file is missing, damaged or invalid: one line with the file, row and column.
    """
    try:
        table = TableOptions(label, columns, missing, test_split=test_split, **options)
        return _read_dataset(data, test_data, table)
    except MemoryError as error:
        raise DataError(f"{data}: does not fit in this machine's memory: {MAPPING_HINT}") from error
    except OSError as error:
        raise DataError(f"{data}: cannot be read ({error.strerror or error})") from error


def digest(dataset: Dataset, *, some: bool = False) -> str:
    """Return the SHA-256 of the four arrays, in hexadecimal. It does not depend on the file format.

    Hashed in the order x_train, y_train, x_test, y_test: the name, NumPy's little-endian type code
    and the shape as one ASCII line ("x_train |u1 60000x784"), then the values, little-endian in
    C order. Mapped features are read once, in blocks; with ``some``, only about 1,024 of their rows count.
    """
    sha = hashlib.sha256()
    for name in ROLES:
        array = getattr(dataset, name)
        if some and is_mapped(array):
            sha.update(f"{len(array)}".encode())
            array = array[:: max(1, len(array) // 1024)]
        dtype = array.dtype.newbyteorder("<")
        sha.update(f"{name} {dtype.str} {'x'.join(map(str, array.shape))}\n".encode())
        rows = max(1, _HASHED_AT_ONCE // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            sha.update(np.ascontiguousarray(array[start : start + rows], dtype).data.cast("B"))
    return sha.hexdigest()


def check_copy_memory(dataset: Dataset, backend: str) -> None:
    """Raise DataError if mapped features are too large to be copied to a backend.

    Raises
    ------
    DataError
        The mapped features are larger than the available memory.
    """
    mapped = sum(x.nbytes for x in (dataset.x_train, dataset.x_test) if is_mapped(x))
    hint = f"the {backend} backend copies them, {setting('backend', 'numpy')} reads them in blocks"
    check_memory(dataset.name, mapped, hint)


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
    problem = f"the bundled MNIST is missing: install xpnet again, or name a dataset with {setting('data')}"
    raise DataError(f"{package}: {problem}")


def _read_dataset(data: Path | None, test_data: Path | None, options: TableOptions) -> Dataset:
    """Read a dataset, by the kind of `data`."""
    if data:
        refuse_foreign(data)
        if is_csv(data) and not data.is_dir():
            return _read_csv_dataset(data, test_data, options)
    if options not in _DEFAULTS:
        names = ", ".join(map(setting, ("label", "test_split", "missing", "drop", "encode")))
        raise ConfigError(f"{names}, --pixels, --features: go with a CSV file in {setting('data')}")
    if test_data:
        raise ConfigError(f"{setting('test_data')} {test_data}: goes with {setting('data')} TRAIN.csv")
    if not data:
        return join_halves("mnist", *read_halves(find_bundled_folder()))
    if data.is_dir() or (data.exists() and data.suffix.lower() == ".npz"):
        return join_halves(data.resolve().name if data.is_dir() else _stem(data), *read_halves(data))
    name = setting("data")
    problem = f"is none of what {name} takes:" if data.exists() else f"no such file or folder; {name} takes"
    raise DataError(f"{data}: {problem} {_FORMS}")


def _read_csv_dataset(data: Path, test_data: Path | None, options: TableOptions) -> Dataset:
    """Read a table, and the test samples from another one or from some of its rows."""
    if test_data is None and options.test_split is None:
        needed = f"{setting('test_data')} TEST.csv beside it, or {setting('test_split')} 0.2"
        raise ConfigError(f"{setting('data')} {data}: a CSV file needs {needed}")
    if test_data and not is_csv(test_data):
        raise ConfigError(f"{setting('test_data')} {test_data}: is not a .csv or .csv.gz file")
    train = read_csv(data, options)
    if not test_data:
        train, test = _split_rows(train, options.test_split or 0.0)
    train = train.fit(options)
    if test_data:
        if options.columns != "0.1.0":
            options = options._replace(columns="pixels" if train.x.dtype == np.uint8 else "features")
        test = read_csv(test_data, options._replace(known=train.columns))
    train, test = _unite_classes(train, test.encode(train.columns))
    dataset = join_halves(_stem(data), train, test)
    found = absent_note(dataset), count_note(dataset.x_train, dataset.columns)
    notes = [f"notice: {note}" for note in found if note]
    first = f"{data.name}: {train.note}, {dataset.classes} classes"
    return replace(dataset, notes=(first, *dataset.notes, *notes))


def absent_note(data: Dataset) -> str | None:
    """Return a note if there are classes without training samples."""
    absent = np.flatnonzero(np.bincount(data.y_train, minlength=data.classes) == 0).tolist()
    names = [str(data.columns.class_name(number)) for number in absent]
    return f"no training samples of class {format_names(names)}" if names else None


def _split_rows(table: Table, share: float) -> tuple[Table, Table]:
    """Return the training rows and the test rows, the same for every seed."""
    held_out = round(len(table.y) * share)
    if not 0 < held_out < len(table.y):
        problem = f"{held_out} of {len(table.y)} rows would be test data"
        raise ConfigError(f"{setting('test_split')} {share}: {problem}")
    halves = random.split(0, len(table.y), held_out, random.Purpose.TEST_SPLIT)
    lines = np.asarray(table.lines)
    train, test = (replace(table, x=table.x[i], y=table.y[i], lines=lines[i]) for i in halves)
    return train, test


def _unite_classes(train: Table, test: Table) -> tuple[Table, Table]:
    """Give equal numbers to equal names of classes."""
    known, other = train.columns.classes, test.columns.classes
    if known == other:
        return train, test
    classes = tuple(sorted({*(known or ()), *(other or ())}))
    numbers = {name: number for number, name in enumerate(classes)}

    def renumber(table: Table) -> Table:
        new = np.array([numbers[name] for name in table.columns.classes or ()], np.int32)
        return replace(table, y=new[table.y], columns=replace(table.columns, classes=classes))

    return renumber(train), renumber(test)


def is_csv(path: Path) -> bool:
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
        problem = f"has {x_test.shape[1]} features a sample, {train.x_from} has {x_train.shape[1]}"
        raise DataError(f"{test.x_from}: {problem}")
    if x_train.dtype != x_test.dtype:
        if np.uint8 in (x_train.dtype, x_test.dtype):
            pixels, floats = (train, test) if x_train.dtype == np.uint8 else (test, train)
            problem = f"holds whole numbers (pixels), {floats.x_from} decimals: write both in the same way"
            raise DataError(f"{pixels.x_from}: {problem}")
        check_memory(train.x_from, np.dtype(np.float64).itemsize * x_train.size)
        x_train, x_test = x_train.astype(np.float64), x_test.astype(np.float64)
    samples = x_train, train.y, x_test, test.y
    note = None if train.columns.classes else quantity_note(train.y)
    notes = (f"notice: {note}",) if note else ()
    file = "" if test.lines is None else test.x_from
    return Dataset(*samples, name, train.columns, notes, test_rows=test.lines, test_file=file)


Rows: TypeAlias = tuple[HostArray, "HostArray | None"]
"""The features (m, features) and the labels (m,) of samples; None if the file has no labels."""


def is_table(path: Path) -> bool:
    """Return True if a file is a table, by its name, or by the first bytes of IDX and gzip."""
    refuse_foreign(path)
    return is_csv(path) or is_array_file(path)


def read_rows(path: Path, expected: int, columns: Columns = NO_COLUMNS) -> Rows:
    """Read the samples of a table.

    Parameters
    ----------
    path
        A CSV file, gzipped or not, of features, or with labels; a .npy or IDX file of features; or an .npz
        archive with x_test (and y_test), or x (and y), or a single array.
    expected
        The number of features of a sample; a CSV file with one more column has labels.
    columns
        The columns of the training, to which those of a CSV file must belong.

    Raises
    ------
    DataError
        The file is missing, damaged, or of another format.
    """
    try:
        if is_csv(path):
            expected = len(columns.features or ()) or expected
            table = read_csv(path, TableOptions.of(columns, columns="any", predicted=expected))
            return table.encode(columns).x, None if table.y[0] < 0 else table.y
        if not path.name.lower().endswith(".npz"):
            return as_features(*read_array(path)), None
        x, *y = read_npz(path, "x_test, or x, or a single array", _choose_rows)
        if not y:
            return as_features(*x), None
        table = make_table(x, *y)
    except MemoryError as error:
        raise DataError(f"{path}: does not fit in this machine's memory: split it") from error
    return table.x, table.y


def _choose_rows(keys: Sequence[str]) -> list[str]:
    """Return the name of the features in an archive, and that of their labels if it has them."""
    key = next((name for name in ("x_test", "x") if name in keys), keys[0] if len(keys) == 1 else "")
    labels = {"x_test": "y_test", "x": "y"}.get(key, key)
    return [name for name in dict.fromkeys((key, labels)) if name in keys]


# One copy for the ranks of an MPI job on a machine


def load_shared(config: TrainConfig, ranks: Ranks = ALONE) -> Dataset:
    """Read the data set of settings with `load`, once on each machine. The ranks there share the memory.

    Each rank maps mapped files itself.

    Raises
    ------
    ConfigError, DataError
        A rank cannot read the data, or machines have different ones: some rows of mapped features count.
    """
    read = partial(load, config.data, config.test_data, **config.table_options)
    if not ranks.comm:
        return read()
    comm = ranks.on_this_host()
    here = replace(ranks, rank=comm.rank, size=comm.size, comm=comm)
    with ranks.agreement():
        found = read() if here.rank == 0 else None
    if len(set(ranks.hosts)) > 1:  # each of which reads its own files
        ranks.compare({"the data's SHA-256": here.gather(found and digest(found, some=True))[0]})
    described = here.gather(_describe(found) if found else {})[0]
    if len(described["shared"]) < len(ROLES):
        with ranks.agreement():
            found = found or read()
    arrays: Json = {}
    for name, (shape, dtype) in described["shared"].items():
        arrays[name] = share_memory(here.comm, tuple(shape), dtype)
    with here.agreement():  # in which all wait for the first
        if here.rank == 0:
            for name in arrays:
                arrays[name][...] = getattr(found, name)
    if found:
        return replace(found, **arrays)
    columns = Columns.from_json(described["columns"], arrays["x_train"].shape[1], described["classes"])
    return Dataset(**arrays, name=described["name"], columns=columns, notes=tuple(described["notes"]))


def _describe(data: Dataset) -> Json:
    """Return what the other ranks of the machine need to know."""
    arrays = ((name, getattr(data, name)) for name in ROLES)
    shared = {name: (array.shape, array.dtype.str) for name, array in arrays if not is_mapped(array)}
    words = {"name": data.name, "notes": data.notes, "columns": data.columns.to_json()}
    return {**words, "classes": data.classes, "shared": shared}
