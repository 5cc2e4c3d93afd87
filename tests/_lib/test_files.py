"""Bounded reading of regular files, and atomic writing."""

import os
import stat
import sys
import tracemalloc
from pathlib import Path

import pytest
from folders import fail_with

from xpnet._lib.files import read_regular_file, write_atomic
from xpnet.errors import DataError


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_writes_exactly_the_bytes_as_an_ordinary_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / ("n" * 255)  # the longest name that systems allow
    path.touch()
    mode = path.stat().st_mode
    write_atomic(path, b"a longer old content")
    monkeypatch.setattr(os, "open", fail_with(PermissionError()))  # the folder cannot be synchronised
    write_atomic(path, b"a\r\n\x00b")
    assert path.read_bytes() == b"a\r\n\x00b"
    assert path.stat().st_mode == mode
    assert list(tmp_path.iterdir()) == [path]


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


def test_reads_through_links_in_memory_for_the_size_and_not_for_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"a\r\n\x00b")
    (tmp_path / "link").symlink_to("file")
    tracemalloc.start()
    assert read_regular_file(tmp_path / "link", 1 << 28, "expected five bytes") == b"a\r\n\x00b"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such files")
@pytest.mark.parametrize(
    ("name", "put", "message"),
    [
        ("absent", lambda path: None, "cannot be read (No such file or directory): expected x"),
        ("folder", lambda path: path.mkdir(), "cannot be read (Is a directory): expected x"),
        ("fifo", os.mkfifo, "is not a regular file: expected x"),
        ("device", lambda path: path.symlink_to("/dev/zero"), "is not a regular file: expected x"),
        ("large", lambda path: path.write_bytes(b"four"), "has 4 bytes, more than 3: expected x"),
        ("a\0b", lambda path: None, "cannot be read (not a path): expected x"),
    ],
)
def test_refuses_what_is_no_regular_file_or_too_large(tmp_path, name, put, message):
    put(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_regular_file(tmp_path / name, 3, "expected x")
    assert str(caught.value).endswith(f": {message}")
