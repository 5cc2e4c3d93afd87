"""The content of folders, changed records of runs, and functions that fail."""

import json
import os
import stat

import pytest


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def change_record(folder, **changes):
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


def put_device(path, minor=3, kind=stat.S_IFCHR):
    """Make a device: like /dev/null, with the number 7 like /dev/full; a disk is never opened."""
    try:
        os.mknod(path, kind | 0o666, os.makedev(1, minor))
        if kind == stat.S_IFCHR:
            path.open("ab").close()  # which a file system may refuse
    except PermissionError as error:
        pytest.skip(f"makes no devices: {error}")
