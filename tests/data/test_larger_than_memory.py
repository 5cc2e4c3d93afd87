"""Training on data that do not fit in memory, and the script that writes as much data as one likes.

Private memory is limited with RLIMIT_DATA, which counts what a process allocates, stacks of threads
included, and not the pages of a read-only map of a file.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from xpnet import train
from xpnet.data import memmap
from xpnet.data.datasets import Dataset, digest, load
from xpnet.nn.inputs import fit_normalization

ROOT = Path(__file__).resolve().parents[2]
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

linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts maps on Linux only")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tile_mnist = script("tile_mnist")


def limited(memory: int | None, code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python code, with at most so many bytes of private memory."""
    if memory is not None:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))"
        code = f"{limit}\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", **MALLOC},
    )


TRAIN = "import sys; from xpnet.train import main; sys.exit(main(sys.argv[1:]))"
READ_ALL = "from xpnet.data import memmap; memmap.MIN_MAPPED_BYTES = 1 << 62\n"
"""Code that makes the same files come into memory."""


def trained(
    memory: int | None, data: Path, out: Path, *words: object, code: str = TRAIN
) -> subprocess.CompletedProcess[str]:
    arguments = ["--data", data, "--out", out, "--name", "run", "--overwrite", "--device", "cpu"]
    return limited(memory, code, *arguments, "--epochs", 1, "--workers", 2, *words)


def fingerprint(run: subprocess.CompletedProcess[str], out: Path) -> str:
    """Return the fingerprint of a training that went well."""
    assert (run.returncode, run.stderr) == (0, "")
    record = json.loads((out / "run" / "run.json").read_text())
    assert record["data"]["training_samples"] == ROWS
    return str(record["fingerprint"])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of uncompressed IDX files, larger than the limit."""
    folder = tmp_path_factory.mktemp("large") / "idx"
    run = limited(
        LIMIT,
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        ROOT / "scripts" / "tile_mnist.py", ROWS, "--out", folder,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert (folder / "train-images-idx3-ubyte").stat().st_size > LIMIT
    yield folder
    shutil.rmtree(folder)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1000, "full"])
def test_training_takes_less_memory_than_the_data_and_gives_the_same_bits(
    large: Path, tmp_path: Path, batch_size: object
) -> None:
    words = ("--batch-size", batch_size)
    actual = fingerprint(trained(LIMIT, large, tmp_path, *words), tmp_path)
    in_memory = trained(None, large, tmp_path, *words, code=READ_ALL + TRAIN)
    assert actual == fingerprint(in_memory, tmp_path)


@linux
@pytest.mark.slow
def test_standardizing_takes_less_memory_than_the_data(large: Path, tmp_path: Path) -> None:
    # Of several workers, more or fewer would be where they need most memory at the same time.
    words = ("--batch-size", 1000, "--epochs", 0, "--normalize", "standardize", "--workers", 1)
    fingerprint(trained(LIMIT, large, tmp_path, *words), tmp_path)


@linux
@pytest.mark.slow
def test_the_same_data_in_memory_exceed_the_limit(large: Path, tmp_path: Path) -> None:
    run = trained(LIMIT, large, tmp_path, "--batch-size", 1000, code=READ_ALL + TRAIN)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"xpnet: {large}: does not fit in this machine's memory:"
        " uncompressed IDX or .npy files of pixels need not fit\n"
    )


@pytest.mark.parametrize("batch_size", ["7", "1500", "full"])
def test_mapped_files_give_the_parameters_of_the_same_rows_in_an_npz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: str
) -> None:
    rows = "3000" if batch_size != "7" else "100"
    for form in ("idx", "npy"):
        assert tile_mnist.main([rows, "--out", str(tmp_path / form), "--form", form]) == 0
    data = load(tmp_path / "idx")
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "data.npz", **{name: getattr(data, name) for name in names})
    monkeypatch.setattr(memmap, "MIN_MAPPED_BYTES", 1)
    results = set()
    for name in ("idx", "npy", "data.npz"):
        words = ["--out", str(tmp_path), "--name", f"run-{name}", "--batch-size", batch_size]
        settings = ["--epochs", "3", "--lr", "0.05", "--device", "cpu", "--quiet", "--no-report"]
        assert train.main(["--data", str(tmp_path / name), *words, *settings]) == 0
        record = json.loads((tmp_path / f"run-{name}" / "run.json").read_text())
        results.add((record["data"]["sha256"], record["fingerprint"]))
    assert len(results) == 1


@pytest.mark.parametrize("largest", [-3.0, 2.5])
def test_what_reads_all_data_allocates_little(largest: float) -> None:
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


# scripts/tile_mnist.py


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [full_disk, interrupt])
def test_a_failure_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: Callable[..., None],
) -> None:
    monkeypatch.setattr(os, "fsync", failure)
    words = ["100", "--out", str(tmp_path / "data")]
    if failure is interrupt:
        with pytest.raises(KeyboardInterrupt):
            tile_mnist.main(words)
    else:
        assert tile_mnist.main(words) == 2
        assert capsys.readouterr().err == (
            f"tile_mnist: {tmp_path / 'data'}: cannot be written (No space left on device):"
            " free some space or choose another folder\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_each_row_is_an_image_moved_and_darkened_whatever_is_written_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


def test_what_cannot_be_written_is_noticed_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
