"""The environment of a run: versions and the git commits, found without loading or raising anything."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import train
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
    assert actual["python"].endswith(f" {platform.python_version()}")
    assert actual["platform"] == platform.platform()


NAME = "a\nb \t1"
IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder, *words):
    command = ["git", "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(folder):
    """Make a repository with one commit of the files in a folder, and return the commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "m", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def commits():
    """The commits of the working folder and of xpnet."""
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
    git(folder.parent, "init", "--quiet")  # without commits
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
    monkeypatch.setenv("PATH", "")  # without git
    assert commits() == (None, None)


def touch(work, seconds=0.0):
    """Change the time of a file, to that many whole seconds later, or to the beginning of its second."""
    time = (work / NAME).stat().st_mtime
    os.utime(work / NAME, (time, int(time) + seconds))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        (lambda work: touch(work, 1), True),
        (touch, False),  # what an archive without fractions of seconds has kept
        (lambda work: (work / NAME).write_text("longer"), True),
        (lambda work: [(work / NAME).write_text("staged"), git(work, "add", ".")], True),
        (lambda work: (work / NAME).unlink(), True),
        (lambda work: [git(work, "update-index", "--assume-unchanged", NAME), touch(work, 1)], False),
        (lambda work: [git(work, "update-index", "--skip-worktree", NAME), (work / NAME).unlink()], False),
        (lambda work: touch(work / "module", 1), True),
        (lambda work: repository(work / "module"), True),
        (lambda work: git(work, "submodule", "deinit", "--all"), False),
    ],
)
def test_changes_are_told_by_size_and_time(folders, change, dirty):
    work, source = folders
    for folder in folders:
        (folder / NAME).write_text("1")
    repository(source)
    git(work, "init", "--quiet")
    git(work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), "module")
    commit = repository(work)
    assert commits()[0] == {"commit": commit, "dirty": False}
    change(work)
    assert commits()[0] == {"commit": commit, "dirty": dirty}


def test_a_package_that_is_no_checkout_has_no_commit_though_it_is_in_one(folders):
    _, package = folders
    repository(package.parent)
    assert commits()[1] is None
    repository(package)
    (package / "xpnet-0.1.0.dist-info").mkdir()  # it is installed there
    assert commits()[1] is None


def plant(folder, marks, name):
    """Plant programs in a repository, each of which leaves a file of its kind in `marks`."""

    def program(kind):
        return f'touch "{marks}/{name}-{kind}"; cat'

    git_folder, attributes = (
        Path(git(folder, "rev-parse", "--absolute-git-dir")),
        folder.parent / f"{name}.txt",
    )
    rules = {
        place: f"*.{place} filter={place} diff={place}\n" for place in ("tree", "info", "file", "process")
    }
    (folder / ".gitattributes").write_text(rules["tree"] + rules["process"])
    (git_folder / "info" / "attributes").write_text(rules["info"])
    attributes.write_text(rules["file"])
    settings = {"core.attributesFile": attributes, "filter.process.process": program("process")}
    settings |= {f"filter.{place}.clean": program(place) for place in rules if place != "process"}
    settings |= {f"diff.{place}.textconv": program("textconv") for place in rules}
    pagers = "rev-parse", "describe", "status", "ls-files", "diff-index", "diff-files"
    settings |= {"core.pager": program("pager"), **{f"pager.{word}": program("pager") for word in pagers}}
    settings |= {"core.fsmonitor": program("fsmonitor"), "diff.external": program("external")}
    for key, value in settings.items():
        git(folder, "config", key, value)
    for hook in ("post-index-change", "post-checkout", "reference-transaction", "fsmonitor-watchman"):
        (git_folder / "hooks" / hook).write_text(f"#!/bin/sh\n{program('hook')}\n")
        (git_folder / "hooks" / hook).chmod(0o755)
    for place in rules:
        (folder / f"x.{place}").write_text("2\n")


@pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX shell")
def test_a_training_and_a_report_run_nothing_that_a_repository_names(tmp_path, monkeypatch):
    work, marks, source = (tmp_path / name for name in ("work", "marks", "source"))
    for folder in (work, marks, source):
        folder.mkdir()
    for place in ("tree", "info", "file", "process"):
        (source / f"x.{place}").write_text("1\n")
        (work / f"x.{place}").write_text("1\n")
    repository(source)
    git(work, "init", "--quiet")
    git(work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), "module")
    commit = repository(work)
    monkeypatch.chdir(work)
    assert commits()[0] == {"commit": commit, "dirty": False}
    plant(work / "module", marks, "module")
    plant(work, marks, "work")
    assert commits()[0] == {"commit": commit, "dirty": True}
    x, y = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = ["--data", str(tmp_path / "data.npz"), "--epochs", "1", "--out", str(tmp_path), "--quiet"]
    assert train.main(words) == 0
    xpnet.fit(x, y, epochs=1).report(tmp_path / "report.html")
    assert [path.name for path in marks.iterdir()] == []
    git(work, "status")
    subprocess.run(["git", "-C", str(work), "diff"], capture_output=True, check=False)
    seen = {f"{name}-{kind}" for name in ("work", "module") for kind in ("tree", "info", "file", "process")}
    assert {path.name for path in marks.iterdir()} >= seen | {"work-fsmonitor", "work-external"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no POSIX shell")
@pytest.mark.parametrize("lazy", ["1", ""])
def test_nothing_that_a_partial_clone_lacks_is_fetched(folders, monkeypatch, lazy):
    """Neither by a git that knows GIT_NO_LAZY_FETCH, nor by an older one."""
    work, marks = folders[0], folders[1]
    (work / "file").touch()
    repository(work)
    tree = git(work, "rev-parse", "HEAD^{tree}")
    (work / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    settings = {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "other",
        "protocol.ext.allow": "always",
    }
    settings |= {"remote.other.promisor": "true", "remote.other.url": f"ext::touch {marks}/fetched"}
    for key, value in settings.items():
        git(work, "config", key, value)
    check_output = subprocess.check_output

    def run(*words, env, **options):
        return check_output(*words, env={**env, "GIT_NO_LAZY_FETCH": lazy or "0"}, **options)

    monkeypatch.setattr(subprocess, "check_output", run)
    assert commits()[0] is None
    assert not (marks / "fetched").exists()
    subprocess.run(["git", "-C", str(work), "status"], capture_output=True, check=False)
    assert (marks / "fetched").exists()
