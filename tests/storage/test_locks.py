"""Locks between processes: one holder at a time."""

import errno

import pytest
from folders import fail_with

from xpnet.errors import ConfigError
from xpnet.storage.locks import Lock, is_locked


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


def test_a_folder_that_was_moved_away_is_not_made_again(path):
    with pytest.raises(ConfigError, match="cannot be written"):
        Lock.take(path.parent / "gone" / "lock")
    assert not (path.parent / "gone").exists()


def test_without_locks_in_the_file_system_everybody_has_one(path, monkeypatch):
    error = OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", fail_with(error))
    assert Lock.take(path) is not None
    assert Lock.take(path) is not None
    assert not is_locked(path)
