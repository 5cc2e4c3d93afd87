"""Forged records: honest runs, and a list of changes to them, each a lie or marked with why it is none.

``forgeries`` lists them: changes by hand, and each key of a record changed, removed or of another type.
Both verifiers are given the same folders.
"""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from recorded_runs import seal, train_and_press
from safetensors import safe_open

import xpnet
from xpnet import train
from xpnet.config.settings import BOOKKEEPING
from xpnet.recording.recorded_run import RecordedRun
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import encode_model, encode_tensors, load_model
from xpnet.storage.schemas import list_keys

LAST, MODEL, ROWS = "checkpoint.safetensors", "model.safetensors", "metrics.jsonl"
OF_FILES = ("plain", "mine", "table", "started", "more", "stopped")
OF_ARRAYS = ("weighted", "valid", "called")
OF_PAGE = ("plain", "mine")
"""Runs that the page in the browser takes; those of ``xpnet.fit`` need their arrays."""
ROLES = ("x_train", "y_train", "x_test", "y_test")
QUIET = ["--quiet", "--no-report", "--out", "runs"]
SMALL = ["--hidden", "3", "--batch-size", "20", "--epochs", "3"]


def make_arrays():
    draw = np.random.default_rng(5)
    sizes = {"train": 40, "test": 20}
    arrays = {f"x_{part}": draw.integers(0, 256, (size, 9), dtype=np.uint8) for part, size in sizes.items()}
    return arrays | {f"y_{part}": draw.integers(0, 3, size) for part, size in sizes.items()}


def fit_arguments(name):
    """The arguments with which ``fit`` made a run of arrays, and ``verify`` takes it."""
    data = make_arrays()
    arguments = {"X": data["x_train"], "y": data["y_train"]}
    if name == "weighted":
        arguments["sample_weight"] = np.linspace(0, 1, 40)
    return arguments | ({"validation_data": (data["x_test"], data["y_test"])} if name == "valid" else {})


def make_runs():
    """Write data and honest runs into the current folder."""
    data = make_arrays()
    Path("small").mkdir()
    for role in ROLES:
        np.save(f"small/{role}.npy", data[role])
    rows = [["label", *(f"x{i}" for i in range(9))]]
    rows += [["abc"[y], *x] for x, y in zip(data["x_train"].tolist(), data["y_train"], strict=True)]
    Path("small.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))

    def run(name, *words):
        assert train.main([*words, *QUIET, "--name", name]) == 0

    plain = ["--data", "small", *SMALL]
    run("plain", *plain)
    mine = "--epochs 4 --log-every 2 --keep-checkpoint-every 2 --optimizer adam --lr 0.01 --batch-norm"
    run("mine", *plain, *f"{mine} --validation 10 --patience 4 --dropout 0.2".split())
    run("table", "--data", "small.csv", *SMALL, "--test-split", "0.2", "--label", "label")
    shutil.copy("runs/plain/model.safetensors", "start.safetensors")
    run("started", *plain, "--init-from", "start.safetensors")
    run("more", "--extend", "runs/plain", "--epochs", "2", "--keep-checkpoint-every", "1")
    train_and_press([*plain, "--epochs", "9", "--keep-checkpoint-every", "2", "--name", "stopped"], 2, 1)
    settings = {"epochs": 5, "hidden": 3, "batch_size": 20, "report": False}
    xpnet.fit(**fit_arguments("weighted"), **settings, run="runs/weighted")
    xpnet.fit(**fit_arguments("valid"), **settings, patience=2, run="runs/valid")
    end = {"callback": lambda epoch: epoch.epoch == 2}
    xpnet.fit(**fit_arguments("called"), **settings, **end, run="runs/called")


class Forgery(NamedTuple):
    """A change of the folder of a run.

    Attributes
    ----------
    name, run
        The name of the change, and that of the run.
    change
        Changes the copy of the folder; the digests are written anew afterwards, unless it says so.
    no_lie
        Why the change is no lie; empty for one.
    sealed
        True if the digests are written anew.
    absent
        A file that is not there, of which the record gets a digest.
    """

    name: str
    run: str
    change: Callable[[Path], object]
    no_lie: str = ""
    sealed: bool = True
    absent: str | None = None

    def make(self, folder):
        """Change a copy of the run in a folder of runs."""
        run = folder / self.run
        self.change(run)
        if self.sealed:
            seal(run, **({} if self.absent is None else {self.absent: "ab" * 32}))


# Changes


def of_record(change):
    """A change of the content of run.json."""

    def change_file(run):
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return change_file


def put(path, *values):
    """Set the value at a path of keys, such as config.epochs; without a value, remove the key."""
    *outer, last = (int(key) if key.isdecimal() else key for key in re.split(r"\.", path))

    def change(record):
        for key in outer:
            record = record[key]
        if values:
            record[last] = values[0]
        else:
            del record[last]

    return of_record(change)


def edit(name, old, new, count=1):
    """Replace text in a file."""

    def change(run):
        content = (run / name).read_bytes()
        assert old.encode() in content, old
        (run / name).write_bytes(content.replace(old.encode(), new.encode(), count))

    return change


def encode_as(name, encoding):
    return lambda run: (run / name).write_bytes((run / name).read_text().encode(encoding))


def row(change, number=1):
    """A change of a row of the history."""

    def change_file(run):
        rows = [json.loads(line) for line in (run / ROWS).read_text().splitlines()]
        change(rows[number])
        (run / ROWS).write_text("".join(json.dumps(each) + "\n" for each in rows))

    return change_file


def lines(change):
    def change_file(run):
        texts = (run / ROWS).read_text().splitlines(keepends=True)
        (run / ROWS).write_text("".join(change(texts)))

    return change_file


def model(change_tensors=lambda _: {}, **metadata):
    def change(run):
        with safe_open(run / MODEL, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            old = file.metadata()
        (run / MODEL).write_bytes(encode_tensors(tensors | change_tensors(tensors), old | metadata))

    return change


def checkpoint(change=lambda _: {}, name=LAST, version=2, drop=(), **facts):
    def change_file(run):
        arrays, old = load_checkpoint(run / name)
        arrays = {key: array for key, array in (arrays | change(arrays)).items() if key not in drop}
        (run / name).write_bytes(encode_checkpoint(arrays, old | facts, 1, version))

    return change_file


def both(*changes):
    return lambda run: [change(run) for change in changes]


def downgrade(version, **changes):
    """A record of an earlier schema version, with the keys that it had."""

    def change(record):
        settings, parent = list_keys(version, "settings"), record["parent"]
        record["config"] = {name: record["config"].get(name) for name in settings}
        data = list_keys(version, "data")
        record["data"] = {name: value for name, value in record["data"].items() if name in data}
        record |= {"schema_version": version, "git": None, "resumed": [], **changes}
        if parent is not None:
            record["parent"] = {name: parent[name] for name in list_keys(version, "parent")}
        segment = list_keys(version, "segment")
        record["segments"] = [{name: each[name] for name in segment} for each in record["segments"]]
        for name in record.keys() - {*list_keys(version, "record")}:
            del record[name]

    return of_record(change)


def replace_by_link(run):
    for path in [path for path in run.iterdir() if path.suffix in (".safetensors", ".jsonl")]:
        path.rename(run.parent / f"{run.name}-{path.name}")
        path.symlink_to(Path("..", f"{run.name}-{path.name}"))


def forge_fingerprint_of_parent(run):
    put("parent.fingerprint", "ab" * 32)(run)
    put("fingerprint", "ab" * 32)(run.parent / "plain")
    seal(run.parent / "plain")


def forge_a_chain(run):
    """Go on from a checkpoint that is not the parent's."""
    parent = run.parent / "plain"
    checkpoint(lambda arrays: {"state.0.0.bias": arrays["state.0.0.bias"] + 1})(parent)
    seal(parent)
    words = ["--extend", "runs/plain", "--epochs", "2", "--name", "more", "--overwrite"]
    assert train.main([*words, *QUIET]) == 0


def remove_checkpoint(run):
    (run / LAST).unlink()


def write_more_digits(run):
    """Write a loss with more digits, of which the nearest number is the same."""
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(re.sub(r'("test_loss": [0-9.]+)', r"\g<1>00", text))


def reorder_metadata(run):
    content = (run / MODEL).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    (run / MODEL).write_bytes(content[:8] + text.ljust(end - 8) + content[end:])


def remove_kept(run):
    (run / "checkpoint-2.safetensors").unlink()


def change_weight(tensors):
    return {"layers.0.bias": np.nextafter(tensors["layers.0.bias"], 9)}


def write_earlier_forms(run):
    """Write model and checkpoint as xpnet 0.1 and 0.2 wrote them."""
    (run / MODEL).write_bytes(encode_model(load_model(run / MODEL), 1))
    checkpoint(version=1)(run)


EARLIER = "all that a record of xpnet {} says, which claims less"
SAME_NUMBER = "the same number, written otherwise"
STATEMENT = "a statement: when, where and by what it was computed, which its results do not depend on"
NOT_COMPUTED = "what is printed and written, not what is computed"
NO_EFFECT = "has no effect on this training"
SAME_CELLS = "reads the same cells"
HONEST = "the same content"
OPTIONAL = "claims less: the seconds are a statement"
NEVER_EXHAUSTED = "a patience that was never exhausted has no effect"
AS_A_CALLBACK = "Ctrl-C after the same step leaves the same record as a callback that ends a training"

BY_HAND = [
    # Other types, and the forms of numbers
    Forgery("seed_float", "plain", put("seed", 0.0)),
    Forgery("seed_true", "plain", put("seed", False)),
    Forgery("samples_float", "plain", put("data.training_samples", 40.0)),
    Forgery("test_false", "weighted", put("data.test_samples", False)),
    Forgery("data_classes_text", "plain", put("data.classes", "3")),
    Forgery("spec_float", "plain", put("specification_version", 1.0)),
    Forgery("spec_true", "plain", put("specification_version", True)),
    Forgery("schema_float", "plain", put("schema_version", 4.0)),
    Forgery("epochs_float", "plain", put("metrics.epochs", 3.0)),
    Forgery("loss_as_text", "plain", put("metrics.test_loss", "\u00001.5")),
    Forgery("loss_null", "plain", put("metrics.test_loss", None)),
    Forgery("neg_zero_class", "plain", put("metrics.test_accuracy_per_class.2", -0.0)),
    Forgery("int_class", "plain", put("metrics.test_accuracy_per_class.2", 0)),
    Forgery("test_loss_digits", "plain", write_more_digits, SAME_NUMBER, sealed=False),
    Forgery("hidden_float", "plain", put("config.hidden", [3.0])),
    Forgery("log_every_float", "plain", put("config.log_every", 1.0)),
    Forgery("class_more", "plain", put("metrics.test_accuracy_per_class", [0.5, 0.5, 0.5, 0.5])),
    # The end of a training
    Forgery("completed_to_interrupted", "plain", put("status", "interrupted")),
    Forgery("patience_to_interrupted", "valid", put("status", "interrupted")),
    Forgery("interrupted_to_completed", "stopped", put("status", "completed")),
    Forgery("running", "plain", put("status", "running")),
    Forgery("stopped_more_epochs", "stopped", put("config.epochs", 100000)),
    Forgery("stopped_fewer_epochs", "stopped", put("config.epochs", 2)),
    Forgery("called_interrupted", "called", put("status", "interrupted"), AS_A_CALLBACK),
    Forgery("error", "plain", put("error", "none")),
    Forgery("valid_config_validation", "valid", put("config.validation", 7)),
    Forgery("valid_patience_raised", "valid", put("config.patience", 3), NEVER_EXHAUSTED),
    Forgery("mine_patience_raised", "mine", put("config.patience", 40), NEVER_EXHAUSTED),
    # Settings of CSV files, and contradictions
    Forgery("npy_columns_pixels", "plain", put("config.columns", "pixels")),
    Forgery("npy_missing_mean", "plain", put("config.missing", "mean")),
    Forgery("npy_test_split", "plain", put("config.test_split", 0.3)),
    Forgery("npy_label", "plain", put("config.label", "y")),
    Forgery("table_columns", "table", put("config.columns", "features"), SAME_CELLS),
    Forgery("table_columns_pixels", "table", put("config.columns", "pixels")),
    Forgery("table_missing", "table", put("config.missing", "mean")),
    Forgery("table_label", "table", put("config.label", "1"), SAME_CELLS),
    Forgery("table_label_other", "table", put("config.label", "x0")),
    Forgery("table_test_split", "table", put("config.test_split", 0.25)),
    Forgery("table_seed", "table", put("config.seed", 7)),
    Forgery("table_class_names", "table", put("data.class_names", ["a", "b", "z"])),
    Forgery("table_feature_names", "table", put("data.feature_names", ["z"] * 9)),
    *(
        Forgery(f"{run}_{name}_{value}", run, put(f"config.{name}", value))
        for run in ("plain", "more")
        for name, value in {
            "momentum": 0.5,
            "schedule_factor": 0.5,
            "schedule_step_epochs": 7,
            "patience": 2,
            "augment_elastic_sigma": 3.0,
            "augment_fade_epochs": 2,
            "average_epochs": 100,
            "warmup_epochs": 9,
            "jobs": 2,
            "repeats": 2,
            "seed": 2**64,
        }.items()
    ),
    Forgery("plain_overwrite", "plain", put("config.overwrite", True), NOT_COMPUTED),
    Forgery("overwrite_without_name", "plain", both(put("config.overwrite", True), put("config.name", None))),
    Forgery(
        "batch_norm_without_layers", "plain", both(put("config.hidden", []), put("config.batch_norm", True))
    ),
    Forgery("native_dtype", "plain", put("config.dtype", "float32")),
    Forgery("dtype_named", "plain", put("config.dtype", "float64"), NO_EFFECT),
    Forgery("max_norm", "plain", put("config.max_norm", 1e300), NO_EFFECT),
    Forgery("max_norm_acts", "plain", put("config.max_norm", 0.5)),
    Forgery("name_outside", "plain", put("config.name", "../../../etc/passwd")),
    Forgery("name", "plain", put("config.name", "other"), NOT_COMPUTED),
    Forgery("log_every", "plain", put("config.log_every", 1), NO_EFFECT),
    Forgery("log_every_2", "plain", put("config.log_every", 2)),
    Forgery("workers", "plain", put("config.workers", 99999), STATEMENT),
    Forgery("device", "plain", put("config.device", "cuda:7"), STATEMENT),
    Forgery("backend", "plain", put("config.backend", "torch"), STATEMENT),
    Forgery("backend_unknown", "plain", put("config.backend", "keras")),
    Forgery("tags", "plain", put("config.tags", ["best", "sota"]), NOT_COMPUTED),
    Forgery("tags_text", "plain", put("config.tags", "best")),
    Forgery("keep_every", "plain", put("config.keep_checkpoint_every", 1), NOT_COMPUTED),
    Forgery("resume_or_start", "plain", put("config.resume_or_start", True), NOT_COMPUTED),
    Forgery("resume", "plain", put("config.resume", "runs/plain")),
    Forgery("extend", "plain", put("config.extend", "runs/mine")),
    Forgery("init_from", "plain", put("config.init_from", "start.safetensors")),
    Forgery("data_elsewhere", "plain", put("config.data", "elsewhere")),
    Forgery("learning_rate_list", "plain", put("config.learning_rate", [0.1])),
    Forgery("setting_unknown", "plain", put("config.note", 1)),
    Forgery("two_seeds", "plain", put("seed", 1)),
    # What a record must hold by its schema version
    Forgery("epoch_null_plain", "plain", put("segments.0.epoch", None)),
    Forgery("epoch_5", "plain", put("segments.0.epoch", 5)),
    Forgery(
        "epoch_null_no_init", "started", both(put("segments.0.epoch", None), put("init_from_sha256", None))
    ),
    Forgery(
        "epoch_null_no_parent",
        "more",
        both(put("segments.0.epoch", None), put("parent.checkpoint_sha256", None)),
    ),
    Forgery(
        "epoch_null_no_rows",
        "plain",
        both(put("segments.0.epoch", None), row(lambda each: each.pop("fingerprint")), put("data.classes")),
    ),
    Forgery("downgrade_2_started", "started", downgrade(2)),
    Forgery("downgrade_2_more", "more", downgrade(2)),
    Forgery("downgrade_2_versions", "plain", downgrade(2, versions={"xpnet": "0.2.0"})),
    Forgery("downgrade_1_commit", "plain", downgrade(1, git={"commit": "ab" * 20, "dirty": False})),
    Forgery("downgrade_2_forms", "plain", both(downgrade(2), write_earlier_forms), EARLIER.format("0.2")),
    Forgery("downgrade_3", "plain", downgrade(3), EARLIER.format("0.3")),
    Forgery("schema_3", "plain", put("schema_version", 3)),
    Forgery("schema_5", "plain", put("schema_version", 5)),
    Forgery("git", "plain", put("git", {"commit": "ab" * 20})),
    Forgery("resumed", "plain", put("resumed", [])),
    Forgery("parent_key", "more", put("parent.git", "ab" * 20)),
    Forgery("segment_key", "plain", put("segments.0.note", 1)),
    Forgery("no_weights_sha", "weighted", put("data.weights_sha256")),
    Forgery("source", "plain", put("data.source", "arrays")),
    Forgery("data_name", "plain", put("data.name", "mnist")),
    Forgery("init_sha", "started", put("init_from_sha256", "ab" * 32)),
    # Files
    Forgery("no_digests", "plain", put("digests", None), sealed=False),
    Forgery("digest_of_absent_checkpoint", "plain", remove_checkpoint, absent=LAST),
    Forgery("digest_of_absent_kept", "mine", remove_kept, absent="checkpoint-2.safetensors"),
    Forgery("digest_of_no_checkpoint", "plain", lambda _: None, absent="checkpoint-2.safetensors"),
    Forgery("digest_of_no_file", "plain", lambda _: None, absent="note.txt"),
    Forgery("digest_of_odd_epoch", "mine", lambda _: None, absent="checkpoint-3.safetensors"),
    Forgery("dangling_kept", "mine", lambda run: (run / "checkpoint-3.safetensors").symlink_to("nowhere")),
    Forgery(
        "dangling_last", "plain", both(remove_checkpoint, lambda run: (run / LAST).symlink_to("nowhere"))
    ),
    Forgery("parent_moved", "more", put("parent.run", "elsewhere/plain"), "it is found beside the run"),
    Forgery("parent_fingerprint", "more", forge_fingerprint_of_parent),
    Forgery("chain", "more", forge_a_chain),
    Forgery(
        "case_checkpoint", "plain", lambda run: shutil.copy(run / LAST, run / "Checkpoint-4.safetensors")
    ),
    Forgery("note", "plain", lambda run: (run / "note.txt").write_text("accuracy 0.999")),
    Forgery("checkpoint_9", "plain", lambda run: (run / "checkpoint-9").touch()),
    Forgery(
        "checkpoint_later", "mine", lambda run: shutil.copy(run / LAST, run / "checkpoint-8.safetensors")
    ),
    Forgery("links", "plain", replace_by_link, HONEST),
    Forgery("no_metrics", "plain", lambda run: (run / ROWS).unlink()),
    Forgery("no_model", "plain", lambda run: (run / MODEL).unlink()),
    Forgery("cp_missing_stopped", "stopped", remove_checkpoint),
    Forgery("cp_missing", "plain", remove_checkpoint, "claims less: the record has no digest of it"),
    # The history
    Forgery("row_swap", "plain", lines(lambda rows: [rows[1], rows[0], *rows[2:]])),
    Forgery("row_missing", "plain", lines(lambda rows: rows[:-1])),
    Forgery("row_more", "plain", lines(lambda rows: [*rows, rows[-1].replace('"epoch": 3', '"epoch": 4')])),
    Forgery("row_bom", "plain", encode_as(ROWS, "utf-8-sig")),
    Forgery("row_blank", "plain", lines(lambda rows: [rows[0], "\n", *rows[1:]])),
    Forgery("row_cut", "plain", lines(lambda rows: [*rows[:-1], rows[-1][:-1]])),
    Forgery("row_extra", "plain", row(lambda each: each.update(note=1))),
    Forgery("row_proto", "plain", row(lambda each: each.update({"__proto__": {}}))),
    Forgery("row_null", "plain", row(lambda each: each.update({"note": None}))),
    Forgery("data_null", "plain", put("data.note", None)),
    Forgery("metrics_null", "plain", put("metrics.note", None)),
    Forgery("row_constructor", "plain", row(lambda each: each.update({"constructor": None}))),
    Forgery("row_escape", "plain", edit(ROWS, '"epoch"', '"\\u0065poch"'), HONEST),
    Forgery("row_spaces", "plain", edit(ROWS, '"epoch": ', '"epoch" :  '), HONEST),
    Forgery("row_key_twice", "plain", edit(ROWS, '{"epoch"', '{"\\u0065poch": 0, "epoch"')),
    Forgery("row_seconds_absent", "plain", row(lambda each: each.pop("seconds")), OPTIONAL),
    Forgery("row_seconds", "plain", row(lambda each: each.update(seconds=0.001)), STATEMENT),
    Forgery("row_seconds_text", "plain", row(lambda each: each.update(seconds="1"))),
    Forgery("row_epoch_float", "plain", row(lambda each: each.update(epoch=1.0))),
    Forgery("row_epoch_true", "plain", row(lambda each: each.update(epoch=True))),
    Forgery("row_epoch_large", "plain", edit(ROWS, '"epoch": 1', '"epoch": 1e400')),
    Forgery("row_nan", "plain", edit(ROWS, '"epoch": 1', '"epoch": NaN')),
    Forgery(
        "row_loss", "plain", row(lambda each: each.update(train_loss=math.nextafter(each["train_loss"], 0)))
    ),
    Forgery("row_accuracy", "plain", row(lambda each: each.update(train_accuracy=1))),
    Forgery("row_fingerprint", "mine", row(lambda each: each.update(fingerprint="ab" * 32))),
    # The text of run.json
    Forgery("rec_bom", "plain", encode_as("run.json", "utf-8-sig"), sealed=False),
    Forgery("rec_utf16", "plain", encode_as("run.json", "utf-16"), sealed=False),
    Forgery(
        "rec_key_twice", "plain", edit("run.json", '"metrics": ', '"metrics": {}, "metrics": '), sealed=False
    ),
    Forgery(
        "rec_infinity", "plain", edit("run.json", '"metrics": ', '"metrics": 1e999, "a": '), sealed=False
    ),
    Forgery("rec_not_sealed", "plain", put("metrics.test_loss", 1.0), sealed=False),
    Forgery("proto", "plain", put("metrics.__proto__", {})),
    Forgery("proto_record", "plain", put("__proto__", {})),
    Forgery("proto_data", "plain", put("data.__proto__", {})),
    Forgery("proto_settings", "plain", put("config.__proto__", {})),
    # The model
    Forgery("model_bits", "plain", model(change_weight)),
    Forgery("model_all", "plain", both(model(change_weight), put("fingerprint", "ab" * 32))),
    Forgery(
        "model_shift", "plain", model(lambda old: {"normalization.shift": -old["normalization.shift"] - 0.0})
    ),
    Forgery("model_order", "plain", reorder_metadata),
    Forgery(
        "model_tensor_twice", "plain", edit(MODEL, '"layers.0.bias":', '"layers.0.bias":{},"layers.0.bias":')
    ),
    Forgery("model_note", "plain", model(note="0.999")),
    Forgery("model_extra", "plain", model(lambda _: {"layers.9.bias": np.zeros(3)})),
    Forgery(
        "model_f32", "plain", model(lambda old: {"layers.0.bias": old["layers.0.bias"].astype(np.float32)})
    ),
    Forgery("model_header", "plain", edit(MODEL, '"scale"', '"none" ')),
    Forgery("fingerprint_null", "plain", put("fingerprint", None)),
    Forgery("fingerprint", "plain", put("fingerprint", "ab" * 32)),
    Forgery("metrics_validation", "plain", put("metrics.validation_accuracy", 0.999)),
    Forgery("metrics_best", "plain", put("metrics.best_epoch", 2)),
    # Checkpoints
    *(
        Forgery(f"cp_{name}_{run}", run, checkpoint(**change))
        for run in ("plain", "mine")
        for name, change in {
            "batch": {"batch": 1},
            "rows": {"rows": 1},
            "best": {"best": [1, 0.9, 0.1]},
            "fact": {"accuracy": 0.999},
            "bits": {"change": lambda old: {"state.0.0.bias": np.nextafter(old["state.0.0.bias"], 9)}},
            "extra": {"change": lambda _: {"state.9": np.zeros(2)}},
            "epoch": {"epoch": 2},
        }.items()
    ),
    Forgery("cp_seconds", "plain", checkpoint(seconds=7), STATEMENT),
    Forgery("cp_version_1", "plain", checkpoint(version=1)),
    Forgery("cp_optimizer", "mine", checkpoint(lambda old: {"state.2.m_total": old["state.2.m_total"] / 2})),
    Forgery("cp_kept_best", "mine", checkpoint(name="checkpoint-2.safetensors", best=[1, 0.9, 0.1])),
    Forgery("cp_kept_rows", "mine", checkpoint(name="checkpoint-2.safetensors", rows=1)),
    Forgery(
        "cp_kept_bits",
        "mine",
        checkpoint(
            lambda old: {"best.0.0.bias": np.nextafter(old["best.0.0.bias"], 9)}, "checkpoint-2.safetensors"
        ),
    ),
    Forgery(
        "cp_kept_of_another_epoch",
        "mine",
        lambda run: shutil.copy(run / LAST, run / "checkpoint-3.safetensors"),
    ),
]


# Each key of a record, generated

STATEMENTS = {"id", "started", "ended", "command", "device_requested", "device_used", "device_reason"}
STATEMENTS |= {
    "source_sha256",
    "backend",
    "python",
    "platform",
    "versions",
    "working_folder_commit",
    "xpnet_commit",
}
IDLE_SETTINGS = BOOKKEEPING - {"resume", "jobs"} | {"backend", "device", "workers", "require_device", "dtype"}
IDLE_SETTINGS |= {"checkpoint_seconds", "resume_or_start"}
OTHER_SETTINGS = {
    "normalize": "standardize",
    "best_by": "loss",
    "activation": "tanh",
    "init": "he",
    "loss": "squared-error",
    "class_weight": "balanced",
    "optimizer": "momentum",
    "schedule": "cosine",
    "batch_size": "full",
    "weight_decay": 0.01,
    "clip_norm": 0.01,
    "arithmetic": "native",
    "log_every": 3,
    "test_data": "small",
    "name": "other",
    "device": "cpu",
    "backend": "torch",
    "workers": 2,
    "track": ["mlflow"],
    "checkpoint_seconds": 5.0,
    "augment_elastic_sigma": 3.0,
    "max_norm": 0.1,
    "columns": "features",
    "dropout": 0.5,
    "test_split": 0.3,
    "learning_rate": 0.2,
}
"""Another value of settings that have no next larger one."""


NO_EFFECT_OF = {
    "mine: epochs patience",  # either of which ends it in that epoch
    "table: columns",
    "more: warmup_epochs",  # which was over
    "stopped: epochs average_epochs",
    "weighted: epochs",  # as of a training that a callback ended
    "valid: epochs patience log_every",
    "called: epochs average_epochs",
}
"""Settings that have none on the bits of a run, which ended before."""
IDLE = {
    f"{run} config.{name} changed"
    for run, _, names in (x.partition(" ") for x in NO_EFFECT_OF)
    for name in names.split()
}


def leaves(values, path=()):
    """The path of each value in a JSON object, those of lists of objects included."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        parts = value if isinstance(value, list) else [value]
        is_nested = any(isinstance(part, dict) for part in parts)
        yield from leaves(value, (*path, key)) if is_nested else [(*path, key)]


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, 2.0) if value else 0.5
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])] if value else ["x"]
    if value is None:
        return "x"
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def of_another_type(value):
    """A value that another type of number, or a list, is equal to or holds; None of text."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float):
        return int(value) if value == int(value) else [value]
    return None if isinstance(value, str) else {} if value != {} else 0


def generate(run, *, whole):
    """Forgeries of each key in a record: changed; if `whole` also removed, null and of another type."""
    record = json.loads(Path("runs", run, "run.json").read_text())
    for path in leaves({name: value for name, value in record.items() if name != "digests"}):
        top, last, name, value = path[0], path[-1], ".".join(map(str, path)), record
        for key in path:
            value = value[key]
        is_statement = (
            top in STATEMENTS or (top == "segments" and last != "epoch") or name == "metrics.seconds"
        )
        is_idle = top == "config" and last in IDLE_SETTINGS
        reason = STATEMENT if is_statement else NOT_COMPUTED if is_idle else ""
        other = OTHER_SETTINGS.get(last, changed(value)) if top == "config" else changed(value)
        reason_of_change = reason or NO_EFFECT * (f"{run}: {name} changed" in IDLE)
        yield Forgery(f"{run}: {name} changed", run, put(name, other), reason_of_change)
        if whole and not (top == "versions" or isinstance(last, int)):
            is_inner = (len(path) > 1 and top in STATEMENTS) or name == "metrics.seconds"
            yield Forgery(f"{run}: {name} removed", run, put(name), reason if is_inner else "")
        if whole and value is not None:
            yield Forgery(f"{run}: {name} null", run, put(name, None), reason)
        if whole and isinstance(value, bool | int | float):
            yield Forgery(f"{run}: {name} of another type", run, put(name, of_another_type(value)), reason)


def forgeries(*, generated=True, runs=(*OF_FILES, *OF_ARRAYS)):
    """Forgeries of the runs in the current folder: by hand, and if `generated` also of each key."""
    listed = [forgery for forgery in BY_HAND if forgery.run in runs]
    for run in runs if generated else ():
        listed += generate(run, whole=run in ("plain", "more"))
    return listed


# Verdicts


def python_verdict(run):
    """The verdict of ``xpnet.verify``: same, but (with a reservation), differs or refused; and why."""
    try:
        result = xpnet.verify(run, **(fit_arguments(run.name) if run.name in OF_ARRAYS else {}))
    except xpnet.XPNetError as error:
        return "refused", str(error)
    if not result:
        return "differs", result.difference
    line = RecordedRun(run).describe()
    return "but" if result.not_compared or "schema version" in line else "same", line


def page_verdict(result):
    """The verdict of the page, and why."""
    is_limited = result["outcome"] == "same" and ("word" in result or "; not compared: " in result["line"])
    return "but" if is_limited else result["outcome"], result["line"]


def judge(all_forgeries):
    """The Python verdict on each forgery, by its name; the runs are as before afterwards."""
    verdicts, backup = {}, Path(shutil.copytree("runs", "backup", symlinks=True))
    for forgery in all_forgeries:
        forgery.make(Path("runs"))
        verdicts[forgery.name] = python_verdict(Path("runs", forgery.run))
        for name in {forgery.run, "plain"}:
            shutil.rmtree(Path("runs", name))
            shutil.copytree(backup / name, Path("runs", name), symlinks=True)
    shutil.rmtree(backup)
    return verdicts
