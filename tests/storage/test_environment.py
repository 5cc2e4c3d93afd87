"""The environment of a run: versions and the git commit, found without loading or raising anything."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.storage import record
from xpnet.storage.record import collect_environment


def test_the_environment_names_the_libraries_that_are_loaded_and_loads_none():
    loaded = set(sys.modules)
    actual = collect_environment()
    assert not (set(sys.modules) - loaded) & set(record.LIBRARIES)
    assert actual["versions"]["numpy"] == np.__version__
    assert set(actual["versions"]) <= loaded
    assert actual["python"].endswith(f" {'.'.join(map(str, sys.version_info[:3]))}")
    assert actual["platform"] == platform.platform()


IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder, *words):
    command = ["git", "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, from which the package seems to be loaded."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    file = root / Path(record.__file__).relative_to(Path(xpnet.__file__).parents[1])
    file.parent.mkdir(parents=True)
    file.touch()
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "m")
    monkeypatch.setattr(record, "__file__", str(file))
    return root


def test_a_checkout_gives_its_commit_and_is_dirty_if_a_tracked_file_was_changed(checkout, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "-a", "v1", "-m", "m")
    (checkout / "untracked").touch()
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "other.git"))
    assert collect_environment()["git"] == {"commit": commit, "dirty": False}
    Path(record.__file__).write_text("changed")
    assert collect_environment()["git"] == {"commit": commit, "dirty": True}
    (checkout / ".git" / "HEAD").write_text("nonsense")
    assert collect_environment()["git"] is None
    (checkout / ".git").rename(checkout.parent / ".git")  # of another checkout
    assert collect_environment()["git"] is None


def test_without_git_or_with_one_that_is_slow_there_is_no_commit(checkout, monkeypatch):
    tool = checkout / "git"
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setattr(record, "GIT_TIMEOUT", 0.2)
    for path in f"{checkout}{os.pathsep}{os.environ['PATH']}", "":
        monkeypatch.setenv("PATH", path)
        assert collect_environment()["git"] is None
