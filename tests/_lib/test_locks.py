"""Locks between processes: one holder at a time, and none that has died."""

import subprocess
import sys
from pathlib import Path

import pytest

from xpnet._lib import locks
from xpnet._lib.locks import Lock


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = Lock.take(path)
    assert held is not None
    assert Lock.take(path) is None
    held.release()
    assert not path.exists()
    again = Lock.take(path)
    assert again is not None
    held.release()
    assert path.exists()
    assert Lock.take(path) is None


def test_a_lock_that_nobody_refers_to_is_let_go(tmp_path: Path) -> None:
    assert Lock.take(tmp_path / "lock") is not None
    assert Lock.take(tmp_path / "lock") is not None


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import pathlib, sys, xpnet._lib.locks as l; lock = l.Lock.take(pathlib.Path(sys.argv[1]));"
        "print(lock is not None, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"True"
        assert Lock.take(path) is None
        process.kill()
    assert path.exists()
    assert Lock.take(path) is not None


def test_a_lock_on_a_file_that_is_gone_or_another_one_removes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    old = Lock.take(path)
    path.unlink()
    new = Lock.take(path)
    assert old is not None
    assert new is not None
    old.release()
    assert path.exists()
    new.release()
    assert not path.exists()


def test_a_lock_on_a_file_that_its_holder_has_just_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hold = tmp_path / "lock", locks._hold
    held = Lock.take(path)
    assert held is not None

    def hold_late(descriptor: int) -> None:
        held.release()  # between the opening and the locking
        hold(descriptor)

    monkeypatch.setattr(locks, "_hold", hold_late)
    late = Lock.take(path)
    monkeypatch.undo()
    assert late is not None
    assert path.exists()
    assert Lock.take(path) is None
