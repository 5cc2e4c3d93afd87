"""Environment of a run: Python, platform, versions of libraries, git commit."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

GIT_TIMEOUT = 2.0
"""Seconds to wait for git; after that the record lacks the commit."""

LIBRARIES = (
    "xpnet",
    "numpy",
    "pandas",
    "array_api_compat",
    "array_api_strict",
    "cupy",
    "jax",
    "jaxlib",
    "safetensors",
    "torch",
)
"""Modules whose versions a record names if they are loaded."""


class Environment(TypedDict):
    """The environment of a run.

    Attributes
    ----------
    python
        Implementation and version.
    platform
        Operating system, its version and the processor.
    versions
        Versions of the loaded libraries, by module name.
    git
        commit (hexadecimal) and dirty (True if tracked files were changed); None outside a checkout.
    """

    python: str
    platform: str
    versions: dict[str, str]
    git: dict[str, str | bool] | None


def collect_environment() -> Environment:
    """Return Python, platform, the versions of the loaded libraries and the git commit.

    Loads no library and never raises.
    """
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in LIBRARIES}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "versions": {name: str(version) for name, version in versions.items() if version},
        "git": _describe_commit(Path(__file__).resolve().parents[2]),
    }


def _describe_commit(root: Path) -> dict[str, str | bool] | None:
    """Return commit and dirty flag of the git checkout `root`, None if it is none."""
    if not (root / ".git").exists():
        return None
    # GIT_DIR of a hook would select another repository; --no-optional-locks and fsmonitor=false keep git
    # from taking locks and starting daemons.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    words = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root), "describe", "--always")
    command = ["git", *words, "--dirty", "--abbrev=64", "--exclude=*"]
    null = subprocess.DEVNULL
    try:
        answer = subprocess.check_output(  # noqa: S603 - the arguments are constants and our own path
            command, env=variables, stdin=null, stderr=null, timeout=GIT_TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a repository without commits
        return None
    commit, _, dirty = answer.decode(errors="replace").strip().partition("-")
    return {"commit": commit, "dirty": bool(dirty)}
