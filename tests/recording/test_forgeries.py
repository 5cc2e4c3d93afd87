"""Records that lie: whatever in an honest record is changed, its verification must not succeed.

Each forgery changes one thing in the folder of an honest run and then writes the digests of the files as they
are, as one would who changes them on purpose. What may be changed is listed with the reason.
"""

import hashlib
import json
import math
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from recorded_runs import PLAIN, digest_record, seal, train_and_press, weighted_arrays
from safetensors import safe_open

import xpnet
from xpnet.config import TrainConfig
from xpnet.errors import XPNetError
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import encode_tensors

MINE, TABLE, STOPPED, STARTED, MORE, WEIGHTED = RUNS = (
    *("runs/mine", "runs/table", "runs/stopped", "runs/started", "runs/more", "runs/weighted"),
)
"""Runs with most features, of a CSV file, interrupted, from a model, extended, with weights from Python."""
STATEMENT = "says when, where and by what a training was computed, which its results do not depend on"
RENAMED = "folders and files may be renamed and copied"
OUTPUT = "chooses what is printed and written, not what is computed"
NO_LIE = {
    r"id|config\.(init_from|name|out)": RENAMED,
    r"started|ended|command.*|device_(requested|used|reason)|backend|segments.*|metrics\.seconds": STATEMENT,
    r"python|platform|versions.*|(working_folder|xpnet)_commit.*": STATEMENT,
    r"config\.(device|backend|workers|require_device|dtype)": STATEMENT,
    r"config\.(overwrite|resume_or_start|tags|report|track|quiet|debug)": OUTPUT,
    r"config\.(checkpoint_seconds|keep_checkpoint_every)": OUTPUT,
}
"""Keys of a record whose changes are no lie about the results, and the reason."""


def is_verified(run):
    try:
        return bool(xpnet.verify(run, **(weighted_arrays() if run == WEIGHTED else {})))
    except XPNetError:
        return False


@pytest.fixture(autouse=True)
def folder(recorded, tmp_path, monkeypatch):
    """A copy of the recorded runs, in the current folder."""
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "copy"))


@pytest.mark.parametrize("run", RUNS)
def test_the_honest_runs_are_verified(run):
    assert is_verified(run)


# Every key and setting of the record


def leaves(values, path=()):
    """The path of each value in a JSON object, those of lists of objects included."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        nested = isinstance(value, dict) or (isinstance(value, list) and any(map(is_object, value)))
        yield from leaves(value, (*path, key)) if nested else [(*path, key)]


def is_object(value):
    return isinstance(value, dict)


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, 2.0)
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])] if value else ["x"]
    if value is None:
        return "x"
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def verified_after(run, changes):
    """The names of those changes of a record after which it is still verified; a change is of its content."""
    path, verified = Path(run) / "run.json", set()
    text = path.read_text()
    for name, change in changes:
        record = json.loads(text)
        change(record)
        path.write_text(json.dumps(record))
        seal(Path(run))
        if is_verified(run):
            verified.add(name)
    path.write_text(text)
    return verified


def parent_of(record, path):
    for key in path[:-1]:
        record = record[key]
    return record


def without_reason(names):
    return {name for name in names if not any(re.fullmatch(pattern, name) for pattern in NO_LIE)}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", ["changed", "removed", "added"])
def test_no_key_of_a_record_can_lie(run, kind):
    def change(path):
        def apply(record):
            inner = parent_of(record, path)
            if kind == "changed":
                inner[path[-1]] = changed(inner[path[-1]])
            elif kind == "removed":
                del inner[path[-1]]
            elif isinstance(inner, dict):
                inner["note"] = 0.999

        return apply

    record = json.loads((Path(run) / "run.json").read_text())
    paths = [path for path in leaves(record) if path[0] not in ("digests", "config")]
    if kind == "removed":  # null and a missing key are the same
        paths = [path for path in paths if parent_of(record, path)[path[-1]] is not None]
    names = {".".join(map(str, path)): change(path) for path in paths}
    assert len(names) > 30
    assert without_reason(verified_after(run, names.items())) == set()


SETTING = {
    "data": "elsewhere.npz",
    "test_data": "small.npz",
    "test_split": 0.1,
    "validation": 41,
    "normalize": "standardize",
    "augment_shift": 0.5,
    "augment_rotate": 9.5,
    "augment_scale": 0.1,
    "augment_shear": 0.1,
    "augment_elastic_alpha": 6.5,
    "augment_elastic_sigma": 3.0,
    "augment_thickness": 0.1,
    "augment_fade_epochs": 1,
    "hidden": [7, 6],
    "activation": "leaky-relu",
    "batch_norm": False,
    "dropout": 0.2001,
    "input_dropout": 0.1001,
    "input_noise": 0.1,
    "init": "glorot",
    "init_from": "start.safetensors",
    "epochs": 7,
    "batch_size": 31,
    "loss": "squared-error",
    "label_smoothing": 0.11,
    "class_weight": "balanced",
    "patience": 1,
    "average_epochs": 2,
    "seed": 6,
    "repeats": 2,
    "optimizer": "adamw",
    "momentum": 0.5,
    "learning_rate": math.nextafter(0.01, 1.0),
    "schedule": "constant",
    "schedule_step_epochs": 2,
    "schedule_factor": 0.2,
    "warmup_epochs": 2,
    "weight_decay": math.nextafter(0.001, 1.0),
    "clip_norm": 0.01,
    "max_norm": 0.5,
    "arithmetic": "native",
    "dtype": "float64",
    "device": "cuda",
    "backend": "jax",
    "workers": 7,
    "jobs": 2,
    "require_device": True,
    "log_every": 3,
    "checkpoint_seconds": 5.0,
    "keep_checkpoint_every": 1,
    "resume": "runs/mine",
    "extend": "runs/plain",
    "out": "elsewhere",
    "name": "best",
    "overwrite": True,
    "resume_or_start": True,
    "tags": ["best"],
    "report": True,
    "track": ["wandb"],
    "quiet": False,
    "debug": True,
}
"""Another value of each setting of runs/mine but for those of CSV files."""
OF_TABLES = {"test_split": 0.25, "label": "x0", "missing": "mean", "columns": "0.1.0"}


@pytest.mark.slow
def test_no_setting_can_lie():
    assert {*SETTING, *OF_TABLES} == {field.name for field in fields(TrainConfig)}

    def change(name, value):
        return lambda record: record["config"].update({name: value})

    shutil.copy("small.npz", "elsewhere.npz")
    changes = {f"config.{name}": change(name, value) for name, value in SETTING.items()}
    changes["several rates"] = change("learning_rate", [0.01, 0.02])
    changes["seed alone"] = lambda record: record.update(seed=6)
    changes["neither specification nor arithmetic"] = lambda record: record.update(specification_version=None)
    verified = verified_after(MINE, changes.items())
    assert without_reason(verified) == set()
    assert {"config.tags", "config.name", "config.keep_checkpoint_every"} <= verified
    tables = {f"config.{name}": change(name, value) for name, value in OF_TABLES.items()}
    assert verified_after(TABLE, tables.items()) <= {
        "config.missing",
        "config.columns",
    }  # which change no cell


# JSON in which other readers see something else: no digest needs to be rewritten


def replaced(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TWICE = {
    "an accuracy": ("run.json", '"metrics": {', '"metrics": {"test_accuracy": 0.999,'),
    "a setting": ("run.json", '"config": {', '"config": {"learning_rate": 0.5,'),
    "a fingerprint": ("run.json", "{", '{"fingerprint": "00",'),
    "an escaped key": ("run.json", "{", '{"\\u0066ingerprint": "00",'),
    "data": ("run.json", '"data": {', '"data": {"name": "mnist",'),
    "not a number": ("run.json", '"error": null', '"error": NaN'),
    "infinity": ("run.json", '"error": null', '"error": -Infinity'),
    "a large number": ("run.json", '"parent": null', '"parent": 1e999'),
    "a larger number": ("run.json", '"parent": null', f'"parent": 1{"0" * 400}'),
    "a row's accuracy": ("metrics.jsonl", '{"epoch": 2', '{"train_accuracy": 0.999, "epoch": 2'),
    "a row's epoch": ("metrics.jsonl", '{"epoch": 2', '{"epoch": 9, "epoch": 2'),
    "a row's seconds": ("metrics.jsonl", '"seconds": ', '"seconds": NaN, "seconds": '),
}


@pytest.mark.parametrize("name", TWICE)
def test_json_that_says_two_things_is_not_verified(name):
    file, old, new = TWICE[name]
    run = Path(MINE)
    digests = json.loads((run / "run.json").read_text())["digests"]
    replaced(run / file, old, new)
    if file == "metrics.jsonl":
        content = (run / file).read_bytes()
        replaced(run / "run.json", digests[file], hashlib.sha256(content).hexdigest())
        record = json.loads((run / "run.json").read_text())
        replaced(run / "run.json", digests["run.json"], digest_record(record))
    assert not is_verified(str(run))


# Steps, checkpoints and files that the training does not have


def train_a_step_more(run):
    """Replace model and checkpoint by those of a step more, as if it belonged to the last epoch."""
    train_and_press([*PLAIN, "--epochs", "4", "--name", "further"], 3, 1)
    record = {**json.loads(Path("runs/further/run.json").read_text()), "status": "completed"}
    record["config"] |= {"epochs": 3, "name": run.name}
    (run / "run.json").write_text(json.dumps(record))
    for name in ("metrics.jsonl", "model.safetensors", "checkpoint.safetensors"):
        shutil.copy(Path("runs/further", name), run / name)


def change_model(**changes):
    def change(run):
        path = run / "model.safetensors"
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata()
        for name, value in changes.items():
            (metadata if isinstance(value, str) else arrays)[name.replace("__", ".")] = value
        path.write_bytes(encode_tensors(arrays, metadata))

    return change


def change_facts(**changes):
    def change(run):
        path = run / "checkpoint.safetensors"
        arrays, facts = load_checkpoint(path)
        path.write_bytes(encode_checkpoint(arrays, {**facts, **changes}, 1))

    return change


def insert_header(name, old, new):
    """Change the text of a file's header, and its length."""

    def change(run):
        content = (run / name).read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + length].replace(old, new, 1)
        assert len(header) > length
        header += b" " * (-len(header) % 8)
        (run / name).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])

    return change


def copy_checkpoint(name, source="checkpoint.safetensors"):
    return lambda run: shutil.copy(run / source, run / name)


def append(text):
    def change(run):
        path = run / "metrics.jsonl"
        path.write_bytes(path.read_bytes() + text)

    return change


def native(run):
    record = json.loads((run / "run.json").read_text())
    record["config"] |= {"arithmetic": "native", "dtype": "float64"}
    (run / "run.json").write_text(json.dumps(record))


FILES = {
    "a step after the last epoch": (train_a_step_more, "runs/plain"),
    "native arithmetic with a specification": (native, "runs/plain"),
    "a checkpoint after the last epoch": (copy_checkpoint("checkpoint-8.safetensors"), MINE),
    "a checkpoint of noise after the last epoch": (
        lambda run: (run / "checkpoint-9.safetensors").write_bytes(b"anything"),
        MINE,
    ),
    "a checkpoint before the first epoch": (copy_checkpoint("checkpoint-0.safetensors"), MINE),
    "a checkpoint of another epoch": (copy_checkpoint("checkpoint-3.safetensors"), MINE),
    "a checkpoint before the extension": (copy_checkpoint("checkpoint-2.safetensors"), MORE),
    "a checkpoint with a number that begins with 0": (
        copy_checkpoint("checkpoint-02.safetensors", "checkpoint-2.safetensors"),
        MINE,
    ),
    "a checkpoint with a name instead of a number": (copy_checkpoint("checkpoint-best.safetensors"), MINE),
    "a second last checkpoint": (copy_checkpoint("checkpoint.safetensors.bak"), MINE),
    "a tensor in the model": (change_model(norms__0__num_batches_tracked=np.int64(7)), MINE),
    "metadata in the model": (change_model(accuracy="0.999"), MINE),
    "another specification in the model": (change_model(specification="7"), MINE),
    "metadata twice in the model": (
        insert_header("model.safetensors", b'"__metadata__":{', b'"__metadata__":{"classes":"9",'),
        MINE,
    ),
    "metadata in a checkpoint": (
        insert_header("checkpoint.safetensors", b'"__metadata__":{', b'"__metadata__":{"best":"0.999",'),
        MINE,
    ),
    "a fact in a checkpoint": (change_facts(accuracy=0.999), MINE),
    "the rows of a checkpoint": (change_facts(rows=3), MINE),
    "the steps of a checkpoint": (change_facts(batch=1), MINE),
    "the epochs of a checkpoint": (change_facts(epoch=5), MINE),
    "the best of a checkpoint": (change_facts(best=[1, 0.9, 0.1]), MINE),
    "the steps of an interrupted run": (change_facts(batch=1), STOPPED),
    "more steps of an interrupted run": (change_facts(batch=3), STOPPED),
    "an unfinished line": (append(b'{"epoch": 7, "train_accuracy": 0.999'), MINE),
    "an unfinished line that is complete": (append(b'{"epoch": 7}'), MINE),
    "a row more": (append(b'{"epoch": 7}\n'), MINE),
    "an empty row": (append(b"\n"), MINE),
    "another start": (lambda run: shutil.copy("runs/more/model.safetensors", "start.safetensors"), STARTED),
    "another state of the parent": (
        lambda run: shutil.copy("runs/more/checkpoint.safetensors", "runs/plain/checkpoint.safetensors"),
        MORE,
    ),
    "another parent": (lambda run: shutil.copytree("runs/table", "runs/plain", dirs_exist_ok=True), MORE),
}
"""Changes of files, each with the run that it is made in."""


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_a_run_can_lie(name):
    change, run = FILES[name]
    change(Path(run))
    seal(Path(run))
    assert not is_verified(run)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_no_bit_of_a_model_or_checkpoint_can_lie(run):
    for path in sorted(Path(run).glob("*.safetensors")):
        content = path.read_bytes()
        for position in (9, len(content) // 2, len(content) - 3):
            changed_bytes = bytearray(content)
            changed_bytes[position] ^= 1
            path.write_bytes(changed_bytes)
            seal(Path(run))
            assert not is_verified(run), (path, position)
        path.write_bytes(content)


def test_digests_that_are_removed_or_of_no_file_are_found():
    path = Path(MINE, "run.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "digests": None}))
    assert xpnet.verify(MINE).difference == "run.json: digests: are missing"
    record["digests"]["checkpoint-99.safetensors"] = "0" * 64
    record["digests"]["run.json"] = digest_record(record)
    path.write_text(json.dumps(record))
    assert xpnet.verify(MINE).difference == "checkpoint-99.safetensors: is no file of this training"


def test_a_record_of_today_does_not_pass_for_an_older_one():
    path = Path(MINE, "run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(xpnet.DataError, match="segments: expected none in a record of schema version 2"):
        xpnet.verify(MINE)


def test_the_steps_of_an_interrupted_epoch_are_named(capsys):
    from xpnet.__main__ import main

    assert main(["verify", STOPPED, "--quiet"]) == 0
    assert main(["verify", STOPPED]) == 0
    line = "epochs 1 to 2 and 2 steps of epoch 3, model and metrics are the same bits\n"
    assert capsys.readouterr().out.endswith(f"verified      {STOPPED}: {line}")


def test_a_callback_that_stops_within_an_epoch_leaves_an_interrupted_run():
    class Stop(xpnet.Callback):
        def on_step_end(self, state):
            if state.batch == 2:
                self.stop = "enough"

    xpnet.fit(**weighted_arrays(), epochs=3, batch_size=50, run=WEIGHTED, overwrite=True, callbacks=[Stop()])
    record = json.loads(Path(WEIGHTED, "run.json").read_text())
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 0)
    assert is_verified(WEIGHTED)
