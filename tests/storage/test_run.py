"""The record of a run: what it holds, and that nothing is lost or half-written."""

import os
import platform
import re
import shutil
from functools import partial
from pathlib import Path
from typing import get_type_hints

import pytest
from filelock import FileLock
from folders import change_record, fail_with, tree

from xpnet.errors import ConfigError, DataError
from xpnet.storage import find
from xpnet.storage.locks import Lock, is_locked
from xpnet.storage.record import Record, read_metrics, read_run
from xpnet.storage.run import WritableRun

GIVEN = {"command": ["xpnet", "train", "--data", "weiß"], "seed": 2**64 - 1, "backend": "numpy"}
GIVEN |= {"device_used": "cpu", "config": {"hidden": [10]}, "data": {"sha256": "ab", "name": "mnist"}}
GIVEN |= {"device_requested": "cuda", "device_reason": "no driver", "specification_version": 1}
GIVEN |= {"parent": None, "init_from_sha256": None}
HERE = {"epoch": 3, "backend": "numpy", "device": "cpu"}
NO_SPACE = OSError(28, "No space left on device")
IN_USE = r"mine: another process is working on this run: wait until it has ended$"


def start(out, name=None, *, overwrite=False):
    return WritableRun.start(out, name, GIVEN, overwrite=overwrite)


def stopped(out, name="mine"):
    run = start(out, name)
    for epoch in range(2):
        run.log({"epoch": epoch})
    run.write("checkpoint.safetensors", b"state")
    run.finish("interrupted", metrics={"train_loss": 0.5}, fingerprint="cd", error="why")
    return run.folder


def test_a_started_run_has_a_folder_named_by_its_start_with_a_running_record(tmp_path):
    run = start(tmp_path / "new" / "runs")
    record = read_run(run.folder)
    assert record == run.record == record | GIVEN
    assert record.keys() == get_type_hints(Record).keys()
    assert (record["schema_version"], record["status"]) == (4, "running")
    assert record["segments"][0]["hosts"] == [platform.node()]
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", record["id"])
    assert run.folder.name == record["id"]
    assert set(tree(run.folder)) == {".lock", "run.json"}


@pytest.mark.parametrize("name", ["folder", "link"])
def test_what_is_no_run_is_never_replaced(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(start(tmp_path / "elsewhere").folder)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=rf"{name}: not a run \(no run.json in it\)[^\n]*--overwrite"):
        start(tmp_path, name, overwrite=True)
    assert tree(tmp_path) == before


def refused(folder, match, *actions):
    before = tree(folder)
    for action in actions:
        with pytest.raises(ConfigError, match=match):
            action()
    assert tree(folder) == before


def test_a_run_is_replaced_only_after_its_end(tmp_path, monkeypatch):
    old = start(tmp_path, "mine", overwrite=True)  # there is none yet
    old.log({"epoch": 1})
    again = partial(start, tmp_path, "mine")
    refused(tmp_path, IN_USE, partial(WritableRun.reopen, old.folder), partial(again, overwrite=True))
    refused(tmp_path, "mine: exists already: choose another --name, or ", again)
    with monkeypatch.context() as patch:  # another takes the name after it was free
        patch.setattr(os.path, "lexists", lambda _: False)
        refused(tmp_path, "mine: exists already", again)
    old.release()
    again(overwrite=True)
    assert set(tree(tmp_path)) == {"mine", "mine/.lock", "mine/run.json"}


def test_a_run_that_was_replaced_or_removed_writes_nothing(tmp_path):
    old = start(tmp_path, "mine")
    old.release()
    new = start(tmp_path, "mine", overwrite=True)
    for lost in (old, new):
        writes = partial(lost.log, {}), partial(lost.finish, "failed"), partial(lost.resume, 0, **HERE)
        refused(tmp_path, "mine: was replaced or removed while this run was using it$", *writes)
        shutil.rmtree(new.folder, ignore_errors=True)


def test_a_run_whose_lock_another_process_has_replaced_writes_nothing(tmp_path):
    mine = start(tmp_path, "mine")
    lock = mine.folder / ".lock"
    lock.unlink()
    mine.log({"epoch": 1})  # a person may have removed it
    other = Lock.take(lock)
    refused(tmp_path, IN_USE, partial(mine.log, {}), partial(mine.finish, "failed"))
    mine.release()
    assert lock.exists()
    other.release()


@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("step", [".replaced", ".starting"])
def test_a_failed_start_leaves_the_old_run_and_nothing_else(tmp_path, monkeypatch, step, error):
    stopped(tmp_path)
    before, rename = tree(tmp_path), Path.rename

    def failing_rename(self, target):
        return (fail_with(error) if step in self.name + target.name else rename)(self, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
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
    (note,) = find.survey(tmp_path).damaged
    assert "is halfway, which --overwrite was replacing when it was killed" in note
    (tmp_path / ".starting-1b").mkdir()
    with FileLock(tmp_path / ".starting-1b.lock"):
        start(tmp_path, "next")
        kept = {"mine", "halfway", "next", ".starting-1b", ".starting-1b.lock"}
        assert {path.name for path in tmp_path.iterdir()} == kept
    assert tree(halfway) == before


def test_rows_are_in_the_file_as_soon_as_they_are_logged_and_read_back_with_null_for_nan(tmp_path):
    run = start(tmp_path)
    run.log({"loss": 0.1 + 0.2, 'ß"\n\u2028\ud800': [None, -0.0, 2**70]})
    run.log({"loss": float("nan"), "deep": {"list": [1.0, (float("inf"),)]}})
    first, last = read_metrics(run.folder / "metrics.jsonl")
    assert repr(first) == repr({"loss": 0.1 + 0.2, 'ß"\n\u2028\ud800': [None, -0.0, 2**70]})
    assert last == {"loss": None, "deep": {"list": [1.0, [None]]}}


def test_a_full_disk_is_one_line_keeps_what_was_written_and_no_lock(tmp_path, monkeypatch):
    run = start(tmp_path)
    run.log({"epoch": 1})
    assert is_locked(run.folder / ".lock")
    message = r": cannot be written \(No space left on device\): "
    monkeypatch.setattr(os, "fsync", fail_with(NO_SPACE))
    refused(tmp_path, message, partial(run.finish, "completed"), partial(run.resume, 0, **HERE))
    with pytest.raises(ConfigError, match=message):
        run.fail(DataError("no space"))
    assert run.record == read_run(run.folder)
    assert not is_locked(run.folder / ".lock")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 5}, "written by a newer xpnet (schema version 5, this one reads up to 4): upd"),
        ({"seed": float("inf")}, '"seed": expected finite numbers, got Infinity'),
        ({"seed": True}, "seed: expected int, got true"),
        ({"data": {"name": "x"}}, "data.sha256: expected str, got null"),
    ],
)
def test_a_record_that_is_damaged_is_refused_and_not_reopened(tmp_path, changes, message):
    folder = stopped(tmp_path)
    change_record(folder, **changes)
    before = tree(folder)
    with pytest.raises(DataError, match=f"^{re.escape(f'{folder}/run.json: {message}')}[^\n]*$"):
        WritableRun.reopen(folder)
    assert tree(folder) == before


def test_a_key_that_occurs_twice_is_damage(tmp_path):
    (tmp_path / "run.json").write_text('{"a": 1, "\\u0061": 2}')
    with pytest.raises(DataError, match=r'run.json: the key "a" occurs twice: expected it once$'):
        read_run(tmp_path)


def test_a_stopped_run_goes_on_with_its_record_under_its_present_name(tmp_path):
    ended = read_run(stopped(tmp_path))
    folder = (tmp_path / "mine").rename(tmp_path / "other")
    (folder / ".notes.tmp").touch()
    (folder / ".0123456789abcdef.tmp").touch()  # which a killed process was writing
    run = WritableRun.reopen(folder)
    assert run.resume(2, epoch=2, backend="torch", device="cuda:1") == 2
    record = read_run(folder)
    second = record["segments"][1]
    assert (second["epoch"], second["backend"], second["device"]) == (2, "torch", "cuda:1")
    outcome = dict.fromkeys(["ended", "metrics", "fingerprint", "error", "digests"])
    expected = {**ended, "id": "other", "status": "running", "segments": [*ended["segments"], second]}
    assert run.record == record == expected | outcome
    run.finish("completed", fingerprint="ef")
    assert set(tree(folder)) == {".notes.tmp", "run.json", "metrics.jsonl", "checkpoint.safetensors"}


@pytest.mark.parametrize(
    ("content", "rows", "expected", "kept"),
    [
        (b'{"a": 1}\n{"a": 2}\n{"a": 3}\n{"a', 2, b'{"a": 1}\n{"a": 2}\n', 2),
        (b'{"a": 1}\n\0\0\0', 2, b'{"a": 1}\n', 1),
    ],
)
def test_rows_that_the_checkpoint_does_not_know_are_cut_off(tmp_path, content, rows, expected, kept):
    run = start(tmp_path)
    path = run.folder / "metrics.jsonl"
    path.write_bytes(content)
    assert run.resume(rows, **HERE) == kept
    assert path.read_bytes() == expected
