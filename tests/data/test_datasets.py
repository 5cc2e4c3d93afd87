"""Reading datasets: what comes out, whatever the format, and one clear line for each defect."""

import gzip
import io
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xpnet.data import csv, csv_layout, datasets, memmap
from xpnet.data.datasets import Dataset, check_copy_memory, digest, load
from xpnet.data.memmap import is_mapped, with_random_access
from xpnet.data.npy import read_npy
from xpnet.errors import ConfigError, DataError, XPNetError

ROOT = Path(__file__).resolve().parents[2]
Array = NDArray[Any]

IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NAMES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)


class Arrays(NamedTuple):
    """The four arrays of a dataset, before they are written."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


SMALL = Arrays(
    np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
    np.array([0, 2, 1, 0], np.uint8),
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3) + 100,
    np.array([2, 1], np.uint8),
)


def idx(array: Array) -> bytes:
    header = bytes([0, 0, IDX_TYPES[array.dtype.str[1:]], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder: Path, arrays: Arrays = SMALL, *, packed: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, arrays, strict=True):
        content = idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    return folder


def write_npz(path: Path, **changes: Any) -> Path:
    arrays = SMALL._asdict() | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def write_npy(folder: Path, arrays: Arrays = SMALL) -> Path:
    folder.mkdir(exist_ok=True)
    for key, array in arrays._asdict().items():
        np.save(folder / f"{key}.npy", array)
    return folder


def table(x: Array, y: Array, *, header: bool = True, end: str = "\n") -> str:
    rows = x.reshape(len(x), -1)
    lines = [",".join(["label", *(f"1x{i + 1}" for i in range(rows.shape[1]))])] if header else []
    lines += [
        ",".join([str(int(label)), *map(repr, row)]) for label, row in zip(y, rows.tolist(), strict=True)
    ]
    return end.join(lines) + end


def write_csv(folder: Path, arrays: Arrays = SMALL, **form: Any) -> tuple[Path, Path]:
    train, test = folder / "train.csv", folder / "test.csv"
    train.write_text(table(arrays.x_train, arrays.y_train, **form), newline="")
    test.write_text(table(arrays.x_test, arrays.y_test, **form), newline="")
    return train, test


def assert_holds(dataset: Dataset, arrays: Arrays, dtype: Any) -> None:
    for name, expected in arrays._asdict().items():
        actual = getattr(dataset, name)
        is_features = name.startswith("x")
        assert actual.dtype == (dtype if is_features else np.int32)
        assert actual.flags.c_contiguous
        assert actual.dtype.isnative
        np.testing.assert_array_equal(
            actual, expected.reshape(len(expected), -1) if is_features else expected.reshape(-1)
        )


@pytest.fixture(params=["read", "mapped"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small files are read; in the second variant they are treated as large ones are."""
    if request.param == "mapped":
        monkeypatch.setattr(memmap, "MIN_MAPPED_BYTES", 1)
    return str(request.param)


@pytest.fixture
def map_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memmap, "MIN_MAPPED_BYTES", 1)


def by_message(value: object) -> str:
    """Name a case of a table by the message it expects."""
    return value[:70] if isinstance(value, str) else "_"


# What is read


def test_the_bundled_mnist_is_the_notebooks_data() -> None:
    mnist = load()
    assert (mnist.x_train.shape, mnist.x_test.shape) == ((60000, 784), (10000, 784))
    assert (mnist.x_train.dtype.str, mnist.y_train.dtype.kind) == ("|u1", "i")
    assert (mnist.name, mnist.features, mnist.classes) == ("mnist", 784, 10)
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert digest(mnist) == "fc3039553925eb928d6fb02df79eca7e79f972545ff90f81171969b384827235"


def test_the_bundled_files_match_their_checksums() -> None:
    import hashlib

    folder = ROOT / "data" / "mnist"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 4
    for line in lines:
        expected, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_the_bundled_mnist_is_found_in_a_wheel_then_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "xpnet"
    monkeypatch.setattr(datasets, "__file__", str(package / "datasets" / "__init__.py"))
    with pytest.raises(DataError, match="the bundled MNIST is missing"):
        datasets.find_bundled_folder()
    checkout = tmp_path / "data" / "mnist"
    checkout.mkdir(parents=True)
    assert datasets.find_bundled_folder() == checkout
    wheel = package / "_data" / "mnist"
    wheel.mkdir(parents=True)
    assert datasets.find_bundled_folder() == wheel


def test_pandas_is_imported_only_for_csv() -> None:
    code = "import sys; from xpnet import datasets; datasets.load(); sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_idx_files(tmp_path: Path, packed: bool) -> None:
    dataset = load(write_idx(tmp_path / "digits", packed=packed))
    assert_holds(dataset, SMALL, np.uint8)
    assert (dataset.name, dataset.features, dataset.classes) == ("digits", 6, 3)


def test_idx_files_with_a_dot_in_their_names(tmp_path: Path) -> None:
    for path in write_idx(tmp_path).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert_holds(load(tmp_path), SMALL, np.uint8)


def test_idx_decompressed_under_its_old_name(tmp_path: Path) -> None:
    for path in write_idx(tmp_path).iterdir():
        path.rename(f"{path}.gz")
    assert_holds(load(tmp_path), SMALL, np.uint8)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    content = idx(SMALL.x_train)
    write_idx(tmp_path)
    (tmp_path / IMAGES).write_bytes(gzip.compress(content[:20]) + gzip.compress(content[20:]))
    assert_holds(load(tmp_path), SMALL, np.uint8)


@pytest.mark.parametrize(
    ("stored", "read"),
    [("i1", "u1"), ("i2", "u1"), ("i4", "u1"), ("f4", "f4"), ("f8", "f8")],
)
@pytest.mark.parametrize("form", ["idx", "npy", "npz"])
def test_the_type_of_the_features(tmp_path: Path, form: str, stored: str, read: str) -> None:
    arrays = SMALL._replace(x_train=SMALL.x_train.astype(stored), x_test=SMALL.x_test.astype(stored))
    if form == "idx":
        dataset = load(write_idx(tmp_path, arrays))
    elif form == "npy":
        dataset = load(write_npy(tmp_path, arrays))
    else:
        dataset = load(write_npz(tmp_path / "a.npz", **arrays._asdict()))
    assert_holds(dataset, arrays, read)


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(array.dtype.newbyteorder(">")),
        np.asfortranarray,
        lambda array: array.astype(np.float16),
    ],
    ids=["big-endian", "Fortran order", "float16"],
)
def test_arrays_in_other_layouts(tmp_path: Path, change: Callable[[Array], Array], map_all: None) -> None:
    x = (SMALL.x_train / 4).astype(np.float32), (SMALL.x_test / 4).astype(np.float32)
    arrays = SMALL._replace(x_train=change(x[0]), x_test=change(x[1]))
    for path in (
        write_npz(tmp_path / "a.npz", **arrays._asdict()),
        write_npy(tmp_path / "npy", arrays),
    ):
        dataset = load(path)
        assert_holds(dataset, SMALL._replace(x_train=x[0], x_test=x[1]), np.float32)
        assert not is_mapped(dataset.x_train)


def test_booleans_and_columns_of_labels(tmp_path: Path, map_all: None) -> None:
    x = SMALL.x_train % 2 == 0
    arrays = SMALL._replace(x_train=x, y_train=SMALL.y_train.reshape(-1, 1).astype(np.float64))
    for path in (
        write_npz(tmp_path / "a.npz", **arrays._asdict()),
        write_npy(tmp_path / "npy", arrays),
    ):
        assert_holds(load(path), SMALL._replace(x_train=x.astype(np.uint8)), np.uint8)


def test_a_folder_of_npy_files(tmp_path: Path) -> None:
    dataset = load(write_npy(tmp_path / "digits"))
    assert_holds(dataset, SMALL, np.uint8)
    assert (dataset.name, dataset.features, dataset.classes) == ("digits", 6, 3)


def test_compressed_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **SMALL._asdict())
    assert_holds(load(tmp_path / "a.npz"), SMALL, np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.split("\n", 1)[1],
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\n\n", 3),
        lambda text: "\n" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\ufeff" + text.split("\n", 1)[1],
        lambda text: re.sub(r"[^,\n]+", r'"\g<0>"', text),
        lambda text: re.sub(r"[^,\n]+", r'"\g<0>"', text.split("\n", 1)[1]),
        lambda text: text.replace("1x", "größe "),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("label,", "class,").replace("1x", ""),
    ],
    ids=[
        "header", "no header", "no last line end", "blank last lines", "blank lines",
        "blank first line", "Windows line ends", "byte-order mark", "byte-order mark, no header",
        "quoted cells", "quoted cells, no header", "names in UTF-8", "spaces", "names that count",
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_forms_of_csv(tmp_path: Path, change: Callable[[str], str], packed: bool) -> None:
    paths = []
    for half, x, y in (("train", *SMALL[:2]), ("test", *SMALL[2:])):
        content = change(table(x, y)).encode()
        paths.append(tmp_path / f"{half}.csv{'.gz' if packed else ''}")
        paths[-1].write_bytes(gzip.compress(content) if packed else content)
    dataset = load(*paths)
    assert_holds(dataset, SMALL, np.uint8)
    assert dataset.name == "train"


@pytest.mark.parametrize(
    ("rows", "dtype", "x", "y"),
    [
        ("0,0,255\n1,7,8\n", np.uint8, [[0, 255], [7, 8]], [0, 1]),
        ("0,0,255\n1,7,8.5\n", np.float64, [[0, 255], [7, 8.5]], [0, 1]),
        ("0,0,255\n1,7.0,8\n", np.float64, [[0, 255], [7, 8]], [0, 1]),
        ("0,300.0,-4\n1,7,8\n", np.float64, [[300, -4], [7, 8]], [0, 1]),
        ("0,1e3,2\n1,7,8\n", np.float64, [[1000, 2], [7, 8]], [0, 1]),
        ("0,300,2\n1,7,.5\n", np.float64, [[300, 2], [7, 0.5]], [0, 1]),
        ("0.0,1,2\n3.0,7,8\n", np.uint8, [[1, 2], [7, 8]], [0, 3]),
        ("65535,1,2\n256,7,8\n", np.uint8, [[1, 2], [7, 8]], [65535, 256]),
        ("+0,007,+2\n1,7,8\n", np.uint8, [[7, 2], [7, 8]], [0, 1]),
    ],
    ids=["pixels", "one decimal", "a whole number with a point", "a decimal point", "an exponent",
         "a decimal after a large number", "labels with a point", "large labels", "signs and leading zeros"],
)  # fmt: skip
def test_the_type_of_csv_features(
    tmp_path: Path, rows: str, dtype: Any, x: list[list[float]], y: list[int]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(rows)
    dataset = load(path, path)
    assert dataset.x_train.dtype == dtype
    assert dataset.x_train.tolist() == x
    assert dataset.y_train.tolist() == y
    assert dataset.classes == max(y) + 1


@given(st.lists(st.integers(-5, 1200), min_size=2, max_size=6))
def test_integers_that_an_old_pandas_would_wrap_are_noticed(values: list[int]) -> None:
    text = ",".join(map(str, values)).encode() + b"\n"
    assert csv._may_exceed_uint8(text) == any(not 0 <= value <= 255 for value in values)


@pytest.mark.parametrize("cell", ["256", "300", "999", "1024", "-1", "65536", "10000000000"])
@pytest.mark.parametrize("wraps", [False, True])
def test_no_pandas_wraps_an_integer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, wraps: bool
) -> None:
    wraps = wraps or csv._pandas_wraps_integers()
    monkeypatch.setattr(csv, "_pandas_wraps_integers", lambda: wraps)
    path = tmp_path / "a.csv"
    path.write_text(f"0,1,2\n1,{cell},3\n")
    assert f"line 2, column 2: {cell} is outside 0 to 255" in refused(path, path)
    path.write_text("0,1,2\n1,255,3\n")
    assert load(path, path).x_train.tolist() == [[1, 2], [255, 3]]


def test_classes_count_the_labels_of_both_halves(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", y_test=np.array([7, 1]))
    assert load(path).classes == 8


def test_a_csv_in_many_parts_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_layout, "CHUNK_SIZE", 100)
    monkeypatch.setattr(csv_layout, "MIN_PART_SIZE", 150)
    monkeypatch.setattr(csv_layout, "_WORKERS", 7)
    x = np.random.default_rng(0).integers(0, 256, (500, 7), np.uint8)
    arrays = Arrays(x, np.arange(500) % 9, x[:3], np.arange(3))
    for header in (True, False):
        assert_holds(load(*write_csv(tmp_path, arrays, header=header)), arrays, np.uint8)


@pytest.mark.parametrize("decimal", [False, True])
def test_a_row_without_a_label_is_refused_wherever_a_part_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decimal: bool
) -> None:
    monkeypatch.setattr(csv_layout, "MIN_PART_SIZE", 100)
    monkeypatch.setattr(csv_layout, "_WORKERS", 3)
    row = b"1,2.5,3" if decimal else b"1,2,3"
    path = tmp_path / "a.csv"
    for bad in range(60):
        rows = [row] * 60
        rows[bad] = row[1:]
        path.write_bytes(HEAD + b"\n".join(rows) + b"\n")
        where = f"{path}, line {bad + 2}, column 1 (label): is empty"
        assert refused(path, path).startswith(where)


def test_a_large_table_with_a_row_without_a_label_loses_no_rows(tmp_path: Path) -> None:
    """Two parts of two megabytes each, the second of which begins with that row."""
    row = b"1" + b",200" * 400 + b"\n"
    half = csv_layout.MIN_PART_SIZE // len(row) + 1
    path = tmp_path / "a.csv"
    path.write_bytes(row * half + row[1:] + row * (half - 2))
    actual = refused(path, path)
    assert actual.startswith(f"{path}, line {half + 1}, column 1: is empty")


def test_float32_and_float64_halves_become_float64(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz",
        x_train=SMALL.x_train.astype(np.float32),
        x_test=SMALL.x_test.astype(np.float64),
    )
    assert_holds(load(path), SMALL, np.float64)


# Maps of files


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_npy_features_are_mapped_in_their_own_type(tmp_path: Path, map_all: None, dtype: Any) -> None:
    arrays = SMALL._replace(x_train=SMALL.x_train.astype(dtype), x_test=SMALL.x_test.astype(dtype))
    dataset = load(write_npy(tmp_path, arrays))
    assert_holds(dataset, arrays, dtype)
    assert is_mapped(dataset.x_train)
    assert is_mapped(dataset.x_test)
    assert not is_mapped(dataset.y_train)


def test_idx_pixels_are_mapped(tmp_path: Path, map_all: None) -> None:
    dataset = load(write_idx(tmp_path))
    assert_holds(dataset, SMALL, np.uint8)
    assert is_mapped(dataset.x_train)
    assert is_mapped(dataset.x_train[1:3])
    assert not is_mapped(dataset.x_train.copy())


def test_a_map_is_a_plain_array_that_cannot_be_written(tmp_path: Path, map_all: None) -> None:
    x = load(write_idx(tmp_path)).x_train
    assert type(x) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        x[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        x.flags.writeable = True


@pytest.mark.parametrize("dtype", ["i1", "i4", "f4", "f8"])
def test_idx_features_that_must_be_converted_are_read(tmp_path: Path, map_all: None, dtype: str) -> None:
    arrays = SMALL._replace(x_train=SMALL.x_train.astype(dtype), x_test=SMALL.x_test.astype(dtype))
    assert not is_mapped(load(write_idx(tmp_path, arrays)).x_train)


def test_compressed_and_small_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memmap, "MIN_MAPPED_BYTES", SMALL.x_train.nbytes)
    dataset = load(write_idx(tmp_path / "plain"))
    assert (is_mapped(dataset.x_train), is_mapped(dataset.x_test)) == (True, False)
    assert not is_mapped(load(write_idx(tmp_path / "packed", packed=True)).x_train)
    assert not is_mapped(load(write_npz(tmp_path / "a.npz")).x_train)


def test_floats_that_do_not_lie_on_their_boundaries_are_read(tmp_path: Path, map_all: None) -> None:
    x = SMALL.x_train / 4
    path = write_npy(tmp_path, SMALL._replace(x_train=x, x_test=SMALL.x_test / 4)) / "x_train.npy"
    path.write_bytes(header_only("(4, 2, 3)", "'<f8'", 115) + x.tobytes())
    dataset = load(tmp_path)
    assert not is_mapped(dataset.x_train)
    assert dataset.x_train.flags.aligned
    assert dataset.x_train.tolist() == x.reshape(4, 6).tolist()


def test_a_second_map_for_reading_in_any_order(tmp_path: Path, map_all: None) -> None:
    x = load(write_npy(tmp_path)).x_train
    for view in (x, x[1:3], x[3:]):
        shuffled = with_random_access(view)
        assert is_mapped(shuffled)
        assert not np.shares_memory(shuffled, x)
        assert with_random_access(shuffled) is shuffled
        assert shuffled.flags.c_contiguous
        np.testing.assert_array_equal(shuffled, view)
    for array in (x[::2], x[:, 1:], x.copy()):
        assert with_random_access(array) is array


def test_a_map_outlives_the_name_of_its_file(tmp_path: Path, map_all: None) -> None:
    dataset = load(write_idx(tmp_path))
    for path in tmp_path.iterdir():
        path.unlink()
    assert_holds(dataset, SMALL, np.uint8)


# Round trips


@st.composite
def any_arrays(draw: st.DrawFn, dtype: str) -> Arrays:
    features = draw(st.integers(1, 5))
    limits: dict[str, Any] = {"allow_nan": False, "allow_infinity": False}
    value = {
        "u1": st.integers(0, 255),
        "f4": st.floats(width=32, **limits),
        "f8": st.floats(**limits),
    }[dtype]

    def half() -> tuple[Array, Array]:
        rows = draw(st.lists(st.lists(value, min_size=features, max_size=features), min_size=1, max_size=6))
        labels = draw(st.lists(st.integers(0, 65535), min_size=len(rows), max_size=len(rows)))
        return np.array(rows, dtype), np.array(labels, np.int32)

    return Arrays(*half(), *half())


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_every_format_gives_the_same_arrays_and_digest(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, form: str
) -> None:
    @settings(max_examples=25)
    @given(any_arrays(dtype), st.booleans())
    def check(arrays: Arrays, option: bool) -> None:
        folder = tmp_path_factory.mktemp("formats")
        np.savez(folder / "a.npz", **arrays._asdict())
        loaded = [load(folder / "a.npz"), load(write_idx(folder, arrays, packed=option))]
        loaded.append(load(write_npy(folder / "npy", arrays)))
        assert is_mapped(loaded[-1].x_train) == (form == "mapped")
        if dtype != "f4":
            loaded.append(load(*write_csv(folder, arrays, header=option)))
        for dataset in loaded:
            assert_holds(dataset, arrays, dtype)
            assert digest(dataset) == digest(loaded[0])

    check()


def test_the_digest_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.arange(35, dtype=np.float32).reshape(7, 5), np.arange(7, dtype=np.int32)
    dataset = Dataset(x, y, x[::-1], y[::-1], "a")
    whole = digest(dataset)
    for size in (1, 19, 20, 61, 1000):
        monkeypatch.setattr(datasets, "_HASHED_AT_ONCE", size)
        assert digest(dataset) == whole


def test_the_digest_depends_on_values_types_and_shapes() -> None:
    x, y = np.zeros((2, 6), np.uint8), np.zeros(2, np.int32)
    variants = [
        Dataset(x, y, x, y, "a"),
        Dataset(x + np.uint8(1), y, x, y, "a"),
        Dataset(x, y + np.int32(1), x, y, "a"),
        Dataset(x, y, x + np.uint8(1), y, "a"),
        Dataset(x.astype(np.float32), y, x.astype(np.float32), y, "a"),
        Dataset(x.reshape(4, 3), np.zeros(4, np.int32), x, y, "a"),
    ]
    assert len({digest(dataset) for dataset in variants}) == len(variants)
    assert digest(variants[0]) == digest(Dataset(x, y, x, y, "another name"))


# Defects: which arguments, then IDX, CSV, NPZ


def refused(data: Path | None, test_data: Path | None = None) -> str:
    """Return the message of the refusal, which must be one line."""
    with pytest.raises((DataError, ConfigError)) as caught:
        load(data, test_data)
    message = str(caught.value)
    assert message
    assert message.isprintable()
    return message


def test_arguments_that_do_not_go_together(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path)
    npz, folder = write_npz(tmp_path / "a.npz"), write_idx(tmp_path / "idx")
    (tmp_path / "notes.txt").write_text("notes")
    assert refused(None, test) == f"--test-data {test}: goes with --data TRAIN.csv"
    assert refused(train) == f"--data {train}: a CSV file needs --test-data TEST.csv beside it"
    assert refused(train, npz) == f"--test-data {npz}: is not a .csv or .csv.gz file"
    for data in (npz, folder):
        assert f"{data} holds its own test samples" in refused(data, test)
    assert "is none of what --data takes: a folder of four" in refused(tmp_path / "notes.txt")
    assert "is none of what --data takes" in refused(folder / IMAGES)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz"])
def test_a_missing_dataset(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert refused(path).startswith(f"{path}: no such file or folder; --data takes a folder")


@pytest.mark.parametrize("missing", ["train.csv", "test.csv"])
def test_a_missing_csv(tmp_path: Path, missing: str) -> None:
    train, test = write_csv(tmp_path)
    (tmp_path / missing).unlink()
    assert refused(train, test) == f"{tmp_path / missing}: no such file"


@pytest.mark.parametrize("name", NAMES)
def test_one_of_the_four_files_is_missing(tmp_path: Path, name: str) -> None:
    (write_idx(tmp_path) / name).unlink()
    assert refused(tmp_path).startswith(f"{tmp_path}: has no {name} (or {name}.gz); a data folder")


def test_a_folder_where_a_file_is_expected(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path)
    test.unlink()
    test.mkdir()
    assert refused(train, test) == f"{test}: is a folder, a file was expected"
    folder = write_idx(tmp_path / "idx")
    (folder / LABELS).unlink()
    (folder / LABELS).mkdir()
    assert refused(folder) == f"{folder / LABELS}: is a folder, a file was expected"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = write_csv(tmp_path)

    def forbid(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    assert refused(train, test) == f"{train}: cannot be read (Permission denied)"


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    assert refused(path) == f"{path}: cannot be read (File name too long)"


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


BIG = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (4, 30, 30), np.uint8)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "is empty"),
        (IMAGES, gzip.compress(b""), "is empty"),
        (IMAGES, b"\0\0\x08", "begins with 0x000008, the magic number of an IDX file is"),
        (IMAGES, b"\x89PNG\r\n", "begins with 0x89504e47, the magic number"),
        (IMAGES, b"\0\0\x0a\1" + bytes(8), "begins with 0x00000a01, the magic number"),
        (IMAGES, b"\0\0\x08\0" + bytes(8), "begins with 0x00000800, the magic number"),
        (IMAGES, b"\0\0\x08\3\0\0\0\4\0\0", "ends inside its header"),
        (IMAGES, idx(SMALL.x_train)[:-1], "its sizes 4x2x3 take 24 bytes, only 23"),
        (IMAGES, gzip.compress(idx(SMALL.x_train)[:-1]), "its sizes 4x2x3 take 24 bytes, only 23"),
        (IMAGES, idx(SMALL.x_train) + b"\0", "its sizes 4x2x3 take 24 bytes, more follow"),
        (IMAGES, gzip.compress(idx(SMALL.x_train) + b"\0"), "take 24 bytes, more follow"),
        (IMAGES, b"\0\0\x08\3" + b"\xff" * 12, r"announces \d+ bytes of values, \d+ bytes cannot"),
        (IMAGES, b"\0\0\x08\xff" + b"\xff" * 1020, r"announces \d+ bytes of values, \d+ bytes"),
        (IMAGES, gzip.compress(b"\0\0\x0e\1\x3f\xff\xff\xff"), "compressed bytes cannot hold them"),
        (IMAGES, idx(SMALL.y_train), "1 dimension, features need at least 2 .*the labels?"),
        (LABELS, idx(SMALL.x_train), "its shape is 4x2x3, labels have one dimension: .*features?"),
        (IMAGES, idx(SMALL.x_train[:0]), "holds no values .*its shape is 0x2x3"),
        (IMAGES, idx(SMALL.x_train[:, :0]), "holds no values .*its shape is 4x0x3"),
        (IMAGES, BIG[:-200], "the gzip data ends too early: download the file again"),
        (IMAGES, BIG[:-4], "the gzip data ends too early"),
        (IMAGES, flipped(BIG, len(BIG) - 8), r"the gzip data is damaged \(CRC check failed"),
        (IMAGES, flipped(BIG, len(BIG) - 3), r"the gzip data is damaged \(Incorrect length"),
        (IMAGES, flipped(BIG, 500), "the gzip data is damaged"),
        (IMAGES, BIG + b"junk", r"the gzip data is damaged \(Not a gzipped file"),
        (IMAGES, idx(SMALL.x_train[:3]), r"holds 3 samples, .*{labels} holds 4 labels"),
        (LABELS, idx(SMALL.y_train.astype("i1") - np.int8(1)), "row 1: label -1: a label is a whole"),
        (LABELS, idx(np.array([0, 2, 1.5, 0])), "row 3: label 1.5: a label is a whole number"),
        (LABELS, idx(np.array([0, 2, np.nan, 0])), "row 3: label nan: a label is a whole number"),
        (LABELS, idx(np.array([0, 65536, 1, 0], "i4")), "row 2: label 65536: a label is .* 65535"),
        (IMAGES, idx(np.array([[0, 1], [2, 256]] * 2, "i2")), "row 2, column 2: 256 is outside 0 to"),
        (IMAGES, idx(np.array([[0, 1], [-2, 5]] * 2, "i1")), "row 2, column 1: -2 is outside 0 to 255"),
        (IMAGES, idx(np.array([[0, 1], [2, np.nan]] * 2)), "row 2, column 2: nan is not a finite"),
        (IMAGES, idx(np.array([[0, -np.inf], [2, 3]] * 2)), "row 1, column 2: -inf is not a finite"),
        (TEST_IMAGES, idx(SMALL.x_test[:, :1]), "has 3 features a sample, .*{images} has 6"),
        (TEST_IMAGES, idx(SMALL.x_test / 255), "holds whole numbers .*decimals: write both"),
    ],
    ids=by_message,
)  # fmt: skip
def test_defects_of_idx(tmp_path: Path, name: str, content: bytes, message: str, form: str) -> None:
    (write_idx(tmp_path) / name).write_bytes(content)
    actual = refused(tmp_path)
    assert str(tmp_path / name) in actual
    expected = message.replace("{labels}", LABELS).replace("{images}", IMAGES)
    assert re.search(expected, actual), actual


HEAD = b"label,1x1,1x2\n"
PIXEL = "a pixel is a whole number from 0 to 255"
HINT = "; write numbers that are not pixels with a decimal point"
RULES = {
    "pixel": PIXEL,
    "label": "a label is a whole number from 0 to 65535",
    "feature": "a feature is a number",
    "hint": HINT,
    "row": "a row is a label and its features, separated by commas",
    "large": f"{'9' * 30} is outside 0 to 255: {PIXEL}{HINT}",
    "cut": "y" * 40 + "…",
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{}: is empty"),
        (b"\n\r\n \n", "{}: is empty"),
        (b"\xef\xbb\xbf", "{}: is empty"),
        (HEAD, "{}: has a header but no rows"),
        (HEAD + b"\n\n", "{}: has a header but no rows"),
        (HEAD + b"0,1,2\n1,x,4\n", "{}, line 3, column 2 (1x1): 'x' is not a number: {pixel}"),
        (b"0,1,2\n1,3,x\n", "{}, line 2, column 3: 'x' is not a number: {pixel}"),
        (b"x,7,7\n1,3,4\n", "{}, line 1, column 1: 'x' is not a number: {label}"),
        (HEAD + b"\n0,1,2\n\n1,x,4\n", "{}, line 5, column 2 (1x1): 'x' is not a number: {pixel}"),
        (HEAD + b"0,1,256\n", "{}, line 2, column 3 (1x2): 256 is outside 0 to 255: {pixel}{hint}"),
        (HEAD + b"0,-1,2\n", "{}, line 2, column 2 (1x1): -1 is outside 0 to 255: {pixel}{hint}"),
        (HEAD + b"0,1," + b"9" * 30 + b"\n", "{}, line 2, column 3 (1x2): {large}"),
        (HEAD + b"-1,1,2\n", "{}, line 2, column 1 (label): label -1: {label}"),
        (HEAD + b"0.5,1,2\n", "{}, line 2, column 1 (label): label 0.5: {label}"),
        (HEAD + b"65536,1,2\n", "{}, line 2, column 1 (label): label 65536: {label}"),
        (HEAD + b"nan,1,2\n", "{}, line 2, column 1 (label): 'nan' is not a finite number: {label}"),
        (HEAD + b",1,2\n", "{}, line 2, column 1 (label): is empty: {label}"),
        (HEAD + b",1,2\n0,1,2\n", "{}, line 2, column 1 (label): is empty: {label}"),
        (HEAD + b",1.5,2\n0,1,2\n", "{}, line 2, column 1 (label): is empty: {label}"),
        (HEAD + b" ,1,2\n0,1,2\n", "{}, line 2, column 1 (label): is empty: {label}"),
        (HEAD + b'"",1,2\n0,1,2\n', "{}, line 2, column 1 (label): is empty: {label}"),
        (HEAD + b"0,1,2\n,1,2\n", "{}, line 3, column 1 (label): is empty: {label}"),
        (b",7,2\n0,1,2\n", "{}, line 1, column 1: is empty: {label}"),
        (HEAD + b"0,1\n1,2,3\n", "{}, line 2: has 2 values, the first line has 3"),
        (HEAD + b"0,1,2\n1,2,3,4\n", "{}, line 3: has 4 values, the first line has 3"),
        (HEAD + b"0,1,2,\n", "{}, line 2: has 4 values, the first line has 3"),
        (HEAD + b"0,1\n1,2,3,4\n", "{}, line 2: has 2 values, the first line has 3"),
        (HEAD + b"0,1,\n", "{}, line 2, column 3 (1x2): is empty: {pixel}"),
        (HEAD + b"0,1,NaN\n", "{}, line 2, column 3 (1x2): 'NaN' is not a finite number: {pixel}"),
        (HEAD + b"0,1.5,NaN\n", "{}, line 2, column 3 (1x2): 'NaN' is not a finite number: {feature}"),
        (HEAD + b"0,1.5,-inf\n", "{}, line 2, column 3 (1x2): '-inf' is not a finite number: {feature}"),
        (HEAD + b"0,1.5,1e999\n", "{}, line 2, column 3 (1x2): 1e999 is too large for float64"),
        (HEAD + b"0,1.5,1_0\n", "{}, line 2, column 3 (1x2): '1_0' is not a number: {feature}"),
        (HEAD + b"0,1,0x1F\n", "{}, line 2, column 3 (1x2): '0x1F' is not a number: {pixel}"),
        (HEAD + b"0,1,True\n", "{}, line 2, column 3 (1x2): 'True' is not a number: {pixel}"),
        (HEAD + b'0,1,"x"\n', "{}, line 2, column 3 (1x2): 'x' is not a number: {pixel}"),
        (HEAD + b'0,1,"2\n0,1,2\n', "{}, line 2, column 3 (1x2): '\"2' is not a number: {pixel}"),
        (HEAD + b"0,1,2\r0,1,2\n", "{}, line 2: has 5 values, the first line has 3"),
        (HEAD + b"0,1,\xff\xfe\n", "{}, line 2, column 3 (1x2): '\\xff\\xfe' is not a number: {pixel}"),
        (HEAD + b"0,1,\x1b[2J\n", "{}, line 2, column 3 (1x2): '\\x1b[2J' is not a number: {pixel}"),
        (HEAD + b"0,1," + b"y" * 100 + b"\n", "{}, line 2, column 3 (1x2): '{cut}' is not a number: {pixel}"),
        ("étiquette,1x1\n0,1\n".encode("latin-1"), "{}, line 1: is not text in UTF-8"),
        ("label,1x1\n0,1\n".encode("utf-16"), "{}: is not a CSV file, nor any text in UTF-8"),
        (HEAD + b"0,1,2\n1,3\x00,4\n", "{}: is not a CSV file, nor any text in UTF-8"),
        (bytes(range(128, 256)), "{}, line 1: is not text in UTF-8"),
        (b"label;1x1;1x2\n0;1;2\n", "{}, line 1: has one column; {row}"),
        (b"0\n1\n", "{}, line 1: has one column; {row}"),
    ],
    ids=by_message,
)  # fmt: skip
@pytest.mark.parametrize("half", ["train.csv", "test.csv"])
def test_defects_of_csv(tmp_path: Path, half: str, content: bytes, message: str) -> None:
    narrow = SMALL._replace(x_train=SMALL.x_train[:, 0, :2], x_test=SMALL.x_test[:, 0, :2])
    train, test = write_csv(tmp_path, narrow)
    path = tmp_path / half
    path.write_bytes(content)
    assert refused(train, test) == message.format(path, **RULES)


BIG_CSV = gzip.compress(
    table(np.random.default_rng(0).integers(0, 256, (900, 9)), np.arange(900) % 9).encode()
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BIG_CSV[:-200], "the gzip data ends too early"),
        (flipped(BIG_CSV, len(BIG_CSV) - 8), "the gzip data is damaged"),
        (BIG, "is not a CSV file"),
    ],
    ids=["truncated", "corrupt", "not a table"],
)
def test_defects_of_gzipped_csv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content)
    assert refused(path, path).startswith(f"{path}: {message}")


def test_test_data_of_another_width_or_kind(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path, SMALL._replace(x_test=SMALL.x_test[:, :1]))
    assert refused(train, test) == f"{test}: has 3 features a sample, {train} has 6"
    train, test = write_csv(tmp_path, SMALL._replace(x_test=SMALL.x_test / 255))
    assert refused(train, test) == (
        f"{train}: holds whole numbers (pixels), {test} decimals: write both in the same way"
    )


def test_the_defect_is_found_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_layout, "CHUNK_SIZE", 64)
    monkeypatch.setattr(csv_layout, "MIN_PART_SIZE", 150)
    monkeypatch.setattr(csv_layout, "_WORKERS", 3)
    lines = [b"label,a,b"] + [b"1,2,3"] * 100
    path = tmp_path / "a.csv"
    for line in (2, 3, 50, 101):
        path.write_bytes(b"\n".join([*lines[: line - 1], b"1,2,?", *lines[line:]]))
        assert refused(path, path).startswith(f"{path}, line {line}, column 3 (b): '?' is not")


def test_the_first_of_several_defects_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEAD + b"0,1,2\n0,1,x\n0,1\n0,1,y\n")
    assert refused(path, path).startswith(f"{path}, line 3, column 3 (1x2): 'x' is not a number")


def npy(array: Array, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **kwargs)
    return file.getvalue()


def npz_bytes(x_train: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive whose x_train.npy is made of the given bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x_train.npy", x_train)
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", npy(SMALL._asdict()[key]))
    return file.getvalue()


def header_only(shape: str, descr: str = "'|u1'", width: int = 117) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(width) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


ARRAY_DEFECTS: list[tuple[bytes, str]] = [
    (npy(np.array([[{}, 1]], object), allow_pickle=True), "holds Python objects, which are never"),
    (npy(np.array([["1", "2"]])), "its type <U1 is neither an integer nor a float"),
    (npy(np.zeros((4, 6), complex)), "its type complex128 is neither"),
    (npy(np.zeros((4, 6), "f8,f8")), "is neither an integer nor a float"),
    (npy(np.zeros((4, 6), np.float64), version=(2, 0)), r"\.npy version \(2, 0\) is not that"),
    (b"junk" * 9, "its .npy header is damaged"),
    (header_only("(4, 6"), "its .npy header is damaged"),
    (header_only("(4, 6)", "__import__('os')"), "its .npy header is damaged"),
    (header_only("(-4, -6)"), r"its shape \(-4, -6\) is not possible"),
    (npy(np.zeros(4, np.uint8)), "1 dimension, features need at least 2"),
    (npy(np.zeros((0, 6), np.uint8)), "holds no values .its shape is 0x6"),
    (npy(np.zeros((3, 6), np.uint8)), r"holds 3 samples, .*y_train(\.npy)? holds 4 labels"),
    (npy(np.full((4, 6), 1000)), "row 1, column 1: 1000 is outside 0 to 255"),
    (npy(np.array([[0.5, np.inf]] * 4)), "row 1, column 2: inf is not a finite number"),
]


@pytest.mark.parametrize(
    ("x_train", "message"),
    [
        *ARRAY_DEFECTS,
        (b"", "its .npy header is damaged"),
        (header_only("(4, 6)"), "its sizes 4x6 take 24 bytes, only 0 follow"),
        (header_only(f"({10**12}, 6)"), r"announces 6000000000000 bytes of values, \d+ compressed bytes ca"),
        (header_only("(4, 6)") + bytes(25), "its sizes 4x6 take 24 bytes, more follow"),
    ],
    ids=by_message,
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_defects_of_an_npz_array(tmp_path: Path, x_train: bytes, message: str, compression: int) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes(x_train, compression))
    actual = refused(path)
    assert actual.startswith(f"{path}, x_train")
    assert re.search(message, actual), actual


@pytest.mark.parametrize(
    ("x_train", "message"),
    [
        *ARRAY_DEFECTS,
        (b"", "its .npy header is damaged"),
        (header_only("(4, 6)"), "its sizes 4x6 take 24 bytes, only 0 follow"),
        (header_only("(4, 6)") + bytes(23), "its sizes 4x6 take 24 bytes, only 23 follow"),
        (header_only("(4, 6)") + bytes(25), "its sizes 4x6 take 24 bytes, more follow"),
        (header_only(f"({10**12}, 6)"), r"announces 6\d+ bytes of values, 128 bytes cannot hold"),
        (gzip.compress(npy(np.zeros((4, 6))))[:-9], "the gzip data ends too early"),
    ],
    ids=by_message,
)
def test_defects_of_an_npy_file(tmp_path: Path, x_train: bytes, message: str, form: str) -> None:
    path = write_npy(tmp_path) / "x_train.npy"
    path.write_bytes(x_train)
    actual = refused(tmp_path)
    assert actual.startswith(f"{path}")
    assert re.search(message, actual), actual


def test_a_defect_far_down_in_mapped_features(tmp_path: Path, map_all: None) -> None:
    x = np.zeros((3000, 6))
    x[2500, 4] = x[2999, 1] = np.nan
    path = write_npy(tmp_path, SMALL._replace(x_train=x, y_train=np.zeros(3000))) / "x_train.npy"
    assert refused(tmp_path) == f"{path}, row 2501, column 5: nan is not a finite number"


@pytest.mark.parametrize("missing", ["y_train", "x_test", "y_test"])
def test_one_of_the_four_npy_files_is_missing(tmp_path: Path, missing: str) -> None:
    (write_npy(tmp_path) / f"{missing}.npy").unlink()
    assert refused(tmp_path) == f"{tmp_path / missing}.npy: no such file"


def test_a_folder_without_training_features_may_hold_either_form(tmp_path: Path) -> None:
    (write_npy(tmp_path) / "x_train.npy").unlink()
    assert refused(tmp_path).endswith(", or x_train.npy and so on")


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_both_forms(tmp_path: Path, packed: bool) -> None:
    write_npy(write_idx(tmp_path, packed=packed))
    assert refused(tmp_path) == (
        f"{tmp_path}: holds both x_train.npy and {IMAGES}{'.gz' if packed else ''}:"
        " keep one of them in this folder"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, "has no x_test, y_test; it needs x_train, y_train, x_test"),
        ({"y_test": np.array([1, -1])}, "y_test, row 2: label -1: a label is a whole number"),
        ({"y_test": np.array([1, 0.5])}, "y_test, row 2: label 0.5: a label is a whole number"),
        ({"y_test": np.array([[1, 0]])}, "y_test: its shape is 1x2, labels have one dimension"),
        ({"y_test": np.array([1, 2, 0])}, "x_test holds 2 samples, .*y_test holds 3 labels"),
        ({"x_test": SMALL.x_test[:, :1]}, "x_test: has 3 features a sample, .*x_train has 6"),
    ],
    ids=by_message,
)  # fmt: skip
def test_npz_arrays_that_do_not_go_together(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(write_npz(tmp_path / "a.npz", **changes)))


def test_a_pickle_in_an_npz_is_not_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    path = write_npz(tmp_path / "a.npz", y_train=np.array([Trap()], object))
    assert "holds Python objects" in refused(path)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_an_npy_file_is_not_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    np.save(write_npy(tmp_path) / "y_train.npy", np.array([Trap()], object), allow_pickle=True)
    assert "y_train.npy: holds Python objects" in refused(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_damaged_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = write_npz(path).read_bytes()
    for content in (b"", b"junk", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert refused(path).startswith(f"{path}: is not an intact .npz archive")
    position = whole.index(SMALL.x_train.tobytes())
    path.write_bytes(flipped(whole, position + 5))
    assert "Bad CRC-32" in refused(path)


def test_an_npz_that_is_encrypted_or_packed_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    content = bytearray(npz_bytes(npy(SMALL.x_train)))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}, x_train: cannot be unpacked (")


@settings(max_examples=150)
@given(st.data())
def test_no_damage_escapes_as_anything_but_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A byte changed or a tail lost: the file still loads, or one line says why it does not."""
    folder = tmp_path_factory.getbasetemp() / "damage"
    write_idx(folder, packed=data.draw(st.booleans()))
    train, test = write_csv(folder)
    candidates = [write_npz(folder / "a.npz"), train, *folder.glob("train-*")]
    victim = candidates[data.draw(st.integers(0, len(candidates) - 1))]
    content = victim.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        victim.write_bytes(content[:position])
    else:
        victim.write_bytes(flipped(content, position))
    arguments = {".npz": (victim,), ".csv": (train, test)}.get(victim.suffix, (folder,))
    message = "it still loads"
    try:
        load(*arguments)
    except XPNetError as error:
        message = str(error)
    finally:
        for path in folder.iterdir():
            path.unlink()
    assert message.isprintable()


@settings(max_examples=150)
@given(st.data())
def test_no_damage_of_an_npy_file_escapes_either(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    content = npy(SMALL.x_train)
    position = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    path.write_bytes(content[:position] if cut else flipped(content, position))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap, "MIN_MAPPED_BYTES", data.draw(st.sampled_from([1, 1 << 26])))
        message = None
        try:
            values, shape, _ = read_npy(path)
        except XPNetError as error:
            message = str(error)
    if message is None:
        assert not cut
        assert values.size == np.prod(shape)
        assert values.nbytes == SMALL.x_train.nbytes
    else:
        assert message.startswith(f"{path}: ")
        assert message.isprintable()


# Memory


def test_values_beyond_the_machines_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: 4)
    write_idx(tmp_path)
    assert refused(tmp_path).endswith(
        "holds 24 bytes of values, this machine has 16 bytes of memory: uncompressed IDX or .npy files"
        " of pixels need not fit"
    )
    train, test = write_csv(tmp_path)
    assert "this machine has 16 bytes of memory" in refused(train, test)
    assert "this machine has 16 bytes of memory" in refused(write_npz(tmp_path / "a.npz"))


def test_mapped_values_need_not_fit_in_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: 4)
    monkeypatch.setattr(memmap, "MIN_MAPPED_BYTES", 12)
    dataset = load(write_idx(tmp_path))
    assert_holds(dataset, SMALL, np.uint8)
    with pytest.raises(DataError) as caught:
        check_copy_memory(dataset, "torch")
    assert str(caught.value) == (
        f"{tmp_path.name}: holds 0.0 GiB of features, which the torch backend copies, and this machine"
        " has 0.0 GiB of memory: --backend numpy reads them block by block"
    )


def test_features_that_fit_may_be_copied(tmp_path: Path, form: str) -> None:
    check_copy_memory(load(write_idx(tmp_path)), "torch")


def test_maps_of_two_float_types_are_widened_only_where_they_fit(
    tmp_path: Path, map_all: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = SMALL.x_train.astype(np.float32)
    write_npy(tmp_path, SMALL._replace(x_train=x, x_test=SMALL.x_test.astype(np.float64)))
    monkeypatch.setattr(os, "sysconf", lambda _: 13)  # 169 bytes, and 24 float64 are 192
    assert "x_train.npy: holds 192 bytes of values, this machine has 169" in refused(tmp_path)


ZEROS = gzip.compress(bytes(1 << 24)) * 32  # 512 MiB
LONG_LINE = gzip.compress(b"label,a\n") + gzip.compress(b"0," * (1 << 23)) * 32


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "IDX": (IMAGES, lambda: gzip.compress(idx(SMALL.x_train)) + ZEROS, "more follow"),
    "IDX header": (
        IMAGES,
        lambda: gzip.compress(b"\0\0\x08\2" + b"\0\0\xff\xff" * 2),
        "cannot hold",
    ),
    "zeros as CSV": ("a.csv.gz", lambda: ZEROS, "is not a CSV file"),
    "one long line": ("a.csv.gz", lambda: LONG_LINE, "has a line of more than"),
    "NPZ": (
        "a.npz",
        lambda: npz_bytes(header_only("(4, 6)") + bytes(1 << 28)),
        "more follow",
    ),
    "NPZ header": ("a.npz", lambda: npz_bytes(header_only(f"({10**9}, 6)")), "cannot hold"),
}


@pytest.mark.parametrize(("name", "content", "message"), BOMBS.values(), ids=BOMBS)
def test_decompression_bombs_stay_small(
    tmp_path: Path, name: str, content: Callable[[], bytes], message: str
) -> None:
    path = write_idx(tmp_path) / name
    path.write_bytes(content())
    arguments = {"a.npz": (path,), "a.csv.gz": (path, path)}.get(name, (tmp_path,))
    code = (
        "import resource, sys; from pathlib import Path; from xpnet.data.datasets import load\n"
        "from xpnet.errors import DataError\n"
        "import pandas\n"
        # Linux counts the peak of the process that started this one as its own in ru_maxrss.
        "status = Path('/proc/self/status')\n"
        "peak = lambda: (\n"
        "    int(status.read_text().split('VmHWM:')[1].split()[0]) if status.exists()\n"
        "    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        ")\n"
        "before = peak()\n"
        "try: load(*map(Path, sys.argv[1:]))\n"
        "except DataError as error: print(peak() - before, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )  # fmt: skip
    grown, _, actual = run.stdout.partition(" ")
    assert message in actual
    assert int(grown) < 120 * (1 << (20 if sys.platform == "darwin" else 10))
