"""The environment of a run: versions and the git commit, found without loading or raising anything."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from xpnet.storage import provenance
from xpnet.storage.provenance import collect_environment


def test_the_environment_names_the_libraries_that_are_loaded() -> None:
    actual = collect_environment()
    assert actual["versions"]["numpy"] == np.__version__
    assert set(actual["versions"]) <= set(sys.modules)
    assert actual["python"].endswith(f" {'.'.join(map(str, sys.version_info[:3]))}")
    assert actual["platform"]
    json.dumps(actual)


def test_the_environment_loads_no_library() -> None:
    code = (
        "import sys, xpnet.storage.provenance as t; t.collect_environment()\n"
        "loaded = {'numpy', 'torch', 'jax', 'cupy', 'pandas', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


GIT = shutil.which("git")
IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> str:
    command = [str(GIT), "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of xpnet with one commit, from which the package seems to be loaded."""
    if GIT is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    (root / "xpnet").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "xpnet"\n')
    (root / "xpnet" / "provenance.py").touch()
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "m")
    monkeypatch.setattr(provenance, "__file__", str(root / "xpnet" / "provenance.py"))
    return root


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "-a", "v1", "-m", "m")
    assert collect_environment()["git"] == {"commit": commit, "dirty": False}


def test_only_a_changed_tracked_file_makes_a_checkout_dirty(checkout: Path) -> None:
    (checkout / "untracked").touch()
    assert (collect_environment()["git"] or {})["dirty"] is False
    (checkout / "pyproject.toml").write_text('[project]\nname = "xpnet"\nversion = "1"\n')
    assert (collect_environment()["git"] or {})["dirty"] is True


def test_another_repository_in_the_environment_changes_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = collect_environment()["git"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    assert collect_environment()["git"] == expected
    assert expected is not None


@pytest.mark.parametrize(
    "case",
    [
        "no git",
        "in another checkout",
        "another project",
        "no project",
        "no commit",
        "broken",
        "slow",
    ],
)
def test_where_there_is_no_commit_to_name_there_is_null(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    assert collect_environment()["git"] is not None
    if case == "no git":
        monkeypatch.setenv("PATH", "")
    elif case == "in another checkout":
        (checkout / ".git").rename(checkout.parent / ".git")
    elif case == "another project":
        (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    elif case == "no project":
        (checkout / "pyproject.toml").write_text("[project")
    elif case == "no commit":
        shutil.rmtree(checkout / ".git")
        git(checkout, "init", "--quiet")
    elif case == "broken":
        (checkout / ".git" / "HEAD").write_text("nonsense")
    else:
        tool = checkout / "git"
        tool.write_text("#!/bin/sh\nexec sleep 600\n")
        tool.chmod(0o755)
        monkeypatch.setattr(provenance, "GIT_TIMEOUT", 0.2)
        monkeypatch.setenv("PATH", f"{checkout}{os.pathsep}{os.environ['PATH']}")
    begin = time.monotonic()
    assert collect_environment()["git"] is None
    assert time.monotonic() - begin < 300
