"""Locks between processes: one holder at a time."""

import errno

import pytest
from folders import fail_with

from xpnet._lib.locks import Lock, is_locked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_a_lock_is_held_by_one_and_leaves_no_file_but_that_of_the_next(path):
    held = Lock.take(path)
    assert Lock.take(path) is None
    held.release()
    assert not path.exists()
    again = Lock.take(path)
    held.release()
    assert path.exists()
    path.unlink()
    new = Lock.take(path)
    again.release()  # its file is gone, and another one in its place
    assert path.exists()
    del new  # nobody refers to it
    assert Lock.take(path) is not None


def test_is_locked_neither_makes_nor_removes_nor_writes_the_file(path):
    assert not is_locked(path)
    assert not path.exists()
    held = Lock.take(path)
    path.chmod(0o400)
    assert is_locked(path)
    held.release()
    path.touch()
    assert not is_locked(path)
    assert path.exists()


def test_those_who_ask_whether_it_is_locked_hold_up_nobody(path, monkeypatch):
    fcntl, asking = pytest.importorskip("fcntl"), path.open("w")
    fcntl.flock(asking, fcntl.LOCK_SH)  # as `is_locked` does, on a machine so busy that it takes long
    answer = is_locked(path)

    def is_locked_then(_):
        asking.close()
        return answer

    monkeypatch.setattr("xpnet._lib.locks.is_locked", is_locked_then)
    assert Lock.take(path) is not None


def test_without_locks_in_the_file_system_everybody_has_one(path, monkeypatch):
    error = OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", fail_with(error))
    assert Lock.take(path) is not None
    assert Lock.take(path) is not None
    assert not is_locked(path)
