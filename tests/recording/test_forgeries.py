"""Records that lie: whatever in an honest record is changed, its verification must not succeed.

Each forgery changes one thing in the folder of an honest run and then writes the digests of the files as they
are, as one would who changes them on purpose. What may be changed is listed with the reason.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import printed
from folders import change_record
from forgeries import OF_ARRAYS, OF_FILES, forgeries, judge, make_runs, python_verdict
from recorded_runs import PLAIN, digest_record, seal, train_and_press, weighted_arrays
from safetensors import safe_open

import xpnet
from xpnet.errors import XPNetError
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import encode_tensors

RUNS = [f"runs/{name}" for name in ("mine", "plain", "table", "stopped", "started", "more", "weighted")]
MINE, PLAIN_RUN, TABLE, STOPPED, STARTED, MORE, WEIGHTED = RUNS
"""Runs with most features, with few, of a CSV file, interrupted, from a model, extended, weighted."""
LAST = "checkpoint.safetensors"


def find_believed(monkeypatch, **kind):
    """The lies of the list that are verified without a word."""
    monkeypatch.setenv("XPNET_COMPILE", "0")
    make_runs()
    for name in (*OF_FILES, *OF_ARRAYS):
        assert python_verdict(Path("runs", name))[0] == "same"
    listed = forgeries(**kind)
    assert len({forgery.name for forgery in listed}) == len(listed)
    assert sum(not forgery.no_lie for forgery in listed) >= 140
    verdicts = judge(listed)
    return {
        each.name: verdicts[each.name]
        for each in listed
        if not each.no_lie and verdicts[each.name][0] == "same"
    }


@pytest.mark.slow
def test_no_forgery_is_verified_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_believed(monkeypatch, generated=False) == {}


@pytest.mark.slow
@pytest.mark.nightly
def test_no_key_of_any_record_can_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_believed(monkeypatch) == {}


@pytest.fixture
def folder(recorded, tmp_path, monkeypatch):
    """A copy of the recorded runs, in the current folder."""
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "copy"))


def record_of(run):
    return json.loads(Path(run, "run.json").read_text())


def write_record(run, record):
    Path(run, "run.json").write_text(json.dumps(record))


def train_a_step_more(run):
    """Replace model and checkpoint by those of a step more, as if it belonged to the last epoch."""
    train_and_press([*PLAIN, "--epochs", "4", "--name", "further"], 3, 1)
    record = {**record_of("runs/further"), "status": "completed"}
    record["config"] |= {"epochs": 3, "name": run.name}
    write_record(run, record)
    for name in ("metrics.jsonl", "model.safetensors", LAST):
        shutil.copy(Path("runs/further", name), run / name)


def change_part(part, **changes):
    """A change of values of an object in the record."""
    return lambda run: change_record(run, **{part: {**record_of(run)[part], **changes}})


def change_model(arrays, **metadata):
    def change(run):
        path = run / "model.safetensors"
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            path.write_bytes(encode_tensors(tensors | arrays, file.metadata() | metadata))

    return change


def change_checkpoint(change=lambda _: {}, name=LAST, **facts):
    def change_file(run):
        arrays, old = load_checkpoint(run / name)
        (run / name).write_bytes(encode_checkpoint(arrays | change(arrays), old | facts, 1))

    return change_file


def insert_metadata(run):
    """Add an entry to the metadata in a file's header, beside one of that key."""
    path, start = run / "model.safetensors", b'"__metadata__":{'
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(start, start + b'"classes":"9",', 1)
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def replace_start(run):
    shutil.copy(run / "model.safetensors", "start.safetensors")


def copy_checkpoint(name):
    return lambda run: shutil.copy(run / LAST, run / name)


def change_lines(change):
    """A change of the lines of the history, those of epochs 0 to 3."""

    def change_file(run):
        path = run / "metrics.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return change_file


def change_row(**changes):
    """A change of the row of epoch 2."""
    return change_lines(lambda rows: [*rows[:2], json.dumps(json.loads(rows[2]) | changes) + "\n", rows[3]])


HEADER = "model.safetensors: has a header that no training writes, with other metadata or tensors"
KEPT, BETA = "checkpoint-4.safetensors", "state.2.m.3.beta"
NO_FILE = "is no file of this training"
PARENT = "runs/plain: is not the run that runs/more extends: expected the"
ROW = '{"epoch": 4}'
DIFFERENCES = {
    PLAIN_RUN: [
        ("run.json: fingerprint: recorded", lambda run: change_record(run, fingerprint="0" * 64)),
        ("run.json: seed: recorded 4 and config.seed 0", lambda run: change_record(run, seed=4)),
        ("run.json: config.best_by: recorded 'loss', expected 'acc", change_part("config", best_by="loss")),
        ("run.json: metrics.test_loss: recorded 1.0 ", change_part("metrics", test_loss=1.0)),
        ("run.json: metrics.note: recorded 0.999 ", change_part("metrics", note=0.999)),
        ("epoch 1: ", change_part("config", clip_norm=0.01)),
        ("training diverged: the loss is not finite in ", change_part("config", learning_rate=1e300)),
        ("runs/plain: was trained in native ", change_part("config", arithmetic="native", dtype="float64")),
        ("epoch 2: train_loss: recorded 0.5 (0x1.0000000000000p-1), ", change_row(train_loss=0.5)),
        ("epoch 2: learning_rate: recorded 0.5 ", change_row(learning_rate=0.5)),
        ("metrics.jsonl: expected a row of epoch 2", change_lines(lambda rows: rows[:2] + rows[3:])),
        ("metrics.jsonl: has a row of epoch 4, which ", change_lines(lambda rows: [*rows, ROW, "\n"])),
        ("runs/plain/metrics.jsonl, line 5: expected a line ", change_lines(lambda rows: [*rows, ROW])),
        (f"{LAST}: has 1 steps after the last epoch of a completed training", train_a_step_more),
        (f"{LAST}: has 1 steps after the last epoch", change_checkpoint(batch=1)),
        (f"{LAST}: rows: recorded 3, computed 4", change_checkpoint(rows=3)),
        (f"{LAST}: accuracy: recorded 0.999 ", change_checkpoint(accuracy=0.999)),
        (f"{LAST}: state.9: is not expected", change_checkpoint(lambda _: {"state.9": np.zeros(2)})),
        (f"runs/plain/{LAST}: not a checkpoint of a training", change_checkpoint(epoch=2)),
        (HEADER, change_model({}, accuracy="0.999")),
        (HEADER, insert_metadata),
    ],
    MINE: [
        ("runs/mine/run.json: segments: expected none", lambda run: change_record(run, schema_version=2)),
        (f"checkpoint-8.safetensors: {NO_FILE}", copy_checkpoint("checkpoint-8.safetensors")),
        (f"checkpoint-02.safetensors: {NO_FILE}", copy_checkpoint("checkpoint-02.safetensors")),
        ("checkpoint-3.safetensors: parameters.0.weight", copy_checkpoint("checkpoint-3.safetensors")),
        (f"{LAST}: best: recorded [1, 0.9, 0.1], computed ", change_checkpoint(best=[1, 0.9, 0.1])),
        (
            f"{KEPT}: optimizer.m.3.beta",
            change_checkpoint(lambda arrays: {BETA: np.nextafter(arrays[BETA], 9)}, KEPT),
        ),
        (HEADER, change_model({"norms.0.num_batches_tracked": np.int64(7)})),
    ],
    STOPPED: [("model.safetensors: layers.0.weight[1, 0]: recorded", change_checkpoint(batch=1))],
    STARTED: [("runs/started: started from another model", replace_start)],
    MORE: [
        (f"checkpoint-2.safetensors: {NO_FILE}", copy_checkpoint("checkpoint-2.safetensors")),
        (f"{PARENT} epochs 3", lambda run: shutil.copy(run / LAST, PLAIN_RUN)),
        (f"{PARENT} fingerprint ", lambda _: shutil.copytree(TABLE, PLAIN_RUN, dirs_exist_ok=True)),
    ],
}
"""The start of the difference or the error, and what is changed in the folder of each run."""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("run", "message", "change"), [(run, *row) for run, rows in DIFFERENCES.items() for row in rows]
)
def test_what_differs_is_named_with_its_place_whatever_the_digests(run, message, change):
    change(Path(run))
    seal(Path(run))
    try:
        difference = xpnet.verify(run).difference
    except XPNetError as error:
        difference = str(error)
    assert difference.startswith(message)


@pytest.mark.usefixtures("folder")
def test_digests_that_are_removed_or_of_no_file_are_found():
    record = record_of(MINE)
    write_record(MINE, {**record, "digests": None})
    assert xpnet.verify(MINE).difference == "run.json: digests: are missing"
    record["digests"]["checkpoint-99.safetensors"] = "0" * 64
    record["digests"]["run.json"] = digest_record(record)
    write_record(MINE, record)
    assert xpnet.verify(MINE).difference == "checkpoint-99.safetensors: is no file of this training"


@pytest.mark.usefixtures("folder")
def test_the_steps_of_an_interrupted_epoch_are_named(capsys):
    line = "epochs 1 to 2 and 2 steps of epoch 3, model and metrics are the same bits\n"
    assert printed(capsys, "verify", STOPPED).endswith(f"verified      {STOPPED}: {line}")


@pytest.mark.usefixtures("folder")
def test_a_callback_that_stops_within_an_epoch_leaves_an_interrupted_run():
    class Stop(xpnet.Callback):
        def on_step_end(self, state):
            if state.batch == 2:
                self.stop = "enough"

    xpnet.fit(**weighted_arrays(), epochs=3, batch_size=50, run=WEIGHTED, overwrite=True, callbacks=[Stop()])
    record = record_of(WEIGHTED)
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 0)
    assert xpnet.verify(WEIGHTED, **weighted_arrays())
