"""Small recorded trainings, and the digests of changed records."""

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
from ctrl_c import handled_by
from hooks import OnStep, calling
from networks import image_data

import xpnet
from xpnet import train
from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.record import digest_record

SETTINGS = """--data small.npz --hidden 7 5 --batch-norm --dropout 0.2 --input-dropout 0.1 --batch-size 32
--init he --optimizer adam --lr 0.01 --schedule cosine --warmup-epochs 1 --weight-decay 0.001 --clip-norm 5
--max-norm 3 --label-smoothing 0.1 --validation 40 --patience 9 --augment-rotate 9 --augment-elastic-alpha 6
--seed 5""".split()  # noqa: SIM905 - as typed
"""Most features, for runs on ``image_data``."""
KEPT = ["--log-every", "2", "--keep-checkpoint-every", "2"]
PLAIN = ["--data", "small.npz", "--hidden", "6", "--batch-size", "60", "--epochs", "3"]
QUIET = ["--quiet", "--no-report", "--out", "runs"]


def seal(folder, **absent):
    """Write the digests of the files as they are now, as one would who changes them on purpose.

    Those of absent files are added. A record of schema version 1 or 2 has none.
    """
    digests = {path.name: digest_file(path) for path in RunFolder(folder).files} | absent
    record = {**json.loads((folder / "run.json").read_text()), "digests": digests}
    if record.get("schema_version") in (1, 2):
        return
    digests["run.json"] = digest_record(record)
    (folder / "run.json").write_text(json.dumps(record))


def weighted_arrays(data=None):
    data = data or image_data()
    return {"X": data.x_train, "y": data.y_train, "sample_weight": np.linspace(0, 1, len(data.y_train))}


def train_and_press(words, epoch, batch):
    def press(state):
        if (state.epoch, state.batch) == (epoch, batch):
            signal.raise_signal(signal.SIGINT)

    with calling(OnStep(press)), handled_by(signal.default_int_handler):
        assert train.main([*words, *QUIET]) == 130


def train_all(data=None, plain=PLAIN, mine=(*SETTINGS, "--epochs", "6", *KEPT)):
    """Write data and runs into the current folder.

    runs/mine has most features, and kept checkpoints; runs/table is of a CSV file, runs/plain of few;
    runs/started begins with its model, and runs/more extends it; runs/weighted is from Python, with weights;
    runs/stopped was interrupted within an epoch.
    """
    data = data or image_data()
    names = "x_train", "y_train", "x_test", "y_test"
    np.savez("small.npz", **{name: getattr(data, name) for name in names})
    with Path("small.csv").open("w") as file:
        rows = [["label", *(f"x{i}" for i in range(36))]]
        rows += [["abcd"[y], *x] for x, y in zip(data.x_train.tolist(), data.y_train, strict=True)]
        csv.writer(file).writerows(rows)

    def run(name, *words):
        assert train.main([*words, *QUIET, "--name", name]) == 0

    run("mine", *mine)
    run("table", *plain[2:], "--data", "small.csv", "--test-split", "0.2", "--label", "label")
    run("plain", *plain)
    shutil.copy("runs/plain/model.safetensors", "start.safetensors")
    run("started", *plain, "--init-from", "start.safetensors")
    run("more", "--extend", "runs/plain", "--epochs", "2", "--keep-checkpoint-every", "1")
    settings = {"epochs": 3, "hidden": 6, "batch_size": 30, "report": False}
    xpnet.fit(**weighted_arrays(data), **settings, run="runs/weighted")
    train_and_press([*plain, "--epochs", "9", *KEPT[2:], "--name", "stopped"], 2, 2)
