"""The record of a run: what it holds, and that nothing is lost or half-written."""

import os
import platform
import re
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_type_hints

import pytest
from filelock import FileLock
from folders import change_record, fail_with, tree

from xpnet.errors import ConfigError, DataError
from xpnet.storage import find, run
from xpnet.storage.locks import Lock, is_locked
from xpnet.storage.record import Record, read_metrics, read_run
from xpnet.storage.run import WritableRun

GIVEN = {"command": ["xpnet", "train", "--data", "weiß"], "seed": 2**64 - 1, "backend": "numpy"}
GIVEN |= {"parent": None, "init_from_sha256": None, "specification_version": 1}
GIVEN |= {"device_requested": "cuda", "device_used": "cpu", "device_reason": "no driver"}
GIVEN |= {"config": {"hidden": [10], "name": None}, "data": {"sha256": "ab", "name": "mnist", "train": 60000}}
HERE = {"epoch": 3, "backend": "numpy", "device": "cpu"}
OLDER = {"schema_version": 2, "segments": None, "specification_version": None, "digests": None}
NO_SPACE = OSError(28, "No space left on device")
IN_USE = r"mine: another process is working on this run: wait until it has ended$"


def start(out, name=None, *, overwrite=False):
    return WritableRun.start(out, name, GIVEN, overwrite=overwrite)


def stopped(out, status="interrupted", name="mine"):
    """Return the folder of a run that has ended after two rows, with a checkpoint."""
    run = start(out, name)
    for epoch in range(2):
        run.log({"epoch": epoch})
    run.write("checkpoint.safetensors", b"state")
    run.finish(status, metrics={"train_loss": 0.5}, fingerprint="cd", error="why")
    return run.folder


def test_a_started_run_has_a_folder_named_by_its_start_with_a_running_record(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    run = start(tmp_path / "new" / "runs")
    record = read_run(run.folder)
    assert record == run.record == record | GIVEN
    assert set(record) == set(get_type_hints(Record))
    assert (record["schema_version"], record["status"]) == (4, "running")
    place = {"backend": "numpy", "device": "cpu", "ranks": 1, "hosts": [platform.node()], "mpi": None}
    assert record["segments"] == [
        {"started": record["started"], "epoch": 0, **place, "places": ["numpy on cpu"]}
    ]
    named = datetime.strptime(re.fullmatch(r"(\S+Z)-[0-9a-f]{6}", record["id"])[1], "%Y%m%dT%H%M%S%z")
    assert before <= named <= datetime.now(UTC)
    assert set(tree(run.folder)) == {".lock", "run.json"}
    assert [path.name for path in run.folder.parent.iterdir()] == [record["id"]]


@pytest.mark.parametrize(
    "put", [Path.mkdir, lambda path: path.symlink_to(start(path.parents[1] / "elsewhere").folder)]
)
def test_what_is_no_run_is_never_replaced(tmp_path, put):
    (tmp_path / "runs").mkdir()
    put(tmp_path / "runs" / "mine")
    before = tree(tmp_path)
    for overwrite, reason in (False, "exists already"), (True, r"not a run \(no run.json in it\)"):
        with pytest.raises(ConfigError, match=rf"runs/mine: {reason}[^\n]*--overwrite[^\n]*$"):
            start(tmp_path / "runs", "mine", overwrite=overwrite)
    assert tree(tmp_path) == before


def test_a_run_is_replaced_only_after_its_end_and_writes_nothing_into_its_successor(tmp_path, monkeypatch):
    old = start(tmp_path, "mine", overwrite=True)  # there is none yet
    old.log({"epoch": 1})

    def refused(match, *actions):
        before = tree(tmp_path)
        for action in actions:
            with pytest.raises(ConfigError, match=match):
                action()
        assert tree(tmp_path) == before

    refused(IN_USE, lambda: WritableRun.reopen(old.folder), lambda: start(tmp_path, "mine", overwrite=True))
    refused("mine: exists already: choose another --name, or ", lambda: start(tmp_path, "mine"))
    with monkeypatch.context() as patch:  # another takes the name after it was free
        patch.setattr(os.path, "lexists", lambda _: False)
        refused("mine: exists already", lambda: start(tmp_path, "mine"))
    old.release()
    new = start(tmp_path, "mine", overwrite=True)
    assert set(tree(tmp_path)) == {"mine", "mine/.lock", "mine/run.json"}
    for lost in (old, new):
        writes = partial(lost.log, {}), partial(lost.finish, "failed"), partial(lost.resume, 0, **HERE)
        refused("mine: was replaced or removed while this run was using it$", *writes)
        shutil.rmtree(new.folder, ignore_errors=True)


def test_a_run_whose_lock_another_process_has_replaced_writes_nothing(tmp_path):
    mine = start(tmp_path, "mine")
    lock = mine.folder / ".lock"
    lock.unlink()
    mine.log({"epoch": 1})  # a person may have removed it
    other = Lock.take(lock)
    before = tree(tmp_path)
    for write in partial(mine.log, {}), partial(mine.finish, "failed"):
        with pytest.raises(ConfigError, match=IN_USE):
            write()
    mine.release()
    assert tree(tmp_path) == before
    other.release()


@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("step", [".replaced", ".starting"])
def test_a_failed_start_leaves_the_old_run_and_nothing_else(tmp_path, monkeypatch, step, error):
    stopped(tmp_path)
    before, rename = tree(tmp_path), Path.rename

    def failing_rename(self, target):
        if self.name.startswith(step) or target.name.startswith(step):
            raise error
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing_rename)
        with pytest.raises((ConfigError, KeyboardInterrupt)):
            start(tmp_path, "mine", overwrite=True)
    assert tree(tmp_path) == before


def test_what_killed_starts_left_is_put_back_or_removed_unless_it_is_in_use(tmp_path):
    """Of two replacements one was complete, and one in between."""
    mine, halfway = stopped(tmp_path, name="mine"), stopped(tmp_path, name="halfway")
    before = tree(halfway)
    shutil.copytree(mine, tmp_path / ".replaced-0b")
    shutil.copytree(halfway, tmp_path / ".starting-0c")
    halfway.rename(tmp_path / ".replaced-0c")
    cause = (
        f"which --overwrite was replacing when it was killed: the next training in {tmp_path} puts it back"
    )
    assert find.survey(tmp_path).damaged == (f"{tmp_path / '.replaced-0c'}: is halfway, {cause}",)
    (tmp_path / ".starting-1b").mkdir()
    with FileLock(tmp_path / ".starting-1b.lock"):
        start(tmp_path, "next")
        kept = {"mine", "halfway", "next", ".starting-1b", ".starting-1b.lock"}
        assert {path.name for path in tmp_path.iterdir()} == kept
    assert tree(halfway) == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    refusal = "^--out: no run can be written in .*{} \\({}\\): choose another folder$"
    with pytest.raises(ConfigError, match=refusal.format("file", "is a file")):
        start(tmp_path / "file")
    monkeypatch.setattr(run, "write_atomic", fail_with(NO_SPACE))
    with pytest.raises(ConfigError, match=refusal.format("runs", "No space left on device")):
        start(tmp_path / "runs")
    assert set(tree(tmp_path)) == {"file", "runs"}


def test_rows_are_in_the_file_as_soon_as_they_are_logged_and_read_back_with_null_for_nan(tmp_path):
    run = start(tmp_path)
    path, logged = run.folder / "metrics.jsonl", []
    for line in ({"loss": 0.1 + 0.2}, {}, {'ß"\n\u2028\ud800': [None, True, {"": [-0.0, 2**70]}]}):
        run.log(line)
        logged.append(line)
        assert repr(read_metrics(path)) == repr(logged)
    run.log({"loss": float("nan"), "deep": {"list": [1.0, (float("inf"),)]}})
    assert path.read_text().splitlines()[-1] == '{"loss": null, "deep": {"list": [1.0, [null]]}}'


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path, monkeypatch):
    run = start(tmp_path)
    run.log({"epoch": 1})
    before, actions = tree(tmp_path), [partial(run.finish, "completed"), partial(run.resume, 0, **HERE)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_with(NO_SPACE))
        for action in actions:
            with pytest.raises(ConfigError, match=r": cannot be written \(No space left on device\): "):
                action()
    assert tree(tmp_path) == before
    assert run.record == read_run(run.folder)


def test_a_run_that_cannot_be_marked_failed_is_not_locked(tmp_path, monkeypatch):
    run = start(tmp_path)
    assert is_locked(run.folder / ".lock")
    monkeypatch.setattr(os, "fsync", fail_with(NO_SPACE))
    with pytest.raises(ConfigError, match="cannot be written"):
        run.fail(DataError("no space"))
    assert not is_locked(run.folder / ".lock")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\xff\x1b[31m\n', ': line 2: expected a JSON object, got "\\ufffd\\u001b[31m"'),
        (b'{"a": {"b": [1, NaN]}}\n', ', line 1: "b": expected finite numbers, got [1, NaN]'),
        (b'{"epoch": 2, "epoch": 9}\n', ', line 1: the key "epoch" occurs twice: expected it once'),
    ],
)
def test_a_damaged_line_elsewhere_is_named(tmp_path, content, message):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}{message}')}$"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (b'{"schema_version": 1', "not a run record: expected a JSON object"),
        (b'{"seed": 1e999}', '"seed": expected finite numbers, got Infinity'),
        (b'{"status": "a", "\\u0073tatus": "b"}', 'the key "status" occurs twice: expected it once'),
        (
            {"schema_version": 5},
            "written by a newer xpnet (schema version 5, this one reads up to 4): update xpnet",
        ),
        ({"data": {"name": "x"}}, "data.sha256: expected str, got null"),
        ({**OLDER, "resumed": [5]}, "resumed: expected list[str], got [5]"),
        ({"segments": [{"started": 5}]}, "segments[0].started: expected str, got 5"),
    ],
)
def test_a_record_that_is_damaged_is_refused_and_not_reopened(tmp_path, changes, message):
    folder = stopped(tmp_path)
    if isinstance(changes, dict):
        change_record(folder, **changes)
    else:
        (folder / "run.json").write_bytes(changes)
    before = tree(folder)
    for use in (read_run, WritableRun.reopen):
        with pytest.raises(DataError, match=f"^{re.escape(f'{folder}/run.json: {message}')}$"):
            use(folder)
    assert tree(folder) == before


def test_a_stopped_run_goes_on_with_its_record_under_its_present_name(tmp_path):
    ended = read_run(stopped(tmp_path))
    folder = (tmp_path / "mine").rename(tmp_path / "other")
    for name in (".0123456789abcdef.tmp", ".notes.tmp"):
        (folder / name).touch()  # the first is what a killed process was writing
    run = WritableRun.reopen(folder)
    assert run.record == {**ended, "id": "other"}
    assert run.resume(2, epoch=2, backend="torch", device="cuda:1") == 2
    record = read_run(folder)
    assert run.record == record
    first, second = record["segments"]
    assert (second["epoch"], second["backend"], second["device"]) == (2, "torch", "cuda:1")
    outcome = dict.fromkeys(["ended", "metrics", "fingerprint", "error", "digests"])
    assert [first] == ended["segments"]
    assert record == {**ended, "id": "other", "status": "running", "segments": [first, second], **outcome}
    run.finish("completed", fingerprint="ef")
    assert set(tree(folder)) == {".notes.tmp", "run.json", "metrics.jsonl", "checkpoint.safetensors"}


@pytest.mark.parametrize(
    ("content", "rows", "expected", "kept"),
    [
        (b'{"a": 1}\n{"a": 2}\n{"a": 3}\n', 2, b'{"a": 1}\n{"a": 2}\n', 2),
        (b'{"a": 1}\n{"a": 2}\n{"a', 2, b'{"a": 1}\n{"a": 2}\n', 2),
        (b'{"a": 1}\n\0\0\0', 2, b'{"a": 1}\n', 1),
    ],
)
def test_rows_that_the_checkpoint_does_not_know_are_cut_off(tmp_path, content, rows, expected, kept):
    run = start(tmp_path)
    path = run.folder / "metrics.jsonl"
    path.write_bytes(content)
    assert run.resume(rows, **HERE) == kept
    assert path.read_bytes() == expected
