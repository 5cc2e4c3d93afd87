"""Reading datasets: what comes out, whatever the format, and one clear line for each defect."""

import gzip
import hashlib
import io
import os
import re
import struct
import tracemalloc
import zipfile
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

from xpnet.config import TrainConfig
from xpnet.data import array_files, csv, datasets
from xpnet.data.array_files import is_mapped
from xpnet.data.datasets import Dataset, check_copy_memory, digest, load
from xpnet.errors import ConfigError, DataError
from xpnet.training.score import normalize_weights

IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NAMES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)


class Arrays(NamedTuple):
    """The four arrays of a dataset, before they are written."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


SMALL = Arrays(
    np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
    np.array([0, 2, 1, 0], np.uint8),
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3) + 100,
    np.array([2, 1], np.uint8),
)


def idx(array):
    header = bytes([0, 0, IDX_TYPES[array.dtype.str[1:]], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder, arrays=SMALL, *, packed=False):
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, arrays, strict=True):
        path, content = folder / name, idx(array)
        if packed:
            path, content = folder / f"{name}.gz", gzip.compress(content, mtime=0)
        path.write_bytes(content)
    return folder


def write_npz(path, **changes):
    arrays = SMALL._asdict() | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def write_npy(folder, arrays=SMALL):
    folder.mkdir(exist_ok=True)
    for key, array in arrays._asdict().items():
        np.save(folder / f"{key}.npy", array)
    return folder


def write_csv(folder, arrays=SMALL):
    train, test = folder / "train.csv", folder / "test.csv"
    for path, x, y in ((train, arrays.x_train, arrays.y_train), (test, arrays.x_test, arrays.y_test)):
        rows = zip(y.tolist(), x.reshape(len(x), -1).tolist(), strict=True)
        lines = [",".join(map(repr, (label, *row))) for label, row in rows]
        path.write_text("\n".join(lines) + "\n")
    return train, test


def assert_holds(dataset, arrays, dtype):
    for name, array in arrays._asdict().items():
        shape, kind = ((len(array), -1), dtype) if name.startswith("x") else (-1, np.int32)
        actual = getattr(dataset, name)
        assert actual.flags.c_contiguous
        np.testing.assert_array_equal(actual, array.reshape(shape).astype(kind), strict=True)


@pytest.fixture(params=[1 << 26, 1], ids=["read", "mapped"])
def form(request, monkeypatch):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", request.param)


def by_message(value):
    """Name a case of a table by the message it expects."""
    return value[:70] if isinstance(value, str) else "_"


# What is read


def test_the_bundled_mnist_is_the_notebooks_data():
    mnist = load()
    assert (mnist.x_train.shape, mnist.x_test.shape) == ((60000, 784), (10000, 784))
    assert (mnist.name, mnist.features, mnist.classes) == ("mnist", 784, 10)
    assert digest(mnist) == "fc3039553925eb928d6fb02df79eca7e79f972545ff90f81171969b384827235"


def test_idx_files_may_have_a_point_in_their_names(tmp_path):
    for path in write_idx(tmp_path).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert_holds(load(tmp_path), SMALL, np.uint8)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(
    ("x_train", "x_test", "dtype"),
    [
        ((SMALL.x_train / 4).astype(">f8"), SMALL.x_test / 4, np.float64),
        (np.asfortranarray(SMALL.x_train / 4), SMALL.x_test / 4, np.float64),
        (SMALL.x_train.astype(np.float16), SMALL.x_test.astype(np.float16), np.float32),
        (SMALL.x_train.astype(np.float32), SMALL.x_test.astype(np.float64), np.float64),
        (SMALL.x_train % 2 == 0, SMALL.x_test % 2 == 0, np.uint8),
    ],
    ids=["big-endian", "Fortran order", "float16", "float32 and float64", "booleans"],
)
def test_arrays_in_other_types(tmp_path, x_train, x_test, dtype):
    labels = SMALL.y_train.reshape(-1, 1).astype(np.float64)
    arrays = SMALL._replace(x_train=x_train, x_test=x_test, y_train=labels)
    for path in (write_npz(tmp_path / "a.npz", **arrays._asdict()), write_npy(tmp_path / "npy", arrays)):
        assert_holds(load(path), arrays, dtype)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f8"])
@pytest.mark.parametrize("write", [write_npy, write_idx])
def test_features_that_need_no_conversion_are_mapped(tmp_path, monkeypatch, write, dtype):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 1)
    arrays = SMALL._replace(x_train=SMALL.x_train.astype(dtype), x_test=SMALL.x_test.astype(dtype))
    dataset = load(write(tmp_path, arrays))
    assert_holds(dataset, arrays, dtype if dtype[0] == "f" else np.uint8)
    expected = dtype == "u1" or (write is write_npy and dtype[0] == "f")
    assert (is_mapped(dataset.x_train), is_mapped(dataset.x_train[1:3])) == (expected, expected)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", ["u1", "f8"])
def test_every_format_gives_the_same_arrays_and_digest(tmp_path, dtype):
    scale = 1 if dtype == "u1" else 1e-30 / 3
    x_train, x_test = ((x * scale).astype(dtype) for x in (SMALL.x_train, SMALL.x_test))
    arrays = SMALL._replace(x_train=x_train, x_test=x_test)
    np.savez_compressed(tmp_path / "a.npz", **arrays._asdict())
    packed, npy = write_idx(tmp_path / "packed", arrays, packed=True), write_npy(tmp_path / "npy", arrays)
    loaded = [load(path) for path in (tmp_path / "a.npz", write_idx(tmp_path, arrays), packed, npy)]
    kind = "pixels" if dtype == "u1" else "features"
    loaded.append(load(*write_csv(tmp_path, arrays), columns=kind))
    assert loaded[0].name == "a"
    for dataset in loaded:
        assert_holds(dataset, arrays, dtype)
        assert (dataset.features, dataset.classes) == (6, 3)
        assert digest(dataset) == digest(loaded[0])


def test_the_digest_is_that_of_names_types_shapes_and_values(monkeypatch):
    monkeypatch.setattr(datasets, "_HASHED_AT_ONCE", 61)
    x, y = np.arange(35, dtype=np.float32).reshape(7, 5), np.arange(7, dtype=np.int32)
    heads = ("x_train <f4 7x5", "y_train <i4 7", "x_test <f4 7x5", "y_test <i4 7")
    arrays = zip(heads, (x, y, x[::-1], y), strict=True)
    content = b"".join(f"{head}\n".encode() + array.tobytes() for head, array in arrays)
    assert digest(Dataset(x.astype(">f4"), y, x[::-1], y, "any")) == hashlib.sha256(content).hexdigest()


def test_weights_have_the_mean_1_over_the_training_samples_alone():
    x, y, training = np.ones((6, 2)), np.zeros(6, np.int32), np.array([0, 1, 4])
    data = Dataset(x, y, x, y, "any", weights=np.arange(1.0, 7.0))
    factors = normalize_weights(data, training, TrainConfig())
    np.testing.assert_allclose(factors, np.arange(1.0, 7.0) * 3 / (1 + 2 + 5), rtol=1e-15)


# Defects: which arguments, then IDX, CSV, NPZ


def refused(data, test_data=None, **options):
    """Return the message of the refusal, which must be one line."""
    with pytest.raises((DataError, ConfigError)) as caught:
        load(data, test_data, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_arguments_that_do_not_go_together_or_name_no_file(tmp_path):
    train, test = write_csv(tmp_path)
    npz, folder = write_npz(tmp_path / "a.npz"), write_idx(tmp_path / "idx")
    (tmp_path / "notes.txt").write_text("notes")
    for data in (None, npz, folder):
        assert refused(data, test) == f"--test-data {test}: goes with --data TRAIN.csv"
    assert refused(train, npz) == f"--test-data {npz}: is not a .csv or .csv.gz file"
    assert "is none of what --data takes: a folder of four" in refused(tmp_path / "notes.txt")
    nowhere = tmp_path / "nowhere.npz"
    assert refused(nowhere).startswith(f"{nowhere}: no such file or folder; --data takes a folder")
    test.unlink()
    assert refused(train, test) == f"{test}: no such file"
    test.mkdir()
    assert refused(train, test) == f"{test}: is a folder, a file was expected"


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


BIG = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (4, 30, 30), np.uint8)), mtime=0)


def npy(array, **kwargs):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **kwargs)
    return file.getvalue()


def npz_bytes(x_train, compression=zipfile.ZIP_DEFLATED):
    """Return an archive whose x_train.npy is made of the given bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        archive.writestr("x_train.npy", x_train)
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", npy(SMALL._asdict()[key]))
    return file.getvalue()


def header_only(shape, descr="'|u1'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


STORED = npz_bytes(npy(SMALL.x_train), zipfile.ZIP_STORED)
NOT_INTACT = "is not an intact .npz archive"
packed = partial(gzip.compress, compresslevel=1, mtime=0)
DEFECTS = [
    (IMAGES, b"\0\0\x0a\1" + bytes(8), "begins with 0x00000a01, the magic number"),
    (IMAGES, b"\0\0\x08\3\0\0\0\4\0\0", "ends inside its header"),
    (IMAGES, idx(SMALL.x_train)[:-1], "its sizes 4x2x3 take 24 bytes, only 23"),
    (IMAGES, b"\0\0\x08\3" + b"\xff" * 12, r"announces more than 2\^63 bytes of values, \d+ bytes"),
    (IMAGES, idx(SMALL.y_train), "1 dimension, features need at least 2 .*the labels?"),
    (IMAGES, BIG[:-200], "the gzip data ends too early: download the file again"),
    (IMAGES, flipped(BIG, len(BIG) - 8), r"the gzip data is damaged \(CRC check failed"),
    (IMAGES, idx(SMALL.x_train[:3]), r"holds 3 samples, .*{labels} holds 4 labels"),
    (LABELS, idx(SMALL.y_train.astype("i1") - np.int8(1)), "row 1: label -1: a label is a whole"),
    (LABELS, idx(np.array([0, 2, 1.5, 0])), "row 3: label 1.5: a label is a whole number"),
    (IMAGES, idx(np.array([[0, 1], [-2, 5]] * 2, "i1")), "row 2, column 1: -2 is outside 0 to 255"),
    (IMAGES, idx(np.array([[0, 1], [2, np.inf]] * 2)), "row 2, column 2: inf is not a finite"),
    (TEST_IMAGES, idx(SMALL.x_test[:, :1]), "has 3 features a sample, .*{images} has 6"),
    (TEST_IMAGES, idx(SMALL.x_test / 255), "holds whole numbers .*decimals: write both"),
    # The same written smaller than it is
    (IMAGES, packed(idx(SMALL.x_train)) + packed(bytes(1 << 24)), "more follow"),
    ("a.npz", npz_bytes(header_only("(4, 6)") + bytes(1 << 24)), "more follow"),
    ("a.npz", npz_bytes(header_only(f"({10**9}, 6)")), "cannot hold"),
    ("a.csv.gz", packed(b"," * 60_000 + b"\n" * (1 << 23)), "has more than 4096 columns"),
    ("a.csv.gz", packed(b"label,a\n" + b"0" * (1 << 23)), "has a line of more than 65536"),
    # Archives
    ("a.npz", STORED[: len(STORED) // 2], NOT_INTACT),
    ("a.npz", flipped(STORED, STORED.index(SMALL.x_train.tobytes()) + 5), rf"{NOT_INTACT} .Bad CRC-32"),
    ("a.npz", STORED.replace(b"y_train", b"y\n\x1brain"), r"found: x_test, x_train, y\\n\\x1b"),
]  # fmt: skip
ARRAY_DEFECTS = [
    (npy(np.array([[None, 1]], object), allow_pickle=True), "holds Python objects, which are never"),
    (npy(np.array([["1", "2"]])), "its type <U1 is neither an integer nor a float"),
    (b"junk" * 9, "its .npy header is damaged"),
    (header_only("(4, 6)", "__import__('os')"), "its .npy header is damaged"),
    (header_only("(True, 24)") + bytes(24), r"its shape \(True, 24\) is not possible"),
    (header_only(f"({2**62}, 6)"), "announces more than 2.63 bytes of values, .* cannot hold them"),
    (header_only("(4, 6)") + bytes(25), "its sizes 4x6 take 24 bytes, more follow"),
]


for x_train, message in ARRAY_DEFECTS:
    DEFECTS += [
        ("npy/x_train.npy", x_train, message),
        ("a.npz", npz_bytes(x_train), f", x_train.*{message}"),
        ("a.npz", npz_bytes(x_train, zipfile.ZIP_STORED), f", x_train.*{message}"),
    ]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("name", "content", "message"), DEFECTS, ids=by_message)
def test_a_defect_is_one_line_and_takes_little_memory(tmp_path, monkeypatch, name, content, message):
    for limit, value in (("PIECE_SIZE", 1 << 14), ("LONGEST_LINE", 1 << 16), ("MOST_COLUMNS", 1 << 12)):
        monkeypatch.setattr(csv, limit, value)
    write_idx(tmp_path)
    write_npy(tmp_path / "npy")
    path = tmp_path / name
    path.write_bytes(content)
    is_table = path.suffix == ".gz"
    tracemalloc.start()
    actual = refused(
        path if is_table or path.suffix == ".npz" else path.parent, test_split=0.5 if is_table else None
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in actual
    expected = message.replace("{labels}", LABELS).replace("{images}", IMAGES)
    assert re.search(expected, actual), actual
    assert peak < 3 << 20


@pytest.mark.usefixtures("form")
def test_a_defect_far_down_in_features(tmp_path):
    x = np.zeros((3000, 6))
    x[2500, 4] = x[2999, 1] = np.nan
    path = write_npy(tmp_path, SMALL._replace(x_train=x, y_train=np.zeros(3000))) / "x_train.npy"
    assert refused(tmp_path) == f"{path}, row 2501, column 5: nan is not a finite number"


def test_folders_and_archives_that_miss_an_array_or_hold_two(tmp_path):
    folder = write_idx(tmp_path / "idx")
    (folder / TEST_LABELS).unlink()
    assert refused(folder).startswith(f"{folder}: has no {TEST_LABELS}")
    write_npy(write_idx(folder))
    assert refused(folder).startswith(f"{folder}: holds both x_train.npy and {IMAGES}: keep one of them")
    (write_npy(tmp_path / "npy") / "y_test.npy").unlink()
    assert refused(tmp_path / "npy") == f"{tmp_path / 'npy' / 'y_test.npy'}: no such file"
    path, names = write_npz(tmp_path / "a.npz", x_test=None), "x_train, y_test, y_train"
    assert refused(path) == f"{path}: expected x_train, y_train, x_test, y_test (found: {names})"
    arrays = f"{path}, x_test holds 2 samples, {path}, y_test holds 3 labels"
    assert refused(write_npz(path, y_test=np.zeros(3))) == f"{arrays}: they must be as many"


def test_only_mapped_values_need_not_fit_in_the_machines_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda _: 4)
    idx_folder, (train, test), npz = write_idx(tmp_path), write_csv(tmp_path), write_npz(tmp_path / "a.npz")
    message = "holds 24 bytes of values, this machine has 16 bytes of memory: uncompressed IDX or .npy files"
    assert message in refused(idx_folder)
    assert "this machine has 16 bytes of memory" in refused(train, test)
    assert "this machine has 16 bytes of memory" in refused(npz)
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 12)
    dataset = load(idx_folder)
    assert_holds(dataset, SMALL, np.uint8)
    with pytest.raises(DataError, match=r"holds 36 bytes .*: the torch backend copies them"):
        check_copy_memory(dataset, "torch")
