"""Locks between processes: one holder at a time, and none that has died."""

import errno
import os
import subprocess
import sys

import pytest
from filelock import FileLock

from xpnet._lib.locks import Lock, is_locked


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path):
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


def test_a_lock_that_nobody_refers_to_is_let_go(tmp_path):
    assert Lock.take(tmp_path / "lock") is not None
    assert Lock.take(tmp_path / "lock") is not None


def test_a_killed_holder_holds_nothing(tmp_path):
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


def test_a_lock_on_a_file_that_is_gone_or_another_one_removes_nothing(tmp_path):
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


def test_a_lock_on_a_file_that_its_holder_has_just_removed_is_none(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "lock"
    held = Lock.take(path)
    assert held is not None

    def flock_late(descriptor, operation):
        monkeypatch.undo()
        held.release()  # between the opening and the locking
        fcntl.flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    late = Lock.take(path)
    assert late is not None
    assert path.exists()
    assert Lock.take(path) is None


def test_a_lock_and_that_of_version_0_1_0_exclude_each_other(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "lock"
    path.touch()
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    with path.open("r+b") as file:
        fcntl.flock(file, exclusive)
        assert Lock.take(path) is None
        assert is_locked(path)
    held = Lock.take(path)
    assert held is not None
    with path.open("r+b") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, exclusive)


def test_whether_a_lock_is_held_is_told_without_making_or_removing_the_file(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    held = Lock.take(path)
    assert held is not None
    assert is_locked(path)
    held.release()
    path.touch()
    assert not is_locked(path)
    assert path.exists()


def test_whether_a_lock_is_held_is_told_without_the_right_to_write_the_file(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    path = tmp_path / "lock"
    held = Lock.take(path)
    assert held is not None

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert is_locked(path)
    held.release()
    path.touch()
    assert not is_locked(path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_in_the_file_system_everybody_has_one(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", fail)
    assert Lock.take(tmp_path / "lock") is not None
    assert Lock.take(tmp_path / "lock") is not None
    assert not is_locked(tmp_path / "lock")
