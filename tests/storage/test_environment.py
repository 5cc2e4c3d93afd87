"""The environment of a run: versions and the git commits, found without loading or raising anything."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.storage import environment
from xpnet.storage.environment import collect_environment


@pytest.fixture(autouse=True)
def questions_to_git(monkeypatch):
    """Ask git each time."""
    monkeypatch.setattr(environment, "_describe_commit", environment._describe_commit.__wrapped__)


def test_the_environment_names_the_libraries_that_are_loaded_and_loads_none():
    loaded = set(sys.modules)
    actual = collect_environment()
    assert not (set(sys.modules) - loaded) & set(environment.LIBRARIES)
    assert actual["versions"]["numpy"] == np.__version__
    assert set(actual["versions"]) <= loaded


NAME = "a\nb \t1"
IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder, *words):
    command = ["git", "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(folder):
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "m", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def commits():
    actual = collect_environment()
    return actual["working_folder_commit"], actual["xpnet_commit"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The working folder, in no repository, and a folder from which the package seems to be loaded."""
    folder, root = tmp_path / "work" / "in" / "here", tmp_path / "checkout"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    file = root / Path(environment.__file__).relative_to(Path(xpnet.__file__).parents[1])
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(environment, "__file__", str(file))
    return folder, root


def test_each_commit_is_that_of_its_own_repository_and_dirty_after_a_change(folders, monkeypatch):
    folder, package = folders
    assert commits() == (None, None)
    (folder / "mine").touch()
    here, there = repository(folder.parent), repository(package)
    (folder / "untracked").touch()
    monkeypatch.setenv("GIT_DIR", str(package / "other.git"))
    clean = {"commit": here, "dirty": False}, {"commit": there, "dirty": False}
    assert commits() == clean
    (folder / "mine").write_text("changed")
    assert commits() == ({"commit": here, "dirty": True}, clean[1])
    Path(environment.__file__).write_text("changed")
    assert commits()[1] == {"commit": there, "dirty": True}


def test_a_package_that_is_no_checkout_has_no_commit_though_it_is_in_one(folders):
    _, package = folders
    repository(package.parent)
    assert commits()[1] is None
    repository(package)
    (package / "xpnet-0.1.0.dist-info").mkdir()  # it is installed there
    assert commits()[1] is None


PROGRAMS = """core.fsmonitor core.pager diff.external diff.f.textconv filter.f.clean filter.f.process
pager.ls-files"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX shell")
def test_nothing_that_a_repository_names_is_run(folders):
    work, marks = folders
    (work / NAME).write_text("1")
    (work / ".gitattributes").write_text("a* filter=f diff=f\n")
    commit = repository(work)
    for key in PROGRAMS.split():
        git(work, "config", key, f'touch "{marks}/{key}"; cat')
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        hook = work / ".git" / "hooks" / name
        hook.write_text(f'#!/bin/sh\ntouch "{marks}/{name}"\n')
        hook.chmod(0o755)
    (work / NAME).write_text("longer")
    before = {*marks.iterdir()}
    assert commits()[0] == {"commit": commit, "dirty": True}
    assert {*marks.iterdir()} == before
    git(work, "status")
    subprocess.run(["git", "-C", str(work), "diff"], capture_output=True, check=False)
    run = {path.name for path in {*marks.iterdir()} - before}
    assert run >= {"core.fsmonitor", "filter.f.process", "diff.external", "post-index-change"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX shell")
def test_nothing_that_a_partial_clone_lacks_is_fetched(folders):
    work, marks = folders
    (work / "file").touch()
    repository(work)
    tree = git(work, "rev-parse", "HEAD^{tree}")
    (work / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "other",
        "protocol.ext.allow": "always",
        "remote.other.promisor": "true",
        "remote.other.url": f"ext::touch {marks}/fetched",
    }.items():
        git(work, "config", key, value)
    assert commits()[0] is None
    assert not (marks / "fetched").exists()
    subprocess.run(["git", "-C", str(work), "status"], capture_output=True, check=False)
    assert (marks / "fetched").exists()
