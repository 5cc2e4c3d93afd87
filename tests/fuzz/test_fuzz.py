"""Seeded damage to every kind of file that is read: each ends in success or in one of xpnet's own errors.

XPNET_FUZZ=10 in the environment makes ten times as many inputs of each kind.
"""

import gzip
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import warnings
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd  # noqa: F401 - once, instead of in each worker
import pytest
from PIL import Image
from saved_models import read_tensors

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig, from_json
from xpnet.config.training import read_toml
from xpnet.data import datasets
from xpnet.data.pictures import MAX_PIXELS, read_digit
from xpnet.errors import XPNetError
from xpnet.recording.recorded_run import RecordedRun, check_recorded, find_file_difference
from xpnet.recording.recorder import describe_state, load_state
from xpnet.storage.checkpoint import encode_checkpoint
from xpnet.storage.find import survey
from xpnet.storage.model_file import encode_tensors, load_model
from xpnet.storage.record import read_metrics, read_run
from xpnet.training.callbacks import EarlyStopping
from xpnet.training.trainer import Trainer

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory as Linux does")
pytestmark = [pytest.mark.slow, LINUX]

INPUTS = 500 * int(os.environ.get("XPNET_FUZZ", "1"))
SECONDS, MEMORY = 60, 200 << 20  # of an input, and of all beside this process and a picture

FIXTURES = Path(__file__).parents[1] / "fixtures"
X, Y = np.random.default_rng(0).integers(0, 256, (20, 9), np.uint8), np.arange(20, dtype=np.uint8) % 3
DIGIT = Image.fromarray(np.pad(np.full((20, 4), 255, np.uint8), ((8, 8), (16, 16))))


def saved(save, *arguments, **options):
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


def csv(separator=",", label="class"):
    rows = [["name", *(f"f{i}" for i in range(9))]]
    rows += [[f"{label}{y}", *map(str, x)] for x, y in zip((X[:6] / 4).tolist(), Y, strict=False)]
    return "".join(f"{separator.join(row)}\n" for row in rows).encode()


MODES = "PNG LA", "JPEG RGB", "GIF P", "BMP RGB", "PPM RGB", "WEBP RGBA", "TIFF 1", "TIFF RGB"
PICTURES = [
    saved(DIGIT.convert(mode).save, kind, compression="group4" if mode == "1" else None)
    for kind, mode in map(str.split, MODES)
]
MODEL, *_ = sorted(FIXTURES.rglob("plain.safetensors"))
CHECKPOINT, *_ = sorted(FIXTURES.rglob("checkpoint.safetensors"))
RUNS, METRICS = ([x.read_bytes() for x in FIXTURES.rglob(name)] for name in ("run.json", "metrics.jsonl"))
ARRAYS = [np.zeros(3), np.zeros((0, 2)), np.full((3, 4), np.nan), np.array(7), np.ones((4, 9), "i1")]
ODD = [None, True, -1, 2, 0.5, 2**70, 10**400, float("nan"), float("inf"), "", "x", "3", [], [1], {}]
ODD += [["a"] * 9, [0.5] * 9, {"0": 1}, [10**400] * 9, [True] * 3, [1, "0.5", 0], ["a", "b", "c"], [[]] * 9]
TOML = b'epochs = 3\nhidden = [32, 16]\nlearning_rate = 0.1\ntags = ["a"]\nrecipe = "notebook"\n'


@cache
def trainer():
    """A training to which checkpoints may belong, and the arrays and facts of one that does."""
    config = TrainConfig(hidden=(4,), batch_norm=True, optimizer="adam", patience=2, validation=5, workers=1)
    data = datasets.Dataset(X, Y.astype("i4"), X, Y.astype("i4"), "x")
    made = ExitStack().enter_context(Trainer.open(config, data, make("numpy", "cpu")))
    return made, *describe_state(made, made.initial_state(), EarlyStopping(2), 0, 0.0)


def other_checkpoint(rng):
    _, arrays, facts = trainer()
    names = *arrays, "state", "state.x", "state.0.9", "best", "best.0", "", "a\n"
    changed = arrays | {rng.choice(names): rng.choice([None, *ARRAYS])}
    changed = {name: array for name, array in changed.items() if array is not None}
    return encode_checkpoint(changed, {**facts, rng.choice([*facts]): rng.choice(ODD)})


def other_model(rng):
    tensors, metadata = read_tensors(MODEL)
    if rng.random() < 0.3:
        kinds = {name: (x, x.T, x.astype("f4"), *ARRAYS) for name, x in tensors.items()}
        tensors = {name: rng.choice(arrays) for name, arrays in kinds.items()}
    columns = {rng.choice(("features", "classes", "means", "position", "label", "more")): rng.choice(ODD)}
    metadata["columns"] = json.dumps(columns)
    metadata[rng.choice([*metadata, "format_version"])] = str(rng.choice(ODD))
    return encode_tensors(tensors, metadata)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


read_rows = partial(datasets.read_rows, expected=9)
load_table = partial(datasets.load, test_split=0.5, missing="mean")


def read_checkpoint(path):
    load_state(trainer()[0], EarlyStopping(2), path)


def read_record(path):
    survey(path.parent)
    from_json(read_run(path.parent)["config"], str(path))
    with suppress(XPNetError):
        check_recorded(RecordedRun(path.parent))
    find_file_difference(RecordedRun(path.parent), all_files=True)


IDX, CSVS = idx(X.reshape(20, 3, 3)), [csv(), csv(";"), csv("\t", ""), gzip.compress(csv(), mtime=0)]
NPY = [saved(np.save, x) for x in (X, np.asfortranarray(X / 4), X.astype(">f4"))]
ARCHIVES = [saved(save, x_train=X, y_train=Y, x_test=X, y_test=Y) for save in (np.savez, np.savez_compressed)]
KINDS = {
    "idx": ("x", [idx(X), IDX, gzip.compress(IDX, mtime=0)], [read_rows]),
    "npy": ("x.npy", NPY, [read_rows]),
    "npz": ("x.npz", ARCHIVES, [datasets.load, read_rows]),
    "csv": ("x.csv", CSVS, [load_table, read_rows]),
    "model": ("x.safetensors", [MODEL.read_bytes(), other_model], [load_model]),
    "checkpoint": ("x.safetensors", [CHECKPOINT.read_bytes(), other_checkpoint], [read_checkpoint]),
    "run.json": ("run.json", RUNS, [read_record]),
    "metrics.jsonl": ("metrics.jsonl", METRICS, [read_metrics]),
    "toml": ("x.toml", [TOML], [read_toml]),
    "picture": ("x", PICTURES, [read_digit]),
}

TOKENS = rb'null true -1 1e999 NaN [] {} "" 0x1p3 True None () (0, \u0000 \ud800'.split()
TOKENS += [b"9" * 400, b"[" * 2000, b"\xff", b"\x00", b"\n", b"\r", b'"', b",", b":", b"'"]


def mutate(content, rng):
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 64)))
        after = at + size
        value = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))
        action = rng.randrange(5)
        if action == 3:  # a number or a word
            at = data.find(b":", at) + 1 or at
            after = next((i for i in range(at, len(data)) if data[i] in b",]}\n"), len(data))
        texts = b"", bytes([value]) * size, data[at:after] * rng.choice((2, 3, 50)), rng.choice(TOKENS), b""
        data[at : after if action < 4 or rng.random() < 0.9 else None] = texts[action]
    return bytes(data)


def read_damaged(kind, folder):
    name, originals, functions = KINDS[kind]
    path, rng = folder / name, random.Random(kind)  # noqa: S311
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + MEMORY + 4 * MAX_PIXELS * (kind == "picture")
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    for _ in range(INPUTS):
        original = rng.choice(originals)
        path.write_bytes(original(rng) if callable(original) else mutate(original, rng))
        for function in functions:
            signal.alarm(SECONDS)
            try:
                function(path)
            except XPNetError as error:
                assert (error.exit_code, bool(str(error))) == (2, True)  # noqa: PT017 - in a process of its own


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_within_limits(tmp_path, kind):
    with warnings.catch_warnings(action="ignore"):  # of threads of other tests
        process = multiprocessing.get_context("fork").Process(target=read_damaged, args=(kind, tmp_path))
        process.start()
    process.join()
    assert process.exitcode == 0, f"{tmp_path / KINDS[kind][0]}; -{signal.SIGALRM:d} is a timeout"
