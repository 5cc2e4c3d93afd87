"""The environment of a run: Python, the platform, the versions of the libraries, and git commits."""

import os
import platform
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from xpnet._lib.source import digest_source

GIT_TIMEOUT = 2.0
"""Seconds to wait for git; after that the record lacks the commit."""

ARRAY_LIBRARIES = ("numpy", "cupy", "dpctl", "dpnp", "jax", "jaxlib", "torch")
LIBRARIES = ("xpnet", *ARRAY_LIBRARIES, "pandas", "array_api_compat", "array_api_strict", "safetensors")
"""Modules whose versions a record names if they are loaded."""
_ENTRY = re.compile(
    rb"(\d+) (\w+) .\t([^\0]+)\0.*\n +mtime: (\d+):(\d+)\n.*\n.*\n +size: (\d+)\tflags: (\w+)\n"
)
"""A tracked file in the output of ``git ls-files -z --stage --debug``."""
_UNSEEN = 0x40008000
"""The flags of files of which the user says that they are absent (skip-worktree) or unchanged."""


Commit = dict[str, str | bool] | None
"""A git commit: commit (hexadecimal) and dirty; None outside a repository."""


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
    working_folder_commit
        The git commit of the repository that contains the working folder: commit (hexadecimal) and dirty
        (True if tracked files were changed, or touched: their sizes and times are compared with the index,
        not their contents); None outside a repository.
    xpnet_commit
        The same of the checkout that xpnet is loaded from; None for an installed xpnet.
    source_sha256
        The SHA-256 of xpnet's Python files, of `digest_source`; not in records before schema version 4.
    """

    python: str
    platform: str
    versions: dict[str, str]
    working_folder_commit: Commit
    xpnet_commit: Commit
    source_sha256: str


def collect_environment() -> Environment:
    """Return Python, platform, the versions of the loaded libraries and the git commits.

    Loads no library and never raises.
    """
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in LIBRARIES}
    # A package in site-packages, beside which its installer puts metadata, or in another folder of somebody's
    # repository, is not of that repository.
    root = Path(__file__).resolve().parents[2]
    is_checkout = (root / ".git").exists() and not any(root.glob("xpnet-*.dist-info"))
    ceiling = {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "versions": {name: str(version) for name, version in versions.items() if version},
        "working_folder_commit": _describe_commit("."),
        "xpnet_commit": _describe_commit(str(root), **ceiling) if is_checkout else None,
        "source_sha256": digest_source(),
    }


def _describe_commit(folder: str, **variables: str) -> Commit:
    """Return commit and dirty flag of the repository that contains a folder; None without a commit.

    A bare repository, and one of another user that git refuses (safe.directory), have none. Programs that the
    repository names are not run: git fetches nothing, and reads no file, which filters would change.
    """
    # GIT_DIR of a hook would select another repository; --no-optional-locks and fsmonitor=false keep git
    # from taking locks and starting daemons.
    variables |= {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    variables |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}  # the former of git 2.45 and later

    def ask(*words: str) -> bytes:
        command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", folder, *words]
        null = subprocess.DEVNULL
        return subprocess.check_output(command, env=variables, stdin=null, stderr=null, timeout=GIT_TIMEOUT)  # noqa: S603 - constant commands

    try:
        commit = ask("rev-parse", "--verify", "HEAD").decode().strip()
        staged = ask("diff-index", "--cached", "--name-only", "HEAD", ":/")
        index = ask("ls-files", "-z", "--stage", "--debug", ":/")
        rest = _ENTRY.sub(lambda entry: b"" if _is_unchanged(folder, entry) else entry[0], index)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one without commits
        return None
    return {"commit": commit, "dirty": bool(staged or rest)}


def _is_unchanged(folder: str, entry: re.Match[bytes]) -> bool:
    """Return whether a file has the size and time of its entry in the index, or a submodule its commit."""
    mode, commit, name, *numbers, flags = entry.groups()
    path, is_unseen = Path(folder, os.fsdecode(name)), bool(int(flags, 16) & _UNSEEN)
    if is_unseen or not os.path.lexists(path):
        return is_unseen
    status, (seconds, nanoseconds, size) = path.lstat(), map(int, numbers)
    if mode == b"160000":
        clean, is_empty = {"commit": commit.decode(), "dirty": False}, not os.path.lexists(path / ".git")
        return stat.S_ISDIR(status.st_mode) and (is_empty or _describe_commit(str(path)) == clean)
    whole, rest = divmod(status.st_mtime_ns, 10**9)
    is_same = (status.st_size % 2**32, whole) == (size, seconds)
    return is_same and (rest == nanoseconds or 0 in (rest, nanoseconds))  # archives keep whole seconds
