"""Training on data that do not fit in memory, and the script that writes as much data as one likes."""

import json
import tracemalloc

import numpy as np
import pytest
import tile_mnist
from networks import pixels

from xpnet import train
from xpnet.data import array_files
from xpnet.data.datasets import Dataset, load

BATCHES = [["--batch-size", "1000"], ["--batch-size", "full", "--normalize", "standardize"]]


def fingerprint(data, out, words):
    """Train with few weights; return the fingerprint of the result and the digest of the data."""
    words = [*words, "--hidden", "2", "--device", "cpu", "--workers", "2", "--quiet", "--no-report"]
    assert train.main(["--data", str(data), "--out", str(out), "--name", "a", "--overwrite", *words]) == 0
    record = json.loads((out / "a" / "run.json").read_text())
    return record["fingerprint"], record["data"]["sha256"]


@pytest.mark.parametrize("words", BATCHES, ids=["mini-batches", "full batch"])
def test_mapped_files_give_the_bits_of_the_same_rows_in_an_npz(tmp_path, monkeypatch, words):
    x, y = pixels(3000, 36, 3)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]}
    np.savez(tmp_path / "data.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 1)
    mapped = fingerprint(tmp_path, tmp_path, [*words, "--epochs", "3"])
    assert mapped == fingerprint(tmp_path / "data.npz", tmp_path, [*words, "--epochs", "3"])


@pytest.mark.slow
@pytest.mark.parametrize("words", BATCHES, ids=["mini-batches", "full batch"])
def test_training_takes_less_memory_than_the_data(tmp_path, words):
    x = np.lib.format.open_memmap(tmp_path / "x_train.npy", "w+", np.uint8, (200_000, 784))
    x[::1000] = 255
    np.save(tmp_path / "y_train.npy", (np.arange(len(x)) % 1000 > 0).astype(np.uint8))
    np.save(tmp_path / "x_test.npy", x[:9])
    np.save(tmp_path / "y_test.npy", np.arange(9) % 2)
    tracemalloc.start()
    fingerprint(tmp_path, tmp_path, [*words, "--epochs", "1"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 2


def test_rows_are_images_moved_and_darkened_whatever_is_written_with_them(monkeypatch):
    images = np.zeros((3, 784), np.uint8)
    images[:, 14 * 28 + 14] = [255, 200, 150]
    rows = np.concatenate([*tile_mnist.image_blocks(images, 100)])
    for index, row in enumerate(rows):
        ((down, right),) = np.argwhere(row)
        assert max(abs(down - 14), abs(right - 14)) <= 2
        assert 0 <= [255, 200, 150][index % 3] - row[down, right] < 32
    assert len({row.tobytes() for row in rows}) > 90
    monkeypatch.setattr(tile_mnist, "ROWS_AT_ONCE", 9)
    np.testing.assert_array_equal(np.concatenate([*tile_mnist.image_blocks(images, 61)]), rows[:61])


def test_the_script_writes_data_or_one_line(tmp_path, monkeypatch, capsys):
    x, y = pixels(9, 784, 3)
    monkeypatch.setattr(tile_mnist.datasets, "load", lambda: Dataset(x, y, x, y, "mnist"))
    words = ["100", "--out", str(tmp_path / "big")]
    assert tile_mnist.main(words) == 0
    written = load(tmp_path / "big")
    assert (written.x_train.shape, written.y_train.tolist()) == ((100, 784), np.resize(y, 100).tolist())
    assert tile_mnist.main(words) == 2
    assert capsys.readouterr().err.startswith(
        f"tile_mnist: {tmp_path / 'big'}: cannot be written (File exists)"
    )
