"""Training on data that do not fit in memory, and the script that writes as much data as one likes."""

import json
import tracemalloc

import numpy as np
import pytest
import tile_mnist
from networks import pixels

from xpnet import train
from xpnet.data import array_files

pytestmark = pytest.mark.parametrize(
    "words", [["--batch-size", "1000"], ["--batch-size", "full", "--normalize", "standardize"]], ids=str
)


def fingerprint(data, out, words, epochs):
    words = [*words, "--epochs", epochs, "--hidden", "2", "--device", "cpu", "--workers", "2", "--no-report"]
    assert train.main(["--data", str(data), "--out", str(out), "--name", epochs, "--overwrite", *words]) == 0
    record = json.loads((out / epochs / "run.json").read_text())
    return record["fingerprint"], record["data"]["sha256"]


def test_mapped_files_give_the_bits_of_the_same_rows_in_an_npz(tmp_path, monkeypatch, words):
    x, y = pixels(3000, 36, 3)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]}
    np.savez(tmp_path / "data.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 1)
    mapped = fingerprint(tmp_path, tmp_path, words, "3")
    assert mapped == fingerprint(tmp_path / "data.npz", tmp_path, words, "3")


@pytest.mark.slow
def test_training_takes_less_memory_than_the_data_that_the_script_writes(tmp_path, words):
    folder, rows = tmp_path / "big", 200_000
    tile_mnist.main([str(rows), "--out", str(folder)])
    fingerprint(folder, tmp_path, words, "0")  # which imports what a training needs
    tracemalloc.start()
    fingerprint(folder, tmp_path, words, "1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows * 784 / 2
