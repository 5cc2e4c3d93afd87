"""Bounded reading of regular files, and atomic writing."""

import os
import stat
import sys
from pathlib import Path

import pytest
from folders import fail_with

from xpnet._lib.files import read_regular_file, write_atomic
from xpnet.errors import DataError


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_a_file_has_the_permissions_of_any_other(tmp_path):
    path = tmp_path / ("n" * 255)  # the longest name that systems allow
    path.touch()
    mode = path.stat().st_mode
    write_atomic(path, b"a\r\n\x00b")
    assert (path.read_bytes(), path.stat().st_mode) == (b"a\r\n\x00b", mode)


def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, Path.replace

    def noted_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", lambda *paths: (steps.append("name"), replace(*paths)))
    write_atomic(tmp_path / "file", b"x")
    assert steps == ["bytes", "name", *(["folder"] if os.name == "posix" else [])]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"])
def test_a_failure_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(*step, fail_with(error))
    with pytest.raises(type(error)):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such files")
@pytest.mark.parametrize(
    ("name", "put", "message"),
    [
        ("folder", lambda path: path.mkdir(), "cannot be read (Is a directory): expected x"),
        ("fifo", os.mkfifo, "is not a regular file: expected x"),
        ("device", lambda path: path.symlink_to("/dev/zero"), "is not a regular file: expected x"),
        ("large", lambda path: path.write_bytes(b"four"), "has 4 bytes, more than 3: expected x"),
    ],
)
def test_refuses_what_is_no_regular_file_or_too_large(tmp_path, name, put, message):
    put(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_regular_file(tmp_path / name, 3, "expected x")
    assert str(caught.value).endswith(f": {message}")
