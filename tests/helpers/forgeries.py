"""Forged records: honest runs, and a list of changes to them, each of which is a lie.

They are those of forgeries.json, and for both verifiers each key of a record changed, removed or retyped.
Both verifiers are given the same folders.
"""

import json
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from networks import image_data
from recorded_runs import KEPT, QUIET, seal, train_all, weighted_arrays
from saved_models import read_tensors

import xpnet
from xpnet import train
from xpnet.config.settings import BOOKKEEPING
from xpnet.recording.recorded_run import RecordedRun
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.model_file import encode_tensors
from xpnet.storage.schemas import list_keys

MODEL, ROWS, RECORD = "model.safetensors", "metrics.jsonl", "run.json"
RUNS = ("plain", "mine", "table", "started", "more", "stopped", "weighted")
OF_PAGE = ("plain", "mine")
DATA = image_data(40, 20)
PLAIN = ["--data", "small", "--hidden", "3", "--batch-size", "10", "--epochs", "3"]
MINE = "--epochs 4 --optimizer adam --lr 0.01 --batch-norm --validation 10 --patience 9 --dropout 0.2"
TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""Lies by hand, and changes with the differences that they are, by the name of the table."""


def make_runs():
    Path("small").mkdir()
    for role in ("x_train", "y_train", "x_test", "y_test"):
        np.save(f"small/{role}.npy", getattr(DATA, role))
    train_all(DATA, PLAIN, [*PLAIN, *MINE.split(), *KEPT])


class Forgery(NamedTuple):
    """A change of the folder of a run.

    Attributes
    ----------
    run, changes
        The name of the run, and changes of its folder: of each, the name in `OPERATIONS`, and arguments.
    sealed
        True if the digests are written anew afterwards.
    absent
        A file that is not there, of which the record gets a digest.
    message, outcome
        The beginning of the difference or the error, and the verdict of the page.
    """

    run: str
    changes: list[list]
    name: str = ""
    sealed: bool = True
    absent: str | None = None
    message: str = ""
    outcome: str = ""

    def make(self, folder):
        run = folder / self.run
        for operation, *arguments in self.changes:
            OPERATIONS[operation](run, *arguments)
        if self.sealed:
            seal(run, **({} if self.absent is None else {self.absent: "ab" * 32}))


def by_hand(table):
    return [Forgery(**entry) for entry in TABLE[table]]


# Changes: each takes the folder of the run, and what the table says after its name


def record_of(run):
    return json.loads((run / RECORD).read_text())


def put(run, path, *values):
    """Set the value at a path of keys, such as config.epochs; without a value, remove the key."""
    *outer, last = (int(key) if key.isdecimal() else key for key in path.split("."))
    record = place = record_of(run)
    for key in outer:
        place = place[key]
    if values:
        place[last] = values[0]
    else:
        del place[last]
    (run / RECORD).write_text(json.dumps(record))


def edit(run, name, old, new):
    content = (run / name).read_bytes()
    assert old.encode() in content, old
    (run / name).write_bytes(content.replace(old.encode(), new.encode(), 1))


def rows(run, *parts):
    old = (run / ROWS).read_text().splitlines(keepends=True)
    (run / ROWS).write_text("".join(old[part] if isinstance(part, int) else part for part in parts))


def row(run, values, number=1, without=None):
    old = (run / ROWS).read_text().splitlines(keepends=True)[number]
    changed = {name: x for name, x in (json.loads(old) | values).items() if name != without}
    edit(run, ROWS, old, json.dumps(changed) + "\n")


OF_ARRAY = {
    "next": lambda x: np.nextafter(x, 9),
    "negated": np.negative,
    "float32": np.float32,
    "zeros": lambda _: np.zeros(3),
}


def change_model(run, name=None, change=None, **metadata):
    tensors, old = read_tensors(run / MODEL)
    tensors |= {name: OF_ARRAY[change](tensors.get(name))} if name else {}
    (run / MODEL).write_bytes(encode_tensors(tensors, old | metadata))


def change_checkpoint(run, file, facts, version=2, name=None, change=None):
    arrays, old = load_checkpoint(run / file)
    arrays |= {name: OF_ARRAY[change](arrays.get(name))} if name else {}
    (run / file).write_bytes(encode_checkpoint(arrays, old | facts, 1, version))


def downgrade(run, version, changes=()):
    """Make the record one of an earlier schema version, with the keys that it had."""

    def older(values, kind):
        return {name: values.get(name) for name in list_keys(version, kind)}

    record = {**record_of(run), "schema_version": version, "git": None, "resumed": [], **dict(changes)}
    parts = {"config": "settings", "data": "data", "parent": "parent"}
    record |= {name: record[name] and older(record[name], kind) for name, kind in parts.items()}
    record["segments"] = [older(each, "segment") for each in record["segments"]]
    (run / RECORD).write_text(json.dumps(older(record, "record")))


def of_parent(run, operation, *arguments):
    OPERATIONS[operation](run.parent / "plain", *arguments)
    seal(run.parent / "plain")


def extend_again(_):
    words = ["--extend", "runs/plain", "--epochs", "2", "--name", "more", "--overwrite"]
    assert train.main([*words, *QUIET]) == 0


def flip_a_bit(run):
    content = bytearray((run / MODEL).read_bytes())
    content[8 + int.from_bytes(content[:8], "little")] ^= 1
    (run / MODEL).write_bytes(content)


OPERATIONS = {
    "put": put,
    "edit": edit,
    "encode": lambda run, name, code: (run / name).write_bytes((run / name).read_text().encode(code)),
    "row": row,
    "rows": rows,
    "tensor": change_model,
    "metadata": lambda run, entries: change_model(run, **entries),
    "checkpoint": change_checkpoint,
    "checkpoint array": lambda run, file, *array: change_checkpoint(run, file, {}, 2, *array),
    "downgrade": downgrade,
    "copy": lambda run, old, new: shutil.copy(run / old, run / new),
    "link": lambda run, name: (run / name).symlink_to("nowhere"),
    "unlink": lambda run, name: (run / name).unlink(),
    "write": lambda run, name, text: (run / name).write_text(text),
    "of parent": of_parent,
    "extend again": extend_again,
    "flip a bit": flip_a_bit,
}

# Each key of a record, generated

STATEMENTS = {
    *("id", "started", "ended", "command", "device_requested", "device_used", "device_reason"),
    *("source_sha256", "backend", "python", "platform", "versions", "working_folder_commit"),
    *("xpnet_commit", "seconds"),
}
"""When, where and by what it was computed, which its results do not depend on."""
IDLE = {*BOOKKEEPING} - {"resume", "jobs"} | {"backend", "device", "workers", "require_device", "dtype"}
IDLE = {("config", name) for name in IDLE | {"checkpoint_seconds", "resume_or_start"}}
"""Settings of what is printed and written, not of what is computed."""
OTHERS = {
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
    "learning_rate": 0.2,
    "patience": 1,
    "dropout": 0.5,
    "test_split": 0.3,
    "max_norm": 0.1,
    "arithmetic": "native",
}


def leaves(values, path=()):
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        parts = value if isinstance(value, list) else [value]
        is_nested = any(isinstance(part, dict) for part in parts)
        yield from leaves(value, (*path, key)) if is_nested else [((*path, key), value)]


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return math.nextafter(value, 2.0) if value else 0.5
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])] if value else ["x"]
    return f"{value[:-1]}{int(value[-1:] != '1')}" if value else "x"


def generate(run):
    """Forgeries of each key in a record that is of its results: changed, removed and of another type."""
    record = record_of(Path("runs", run))
    del record["digests"]
    for path, value in leaves(record):
        name, top, last = ".".join(map(str, path)), path[0], path[-1]
        if {top, last} & STATEMENTS or (top == "segments" and last != "epoch") or (top, last) in IDLE:
            continue
        other = OTHERS.get(last, changed(value)) if top == "config" else changed(value)
        retyped = float(value) if isinstance(value, int) else [value]
        for kind, values in {"changed": [other], "removed": [], "of another type": [retyped]}.items():
            if kind != "removed" or not isinstance(last, int):
                yield Forgery(run, [["put", name, *values]], f"{run}: {name} {kind}")


def of_page():
    by_key = [forgery for run in OF_PAGE for forgery in generate(run)]
    return [forgery for forgery in by_hand("lies") if forgery.run in OF_PAGE] + by_key


def python_verdict(run):
    """The verdict of ``xpnet.verify``: same, but (with a reservation), differs or refused; and why."""
    try:
        result = xpnet.verify(run, **(weighted_arrays(DATA) if run.name == "weighted" else {}))
    except xpnet.XPNetError as error:
        return "refused", str(error)
    if not result:
        return "differs", result.difference
    line = RecordedRun(run).describe()
    return "but" if result.not_compared or "schema version" in line else "same", line


def page_verdict(result):
    is_limited = result["outcome"] == "same" and ("word" in result or "; not compared: " in result["line"])
    return "but" if is_limited else result["outcome"], result["line"]


def judge(listed):
    verdicts, backup = {}, Path(shutil.copytree("runs", "backup"))
    for forgery in listed:
        forgery.make(Path("runs"))
        verdicts[forgery.name] = python_verdict(Path("runs", forgery.run))
        for name in {forgery.run, "plain"}:
            shutil.rmtree(Path("runs", name))
            shutil.copytree(backup / name, Path("runs", name))
    return verdicts
