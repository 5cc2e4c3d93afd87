"""Forged records: honest runs, and a list of changes to them, each a lie or marked with why it is none.

``forgeries`` lists them: those of forgeries.json, and each key of a record changed, removed or retyped.
Both verifiers are given the same folders.
"""

import json
import math
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from recorded_runs import PLAIN, seal, train_and_press
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


TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""Lies by hand, with the reasons of changes that are none; changes with the differences that they are."""


class Forgery(NamedTuple):
    """A change of the folder of a run.

    Attributes
    ----------
    run, changes
        The name of the run, and changes of its folder: of each, the name in `OPERATIONS`, and arguments.
    name, no_lie
        The name of the forgery, and why it is no lie; empty for one.
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
    no_lie: str = ""
    sealed: bool = True
    absent: str | None = None
    message: str = ""
    outcome: str = ""

    def make(self, folder):
        """Change a copy of the run in a folder of runs."""
        run = folder / self.run
        for operation, *arguments in self.changes:
            OPERATIONS[operation](run, *arguments)
        if self.sealed:
            seal(run, **({} if self.absent is None else {self.absent: "ab" * 32}))


def by_hand(table):
    """The forgeries of a table of forgeries.json: lies, differences, page."""
    return [Forgery(**entry) for entry in TABLE[table]]


# Changes: each takes the folder of the run, and what the table says after its name


def put(run, path, *values):
    """Set the value at a path of keys, such as config.epochs; without a value, remove the key."""
    *outer, last = (int(key) if key.isdecimal() else key for key in path.split("."))
    record = place = json.loads((run / "run.json").read_text())
    for key in outer:
        place = place[key]
    if values:
        place[last] = values[0]
    else:
        del place[last]
    (run / "run.json").write_text(json.dumps(record))


def edit(run, name, old, new):
    """Replace text in a file, where it occurs first."""
    content = (run / name).read_bytes()
    assert old.encode() in content, old
    (run / name).write_bytes(content.replace(old.encode(), new.encode(), 1))


def encode(run, name, encoding):
    (run / name).write_bytes((run / name).read_text().encode(encoding))


def row(run, values, number=1, without=None):
    """Set values in a row of the history, or remove one."""

    def change(rows):
        content = json.loads(rows[number]) | values
        content.pop(without, None)
        return [*rows[:number], json.dumps(content) + "\n", *rows[number + 1 :]]

    change_lines(run, change)


def row_loss(run):
    """Set the loss of a row to the next smaller number."""
    loss = json.loads((run / ROWS).read_text().splitlines()[1])["train_loss"]
    row(run, {"train_loss": math.nextafter(loss, 0)})


def change_lines(run, change):
    texts = (run / ROWS).read_text().splitlines(keepends=True)
    (run / ROWS).write_text("".join(change(texts)))


OF_LINES = {
    "swapped": lambda rows: [rows[1], rows[0], *rows[2:]],
    "without the last": lambda rows: rows[:-1],
    "without the third": lambda rows: rows[:2] + rows[3:],
    "one more": lambda rows: [*rows, rows[-1].replace('"epoch": 3', '"epoch": 4')],
    "with epoch 4": lambda rows: [*rows, '{"epoch": 4}\n'],
    "with a cut row": lambda rows: [*rows, '{"epoch": 4}'],
    "with a blank line": lambda rows: [rows[0], "\n", *rows[1:]],
    "without the last line break": lambda rows: [*rows[:-1], rows[-1][:-1]],
}
OF_ARRAY = {
    "next": lambda x: np.nextafter(x, 9),
    "negated": lambda x: -x - 0.0,
    "half": lambda x: x / 2,
    "one more": lambda x: x + 1,
    "float32": lambda x: x.astype(np.float32),
    "zeros": lambda _: np.zeros(3),
    "7": lambda _: np.int64(7),
}


def change_model(run, name=None, change=None, **metadata):
    with safe_open(run / MODEL, "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        old = file.metadata()
    tensors |= {name: OF_ARRAY[change](tensors.get(name))} if name else {}
    (run / MODEL).write_bytes(encode_tensors(tensors, old | metadata))


def change_checkpoint(run, file, facts, version=2, name=None, change=None):
    arrays, old = load_checkpoint(run / file)
    arrays |= {name: OF_ARRAY[change](arrays.get(name))} if name else {}
    (run / file).write_bytes(encode_checkpoint(arrays, old | facts, 1, version))


def downgrade(run, version, changes=None):
    """Make the record one of an earlier schema version, with the keys that it had."""
    record = json.loads((run / "run.json").read_text())
    settings, parent = list_keys(version, "settings"), record["parent"]
    record["config"] = {name: record["config"].get(name) for name in settings}
    data = list_keys(version, "data")
    record["data"] = {name: value for name, value in record["data"].items() if name in data}
    record |= {"schema_version": version, "git": None, "resumed": [], **(changes or {})}
    if parent is not None:
        record["parent"] = {name: parent[name] for name in list_keys(version, "parent")}
    segment = list_keys(version, "segment")
    record["segments"] = [{name: each[name] for name in segment} for each in record["segments"]]
    for name in record.keys() - {*list_keys(version, "record")}:
        del record[name]
    (run / "run.json").write_text(json.dumps(record))


def replace_by_link(run):
    for path in [path for path in run.iterdir() if path.suffix in (".safetensors", ".jsonl")]:
        path.rename(run.parent / f"{run.name}-{path.name}")
        path.symlink_to(Path("..", f"{run.name}-{path.name}"))


def forge_fingerprint_of_parent(run):
    put(run, "parent.fingerprint", "ab" * 32)
    put(run.parent / "plain", "fingerprint", "ab" * 32)
    seal(run.parent / "plain")


def forge_a_chain(run):
    """Go on from a checkpoint that is not the parent's."""
    parent = run.parent / "plain"
    change_checkpoint(parent, LAST, {}, name="state.0.0.bias", change="one more")
    seal(parent)
    words = ["--extend", "runs/plain", "--epochs", "2", "--name", "more", "--overwrite"]
    assert train.main([*words, *QUIET]) == 0


def write_more_digits(run):
    """Write a loss with more digits, of which the nearest number is the same."""
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(re.sub(r'("test_loss": [0-9.]+)', r"\g<1>00", text))


def flip_a_bit(run):
    """Flip the last bit of the first number of the model."""
    content = bytearray((run / MODEL).read_bytes())
    content[8 + int.from_bytes(content[:8], "little")] ^= 1
    (run / MODEL).write_bytes(content)


def change_header(run, change):
    """Change the text of the header of the model."""
    content = (run / MODEL).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = change(content[8:end])
    header += b" " * (-len(header) % 8)
    (run / MODEL).write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def reorder_metadata(text):
    header = json.loads(text)
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    return json.dumps(header, separators=(",", ":")).encode()


def insert_metadata(text):
    """Add an entry to the metadata, beside one of that key."""
    return text.replace(b'"__metadata__":{', b'"__metadata__":{"classes":"9",', 1)


def write_earlier_forms(run):
    """Write model and checkpoint as xpnet 0.1 and 0.2 wrote them."""
    (run / MODEL).write_bytes(encode_model(load_model(run / MODEL), 1))
    change_checkpoint(run, LAST, {}, 1)


def train_a_step_more(run):
    """Replace model and checkpoint by those of a step more, as if it belonged to the last epoch."""
    train_and_press([*PLAIN, "--epochs", "4", "--name", "further"], 3, 1)
    put(run.parent / "further", "status", "completed")
    put(run.parent / "further", "config.epochs", 3)
    put(run.parent / "further", "config.name", run.name)
    for name in ("run.json", ROWS, MODEL, LAST):
        shutil.copy(run.parent / "further" / name, run / name)


OPERATIONS = {
    "put": put,
    "remove": put,
    "edit": edit,
    "encode": encode,
    "row": row,
    "row without": lambda run, key: row(run, {}, without=key),
    "row loss": row_loss,
    "rows": lambda run, change: change_lines(run, OF_LINES[change]),
    "tensor": change_model,
    "metadata": lambda run, entries: change_model(run, **entries),
    "checkpoint": change_checkpoint,
    "checkpoint array": lambda run, file, *array: change_checkpoint(run, file, {}, 2, *array),
    "downgrade": downgrade,
    "copy": lambda run, old, new: shutil.copy(run / old, run / new),
    "link": lambda run, name: (run / name).symlink_to("nowhere"),
    "unlink": lambda run, name: (run / name).unlink(),
    "write": lambda run, name, text: (run / name).write_text(text),
    "replace by link": replace_by_link,
    "forge fingerprint of parent": forge_fingerprint_of_parent,
    "forge a chain": forge_a_chain,
    "write more digits": write_more_digits,
    "flip a bit": flip_a_bit,
    "reorder metadata": lambda run: change_header(run, reorder_metadata),
    "insert metadata": lambda run: change_header(run, insert_metadata),
    "write earlier forms": write_earlier_forms,
    "train a step more": train_a_step_more,
    "replace start": lambda run: shutil.copy(run / MODEL, "start.safetensors"),
    "replace plain by table": lambda run: shutil.copytree(
        run.parent / "table", run.parent / "plain", dirs_exist_ok=True
    ),
}
"""The changes of a run, by their names in the table."""

STATEMENT = "a statement: when, where and by what it was computed, which its results do not depend on"
NOT_COMPUTED = "what is printed and written, not what is computed"
NO_EFFECT = "has no effect on this training"

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
        yield Forgery(run, [["put", name, other]], f"{run}: {name} changed", reason_of_change)
        if whole and not (top == "versions" or isinstance(last, int)):
            is_inner = (len(path) > 1 and top in STATEMENTS) or name == "metrics.seconds"
            yield Forgery(run, [["remove", name]], f"{run}: {name} removed", reason if is_inner else "")
        if whole and value is not None:
            yield Forgery(run, [["put", name, None]], f"{run}: {name} null", reason)
        if whole and isinstance(value, bool | int | float):
            other = of_another_type(value)
            yield Forgery(run, [["put", name, other]], f"{run}: {name} of another type", reason)


def forgeries(*, generated=True, runs=(*OF_FILES, *OF_ARRAYS)):
    """Forgeries of the runs in the current folder: by hand, and if `generated` also of each key."""
    listed = [forgery for forgery in by_hand("lies") if forgery.run in runs]
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
