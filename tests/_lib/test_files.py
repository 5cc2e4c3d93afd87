"""Bounded reading of regular files, and atomic writing."""

import os
import stat
import sys
from functools import partial

import pytest
from folders import put_device, tree

from xpnet._lib import files
from xpnet._lib.files import read_regular_file, save, write_atomic
from xpnet.errors import ConfigError, DataError

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such files")
SYNC_FOLDER = ["fsync"] if os.name == "posix" else []


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_a_file_has_the_permissions_of_any_other(tmp_path):
    path = tmp_path / ("n" * 255)  # the longest name that systems allow
    path.touch()
    mode = path.stat().st_mode
    write_atomic(path, b"a\r\n\x00b")
    assert (path.read_bytes(), path.stat().st_mode) == (b"a\r\n\x00b", mode)


@pytest.mark.parametrize(("write", "replace"), [(write_atomic, ["replace"]), (files.append, [])])
def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch, write, replace):
    steps = []
    monkeypatch.setattr(files, "change", lambda call, *given: (steps.append(call.__name__), call(*given))[1])
    write(tmp_path / "file", b"x")
    assert steps == ["open", "write", "fsync", *replace, *SYNC_FOLDER]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
    def change(call, *arguments, **options):
        if call.__name__ == step:
            raise error
        return call(*arguments, **options)

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(files, "change", change)
    with pytest.raises(type(error)):
        write_atomic(tmp_path / "file", b"new")
    assert tree(tmp_path) == {"file": b"old"}


@ON_LINUX
@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda path: path.mkdir(), "cannot be read (Is a directory): expected x"),
        (os.mkfifo, "is not a regular file: expected x"),
        (lambda path: path.write_bytes(b"four"), "has 4 bytes, more than 3: expected x"),
    ],
)
def test_refuses_what_is_no_regular_file_or_too_large(tmp_path, put, message):
    put(tmp_path / "path")
    with pytest.raises(DataError) as caught:
        read_regular_file(tmp_path / "path", 3, "expected x")
    assert str(caught.value).endswith(f": {message}")


@ON_LINUX
@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "No such device or address"),
        (lambda path: path.symlink_to(path.parent / "missing" / "file"), "No such file or directory"),
        (partial(put_device, minor=7), "No space left on device"),
        (partial(put_device, kind=stat.S_IFBLK), "not the path of a file"),
    ],
    ids=["folder", "no reader", "no folder", "full", "disk"],
)
def test_what_cannot_be_written_stays_and_is_refused_unless_xpnet_has_chosen_its_name(tmp_path, put, reason):
    path = tmp_path / "path"
    put(path)
    mode = path.lstat().st_mode
    with pytest.raises(ConfigError) as caught:
        save(path, b"content")
    assert str(caught.value).startswith(f"{path}: cannot be written ({reason}): ")
    assert (path.lstat().st_mode, [*tree(tmp_path)]) == (mode, ["path"])
    if not stat.S_ISDIR(mode):
        save(path, b"content", is_named=False)
        assert path.read_bytes() == b"content"
        assert not path.is_symlink()
