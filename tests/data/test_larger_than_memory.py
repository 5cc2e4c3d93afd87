"""Training on data that do not fit in memory, and the script that writes as much data as one likes.

Private memory is limited with RLIMIT_DATA, which counts what a process allocates, stacks of threads
included, and not the pages of a read-only map of a file.
"""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tile_mnist

from xpnet import train
from xpnet.data import array_files
from xpnet.data.datasets import Dataset, digest, load
from xpnet.nn.inputs import fit_normalization

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MIB = 1 << 20
ROWS = 800_000
"""They take 598 MiB."""
LIMIT = 512 * MIB
"""Training takes 250 to 350 MiB whatever the data, half of it reserved by threads and never touched."""
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
"""One heap for all threads, and arrays that go back to the system when they are freed.

Otherwise glibc keeps what each thread frees, which is 50 to 200 MiB more, depending on which thread was
faster: enough to exceed the limit now and then.
"""


TRAIN = "import sys; from xpnet.train import main; sys.exit(main(sys.argv[1:]))"
READ_ALL = "from xpnet.data import array_files; array_files.MIN_MAPPED_BYTES = 1 << 62\n"
"""Code that makes the same files come into memory."""


def run(memory, code, *words):
    """Run Python code, with at most so many bytes of private memory."""
    if memory is not None:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))\n{code}"
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", **MALLOC}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts maps on Linux only")
def test_training_takes_less_memory_than_the_data_and_gives_the_same_bits(tmp_path):
    data, out = tmp_path / "idx", tmp_path / "run"

    def fingerprint(memory, code, *words):
        settings = (
            "--out",
            tmp_path,
            "--name",
            "run",
            "--overwrite",
            "--device",
            "cpu",
            "--batch-size",
            1000,
        )
        done = run(memory, code, "--data", data, *settings, "--epochs", 1, "--workers", 2, *words)
        assert (done.returncode, done.stderr) == (0, "")
        record = json.loads((out / "run.json").read_text())
        assert record["data"]["training_samples"] == ROWS
        return record["fingerprint"]

    tile = "import sys, tile_mnist; sys.exit(tile_mnist.main(sys.argv[1:]))"
    assert (
        run(LIMIT, f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n{tile}", ROWS, "--out", data).stderr
        == ""
    )
    assert (data / "train-images-idx3-ubyte").stat().st_size > LIMIT
    for words in ((), ("--batch-size", "full")):
        assert fingerprint(LIMIT, TRAIN, *words) == fingerprint(None, READ_ALL + TRAIN, *words)
    # Of several workers, more or fewer would be where they need most memory at the same time.
    fingerprint(LIMIT, TRAIN, "--epochs", 0, "--normalize", "standardize", "--workers", 1)
    failed = run(LIMIT, READ_ALL + TRAIN, "--data", data, "--out", tmp_path, "--device", "cpu")
    assert (failed.returncode, failed.stdout) == (2, "")
    hint = "uncompressed IDX or .npy files of pixels need not fit"
    size = f"holds {ROWS * 784} bytes of values, this machine has {LIMIT} bytes of memory"
    assert failed.stderr == f"xpnet: {data}/train-images-idx3-ubyte: {size}: {hint}\n"
    shutil.rmtree(data)


@pytest.mark.parametrize("batch_size", ["7", "1500", "full"])
def test_mapped_files_give_the_parameters_of_the_same_rows_in_an_npz(tmp_path, monkeypatch, batch_size):
    rows = "3000" if batch_size != "7" else "100"
    for form in ("idx", "npy"):
        assert tile_mnist.main([rows, "--out", str(tmp_path / form), "--form", form]) == 0
    data = load(tmp_path / "idx")
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "data.npz", **{name: getattr(data, name) for name in names})
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 1)
    results = set()
    for name in ("idx", "npy", "data.npz"):
        words = ["--out", str(tmp_path), "--name", f"run-{name}", "--batch-size", batch_size]
        settings = ["--epochs", "3", "--lr", "0.05", "--device", "cpu", "--quiet", "--no-report"]
        assert train.main(["--data", str(tmp_path / name), *words, *settings]) == 0
        record = json.loads((tmp_path / f"run-{name}" / "run.json").read_text())
        results.add((record["data"]["sha256"], record["fingerprint"]))
    assert len(results) == 1


@pytest.mark.parametrize("largest", [-3.0, 2.5])
def test_what_reads_all_data_allocates_little(largest):
    x = np.zeros((1 << 16, 64), np.float32)
    x[5, 7], x[1000, 3] = largest, -2.0
    y = np.zeros(len(x), np.int32)
    digest(Dataset(x[:5], y[:5], x[:5], y[:5], "warm"))
    tracemalloc.start()
    try:
        actual = fit_normalization("scale", x)
        digest(Dataset(x, y, x, y, "zeros"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert float(actual.scale) == 1 / abs(largest)
    assert peak < x.nbytes // 16


def test_a_failure_leaves_nothing(tmp_path, monkeypatch, capsys):
    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_disk)
    assert tile_mnist.main(["100", "--out", str(tmp_path / "data")]) == 2
    assert capsys.readouterr().err == (
        f"tile_mnist: {tmp_path / 'data'}: cannot be written (No space left on device):"
        " free some space or choose another path\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_each_row_is_an_image_moved_and_darkened_whatever_is_written_with_it(monkeypatch):
    images = np.zeros((3, 784), np.uint8)
    images[:, 14 * 28 + 14] = [255, 200, 150]
    rows = np.concatenate([*tile_mnist.image_blocks(images, 100, seed=0)])
    assert (rows.shape, rows.dtype) == ((100, 28, 28), np.uint8)
    for index, row in enumerate(rows):
        ((down, right),) = np.argwhere(row)
        assert max(abs(down - 14), abs(right - 14)) <= 2
        assert 0 <= [255, 200, 150][index % 3] - row[down, right] < 32
    assert len({row.tobytes() for row in rows}) > 90
    monkeypatch.setattr(tile_mnist, "ROWS_AT_ONCE", 9)
    np.testing.assert_array_equal(np.concatenate([*tile_mnist.image_blocks(images, 61, seed=0)]), rows[:61])
    assert not np.array_equal(np.concatenate([*tile_mnist.image_blocks(images, 100, seed=4)]), rows)
    labels = np.concatenate([*tile_mnist.label_blocks(np.array([5, 0, 4]), 40)])
    assert labels.tolist() == [[5, 0, 4][index % 3] for index in range(40)]


def test_what_cannot_be_written_is_noticed_before(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert tile_mnist.main(["100", "--out", str(tmp_path)]) == 2
    assert "exists already: remove it, or choose another folder" in capsys.readouterr().err
    assert tile_mnist.main([str((1 << 32) - 1), "--out", str(tmp_path / "data")]) == 2
    needed = ((1 << 32) - 1 + 10_000) * 785
    assert f"{tmp_path / 'data'}: needs {needed} bytes, " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    for count in ("0", "-1", "many", str(1 << 32)):
        with pytest.raises(SystemExit) as caught:
            tile_mnist.main([count, "--out", "data"])
        assert caught.value.code == 2
        assert "rows" in capsys.readouterr().err
