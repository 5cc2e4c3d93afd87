"""Seeded damage to every kind of file that is read: each ends in success or in one of xpnet's own errors.

XPNET_FUZZ=10 in the environment makes ten times as many inputs of each kind.
"""

import gzip
import io
import json
import os
import random
import resource
import signal
import sys
import traceback
import warnings
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd  # noqa: F401 - once, instead of in each worker
import pytest
from PIL import Image
from saved_models import saved_model

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
from xpnet.storage.model_file import encode_model, encode_tensors, load_model, name_tensors
from xpnet.storage.record import read_metrics, read_run
from xpnet.training.callbacks import EarlyStopping
from xpnet.training.trainer import Trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory as Linux does"),
]

INPUTS = 500 * int(os.environ.get("XPNET_FUZZ", "1"))
IN_A_WORKER = 100
SECONDS = 10
"""Seconds of processor time that an input may take."""
MEMORY = 200 << 20
"""Bytes that a worker may take beyond those of this process and four times the decoded size."""

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (20, 9), np.uint8), np.arange(20, dtype=np.uint8) % 3
DIGIT = Image.fromarray(np.pad(np.full((20, 4), 255, np.uint8), ((8, 8), (16, 16))))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save):
    file = io.BytesIO()
    save(file, x_train=X, y_train=Y, x_test=X, y_test=Y)
    return file.getvalue()


def csv(separator=",", label="class"):
    rows = [["name", *(f"f{i}" for i in range(9))]]
    rows += [[f"{label}{y}", *map(str, x)] for x, y in zip((X[:6] / 4).tolist(), Y, strict=False)]
    return "".join(f"{separator.join(row)}\n" for row in rows).encode()


def picture(kind, mode, **options):
    file = io.BytesIO()
    DIGIT.convert(mode).save(file, kind, **options)
    return file.getvalue()


PICTURES = [picture("PNG", "LA"), picture("PNG", "P", transparency=0), picture("JPEG", "RGB")]
PICTURES += [picture("GIF", "P"), picture("BMP", "RGB"), picture("PPM", "RGB"), picture("WEBP", "RGBA")]
PICTURES += [picture("TIFF", "1", compression="group4"), picture("TIFF", "RGB", compression="tiff_lzw")]
LAYERS = [{"weight": np.ones((4, 9)), "bias": np.zeros(4)}, {"weight": np.ones((3, 4)), "bias": np.zeros(3)}]
FACTS = {"epoch": 2, "batch": 0, "rows": 3, "seconds": 0.5, "best": [1, 0.5, 0.25]}
CHECKPOINT = encode_checkpoint({"state.0.0.weight": np.arange(6.0).reshape(2, 3)}, FACTS, 1)
RUNS = [file.read_bytes() for file in sorted((Path(__file__).parents[1] / "fixtures").rglob("run.json"))]
ARRAYS = [np.zeros(3), np.zeros((0, 2)), np.full((3, 4), np.nan), np.array(7), np.ones((4, 9), "i1")]
TENSORS = name_tensors(saved_model(LAYERS))
ODD = [None, True, -1, 2, 0.5, 2**70, 10**400, float("nan"), float("inf"), "", "x", "3", [], [1], {}]
ODD += [["a"] * 9, [0.5] * 9, {"0": 1}, [10**400] * 9, [True] * 3, [1, "0.5", 0], ["a", "b", "c"], [[]] * 9]
ROW = {"seconds": 0.5, "train_loss": 0.25, "train_accuracy": 1.0, "fingerprint": "ab" * 32}
METRICS = b"".join(json.dumps({"epoch": epoch, **ROW}).encode() + b"\n" for epoch in range(4))
TOML = b'epochs = 3\nhidden = [32, 16]\nlearning_rate = 0.1\noptimizer = "adam"\ntags = ["a"]\n'
TOML += b'recipe = "notebook"\n'


@cache
def trainer():
    """A training to which checkpoints may belong, and the arrays of one that does."""
    config = TrainConfig(hidden=(4,), batch_norm=True, optimizer="adam", patience=2, validation=5, workers=1)
    data = datasets.Dataset(X, Y.astype("i4"), X, Y.astype("i4"), "x")
    made = ExitStack().enter_context(Trainer.open(config, data, make("numpy", "cpu")))
    return made, describe_state(made, made.initial_state(), EarlyStopping(2), 0, 0.0)[0]


def other_checkpoint(rng):
    """Return a checkpoint with a right checksum, and a fact or an array that may be wrong."""
    arrays = dict(trainer()[1])
    if rng.random() < 0.5:
        names = "state", "state.x", "state.0.9", "best", "best.0", "", "a\n"
        arrays[rng.choice((*arrays, *names))] = rng.choice(ARRAYS)
    elif rng.random() < 0.5:
        del arrays[rng.choice([*arrays])]
    return encode_checkpoint(arrays, {**FACTS, rng.choice([*FACTS]): rng.choice(ODD)})


def other_model(rng):
    """Return a model with other tensors or metadata."""
    tensors = {
        name: rng.choice((array, array.T, array.astype("f4"), *ARRAYS)) for name, array in TENSORS.items()
    }
    whole = rng.random() < 0.7
    columns = {rng.choice(("features", "classes", "means", "position", "label", "more")): rng.choice(ODD)}
    metadata = {"sizes": "[9,4,3]", "classes": "3", "activation": "relu", "normalize": "scale"}
    metadata |= {rng.choice([*metadata, "columns", "specification", "format_version"]): str(rng.choice(ODD))}
    return encode_tensors(TENSORS if whole else tensors, {"columns": json.dumps(columns), **metadata})


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


CSVS = [csv(), csv(";"), csv("\t", ""), gzip.compress(csv(), mtime=0)]
KINDS = {
    "idx": ("x", [idx(X), idx(X.reshape(20, 3, 3)), gzip.compress(idx(X), mtime=0)], [read_rows]),
    "npy": ("x.npy", [npy(X), npy(np.asfortranarray(X / 4)), npy(X.astype(">f4"))], [read_rows]),
    "npz": ("x.npz", [npz(np.savez), npz(np.savez_compressed)], [datasets.load, read_rows]),
    "csv": ("x.csv", CSVS, [load_table, read_rows]),
    "model": ("x.safetensors", [encode_model(saved_model(LAYERS)), other_model], [load_model]),
    "checkpoint": ("x.safetensors", [CHECKPOINT, other_checkpoint], [read_checkpoint]),
    "run.json": ("run.json", RUNS, [read_record]),
    "metrics.jsonl": ("metrics.jsonl", [METRICS], [read_metrics]),
    "toml": ("x.toml", [TOML], [read_toml]),
    "picture": ("x", PICTURES, [read_digit]),
}
"""The name of the file, original contents or functions that return others, and the functions that read it."""


TOKENS = rb'null true -1 1e999 NaN [] {} "" 0x1p3 True None () (0, \u0000 \ud800'.split()
TOKENS += [b"9" * 400, b"[" * 2000, b"\xff", b"\x00", b"\n", b"\r", b'"', b",", b":", b"'"]
VALUES = (0, 1, 127, 128, 254, 255)


def mutate(content, rng):
    """Return the content with bytes changed, cut, repeated, moved, or numbers and words replaced."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 64)))
        action = rng.randrange(7)
        if action == 0:
            data[at : at + 1] = bytes((rng.randrange(256),))
        elif action == 1:
            data[at : at + size] = bytes((rng.choice(VALUES),)) * size
        elif action == 2:
            del data[at : at + size]
        elif action == 3:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif action == 4:
            data[at : at + size] = rng.choice(TOKENS)
        elif action == 5:  # a number or a word
            word = bytes(data).find(b":", at) + 1 or at
            end = next((i for i in range(word, len(data)) if data[i] in b",]}\n"), len(data))
            data[word:end] = rng.choice(TOKENS)
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def decoded_size(path):
    """Return the bytes that a file takes when decoded: for an image those of its pixels."""
    with suppress(Exception), Image.open(path) as image:
        return 4 * min(image.width * image.height, MAX_PIXELS)
    return path.stat().st_size


def read_damaged(kind, number, folder):
    """Read damaged files; raise what no reader may raise."""
    name, originals, functions = KINDS[kind]
    path, rng = folder / name, random.Random(f"{kind} {number}")  # noqa: S311
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for _ in range(IN_A_WORKER):
        original = rng.choice(originals)
        path.write_bytes(original(rng) if callable(original) else mutate(original, rng))
        limit = used + MEMORY + 4 * decoded_size(path)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for function in functions:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(6 * SECONDS)  # if it waits for something
            try:
                function(path)
            except XPNetError as error:
                code, message = error.exit_code, str(error)
            else:
                code, message = 2, "read"
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            assert (code, bool(message)) == (2, True)


def read_in_a_worker(kind, number, folder):
    """Read damaged files in a process of its own; return its exit code."""
    with warnings.catch_warnings(action="ignore"):  # of threads of other tests
        pid = os.fork()
    if pid == 0:
        try:
            warnings.simplefilter("ignore")
            read_damaged(kind, number, folder)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the other process reports it
            (folder / "traceback").write_text(traceback.format_exc())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused_within_limits(tmp_path, kind):
    for number in range(INPUTS // IN_A_WORKER):
        code, note = read_in_a_worker(kind, number, tmp_path), tmp_path / "traceback"
        reason = note.read_text() if note.exists() else f"ended with {code}, -27 or -14 is a timeout"
        assert code == 0, f"{tmp_path / KINDS[kind][0]}: {reason}"
