"""Reading datasets: what comes out, whatever the format, and one clear line for each defect."""

import gzip
import io
import os
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from xpnet.data import array_files
from xpnet.data.array_files import is_mapped
from xpnet.data.datasets import check_copy_memory, digest, load
from xpnet.errors import ConfigError, DataError

IDX_TYPES = {"u1": 0x08, "i1": 0x09, "f8": 0x0E}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NAMES = (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
SMALL = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
    "y_train": np.array([0, 2, 1, 0], np.uint8),
    "x_test": np.arange(12, dtype=np.uint8).reshape(2, 2, 3) + 100,
    "y_test": np.array([2, 1], np.uint8),
}


def idx(array):
    header = bytes([0, 0, IDX_TYPES[array.dtype.str[1:]], array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder, arrays=SMALL, form="{}", pack=bytes):
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, arrays.values(), strict=True):
        (folder / form.format(name)).write_bytes(pack(idx(array)))
    return folder


def write_packed(folder, arrays):
    write_idx(folder, arrays, "{}.gz", gzip.compress)
    return (folder / f"{IMAGES}.gz").rename(folder / "train-images.idx3-ubyte.gz").parent


def write_npz(folder, arrays=SMALL):
    np.savez_compressed(folder / "a.npz", **arrays)
    return folder / "a.npz"


def write_npy(folder, arrays=SMALL):
    folder.mkdir(exist_ok=True)
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    return folder


def write_csv(folder, arrays=SMALL):
    for name in ("train", "test"):
        x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
        np.savetxt(folder / f"{name}.csv", np.column_stack([y, x.reshape(len(x), -1)]), "%.17g", ",")
    return folder / "train.csv", folder / "test.csv"


def assert_holds(dataset, arrays, dtype):
    for name, array in arrays.items():
        shape, kind = ((len(array), -1), dtype) if name.startswith("x") else (-1, np.int32)
        actual = getattr(dataset, name)
        assert actual.flags.c_contiguous
        np.testing.assert_array_equal(actual, array.reshape(shape).astype(kind), strict=True)


@pytest.fixture(params=[1 << 26, 1], ids=["read", "mapped"])
def form(request, monkeypatch):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", request.param)


def test_the_bundled_mnist_is_the_notebooks_data():
    mnist = load()
    assert (mnist.name, mnist.features, mnist.classes) == ("mnist", 784, 10)
    assert digest(mnist) == "fc3039553925eb928d6fb02df79eca7e79f972545ff90f81171969b384827235"


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("write", [write_npz, write_npy])
@pytest.mark.parametrize(("kind", "dtype"), [(">f8", np.float64), (np.float16, np.float32), (bool, np.uint8)])
def test_arrays_in_other_types_and_orders(tmp_path, write, kind, dtype):
    features = {name: np.asfortranarray(SMALL[name] % 3).astype(kind) for name in ("x_train", "x_test")}
    assert_holds(load(write(tmp_path, SMALL | features)), SMALL | features, dtype)


@pytest.mark.parametrize(("write", "maps"), [(write_idx, False), (write_npy, True)])
def test_features_that_need_no_conversion_are_mapped(tmp_path, monkeypatch, write, maps):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 1)
    x = load(write(tmp_path, {name: array * 1.0 for name, array in SMALL.items()})).x_train
    assert (is_mapped(x), is_mapped(x[1:3])) == (maps, maps)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", ["u1", "f8"])
@pytest.mark.parametrize("write", [write_npz, write_idx, write_packed, write_npy])
def test_every_format_gives_the_arrays_of_a_table_and_their_digest(tmp_path, write, dtype):
    scale, kind = (1, "pixels") if dtype == "u1" else (1e-30 / 3, "features")
    arrays = SMALL | {name: (SMALL[name] * scale).astype(dtype) for name in ("x_train", "x_test")}
    dataset = load(write(tmp_path, arrays))
    assert_holds(dataset, arrays, dtype)
    assert digest(dataset) == digest(load(*write_csv(tmp_path, arrays), columns=kind))


def refused(*data):
    with pytest.raises((DataError, ConfigError)) as caught:
        load(*data)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_arguments_that_do_not_go_together_or_name_no_file(tmp_path):
    train, test = write_csv(tmp_path)
    assert refused(None, test) == f"--test-data {test}: goes with --data TRAIN.csv"
    assert refused(train, tmp_path).endswith(": is not a .csv or .csv.gz file")
    assert "no such file or folder; --data takes a folder" in refused(tmp_path / "nowhere.npz")
    test.unlink()
    assert refused(train, test) == f"{test}: no such file"


def npy(array, **kwargs):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **kwargs)
    return file.getvalue()


def npz_bytes(x_train, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        archive.writestr("x_train.npy", x_train)
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", npy(SMALL[key]))
    return file.getvalue()


def header_only(shape, descr="'|u1'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


FAR = np.zeros((3000, 6))
FAR[2500, 4], FAR[2999, 1] = np.inf, np.nan
STORED = npz_bytes(npy(SMALL["x_train"]), zipfile.ZIP_STORED)
DEFECTS = [
    (IMAGES, b"\0\0\x0a\1" + bytes(8), "begins with 0x00000a01, the magic number"),
    (LABELS, idx(np.array([0, 2, 1.5, 0])), "row 3: label 1.5: a label is a whole number"),
    (IMAGES, idx(np.array([[0, 1], [-2, 5]] * 2, "i1")), "row 2, column 1: -2 is outside 0 to 255"),
    (IMAGES, gzip.compress(idx(SMALL["x_train"])) + gzip.compress(bytes(1 << 24)), "more follow"),
    ("a.npz", npz_bytes(header_only(f"({10**9}, 6)")), "cannot hold"),
    ("a.npz", STORED.replace(SMALL["x_train"].tobytes(), bytes(24)), "not an intact .npz archive"),
    ("npy/x_train.npy", npy(FAR), "row 2501, column 5: inf is not a finite number"),
]  # fmt: skip
ARRAY_DEFECTS = [
    (npy(np.array([[None, 1]], object), allow_pickle=True), "holds Python objects, which are never"),
    (header_only("(4, 6)", "__import__('os')"), "its .npy header is damaged"),
    (header_only("(True, 24)") + bytes(24), r"its shape \(True, 24\) is not possible"),
    (header_only("(4, 6)") + bytes(25), "its sizes 4x6 take 24 bytes, more follow"),
]
for x_train, message in ARRAY_DEFECTS:
    DEFECTS += [("npy/x_train.npy", x_train, message), ("a.npz", npz_bytes(x_train), f", x_train.*{message}")]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("name", "content", "message"), DEFECTS)
def test_a_defect_is_one_line_and_takes_little_memory(tmp_path, name, content, message):
    write_idx(tmp_path)
    path = write_npy(tmp_path / "npy").parent / name
    path.write_bytes(content)
    tracemalloc.start()
    actual = refused(path if name == "a.npz" else path.parent)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert re.search(f"{re.escape(str(path))}.*{message}", actual), actual
    assert peak < 3 << 20


def test_folders_that_miss_an_array_or_hold_two(tmp_path):
    folder = write_idx(tmp_path)
    (folder / TEST_LABELS).unlink()
    assert refused(folder).startswith(f"{folder}: has no {TEST_LABELS}")
    assert f"holds both x_train.npy and {IMAGES}: keep one of them" in refused(write_npy(folder))


def test_features_and_labels_are_as_many(tmp_path):
    path = write_npz(tmp_path, SMALL | {"y_test": np.zeros(3)})
    assert f"x_test holds 2 samples, {path}, y_test holds 3 labels" in refused(path)


def test_only_mapped_values_need_not_fit_in_the_machines_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda _: 4)
    folder = write_idx(tmp_path)
    for data in (folder, write_npz(tmp_path)):
        assert "holds 24 bytes of values, this machine has 16 bytes of memory" in refused(data)
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 12)
    dataset = load(folder)
    assert_holds(dataset, SMALL, np.uint8)
    with pytest.raises(DataError, match=r"holds 36 bytes .*: the torch backend copies them"):
        check_copy_memory(dataset, "torch")
