"""The record of a run: its folder, with run.json, metrics.jsonl and model.safetensors.

Every file is complete whenever it is there, except that a crash can tear the last line of
metrics.jsonl, which `read_metrics` then leaves out.
"""

import errno
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, cast

from xpnet.errors import ConfigError, DataError
from xpnet.files import unwritable, write_atomic

if TYPE_CHECKING:
    from xpnet.checkpoint import SavedModel

SCHEMA_VERSION = 1
RECORD_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
MODEL_FILE = "model.safetensors"
GIT_TIMEOUT = 2.0
"""Seconds after which a record does without the git commit."""

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
"""Modules whose versions a record names, where they are loaded."""

Ending = Literal["completed", "interrupted", "failed"]


class Given(TypedDict):
    """What the caller knows when a run starts."""

    command: list[str]
    """The command line, a word an item."""
    config: dict[str, Any]
    """Every setting, as `xpnet.config.resolved` returns them."""
    seed: int
    device_requested: str
    """As in --device: auto, cpu, cuda, cuda:N."""
    device_used: str
    device_reason: str | None
    """Why the device used is not the one requested; None where it is."""
    backend: str
    data: dict[str, Any]
    """The data set: sha256, name and counts."""


class Environment(TypedDict):
    """Where a run happens."""

    python: str
    """Implementation and version."""
    platform: str
    """Operating system, its version and the processor."""
    versions: dict[str, str]
    """Versions of the loaded libraries, by module name."""
    git: dict[str, Any] | None
    """commit (hexadecimal) and dirty (whether tracked files were changed); None outside a
    checkout of xpnet."""


class Outcome(TypedDict, total=False):
    """What the caller knows when a run ends."""

    metrics: dict[str, Any]
    """At least train_loss, train_accuracy, test_accuracy and test_accuracy_per_class."""
    fingerprint: str
    """SHA-256 of the parameters, as `xpnet.checkpoint.fingerprint` returns it."""
    error: str
    """Why the run failed."""


class Record(Given, Environment):
    """The content of run.json.

    `Given` comes from the caller; `Run.start` adds the rest, and `Run.finish` the outcome.
    """

    schema_version: int
    """Grows when a key changes its meaning or goes."""
    id: str
    """The name of the run's folder."""
    status: Literal["running", "completed", "interrupted", "failed"]
    """A run that was killed stays "running"."""
    started: str
    """ISO 8601, UTC."""
    ended: str | None
    metrics: dict[str, Any] | None
    fingerprint: str | None
    error: str | None


@dataclass(frozen=True)
class Run:
    """A run that has its folder, and a record in it.

    Attributes
    ----------
    folder
        The folder of the run.
    record
        What run.json holds at the moment.
    """

    folder: Path
    record: Record
    _identity: tuple[int, int] | None

    @property
    def id(self) -> str:
        """The name of the run's folder."""
        return self.record["id"]

    @classmethod
    def start(cls, out: Path, name: str | None, overwrite: bool, record: Given) -> Self:  # noqa: FBT001 - as the settings are
        """Make the folder of a run, with a record whose status is "running".

        The folder is ``out/name``, or ``out/<UTC time and a few random digits>`` without a name. It
        appears complete or not at all. An existing run is replaced if `overwrite` says so, and
        stands unchanged if that fails.

        Raises
        ------
        ConfigError
            ``out/name`` exists, and is to stay or is no run; or the folder cannot be written.
        """
        prepared = out / f".starting-{os.urandom(8).hex()}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            if name is not None:
                _check_free(out / name, overwrite=overwrite)
            prepared.mkdir()
            identity = _identity(prepared)
            while True:
                first = _first_record(_new_id() if name is None else name, record)
                write_atomic(prepared / RECORD_FILE, _json(first))
                folder = out / first["id"]
                if _take(prepared, folder, overwrite=overwrite and name is not None):
                    return cls(folder, first, identity)
                if name is not None:
                    msg = f"{folder}: another run has just taken this name: choose another --name"
                    raise ConfigError(msg)
        except OSError as error:
            raise _no_folder(out, error) from error
        finally:
            shutil.rmtree(prepared, ignore_errors=True)

    def log(self, values: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl; floats read back exactly, those not finite as null.

        Raises
        ------
        ConfigError
            The file cannot be written, or the folder is no longer this run's.
        """
        line = json.dumps(_finite(dict(values)), allow_nan=False) + "\n"
        path = self.folder / METRICS_FILE
        self._check_folder()
        try:
            with path.open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            raise unwritable(path, error) from error

    def save_model(self, model: "SavedModel") -> None:
        """Write model.safetensors, completely or not at all.

        Raises
        ------
        ConfigError
            The file cannot be written, or the folder is no longer this run's.
        """
        from xpnet.checkpoint import save_model

        self._check_folder()
        save_model(self.folder / MODEL_FILE, model)

    def finish(self, status: Ending, **outcome: Unpack[Outcome]) -> None:
        """Complete run.json with the status, the time and the outcome.

        Raises
        ------
        ConfigError
            The file cannot be written, or the folder is no longer this run's.
        """
        if strangers := sorted(set(outcome) - set(Outcome.__annotations__)):
            msg = f"unknown outcome {strangers}: expected {sorted(Outcome.__annotations__)}"
            raise TypeError(msg)
        self._check_folder()
        ended = cast("Record", {"status": status, "ended": _now(), **outcome})
        self.record.update(ended)
        path = self.folder / RECORD_FILE
        try:
            write_atomic(path, _json(self.record))
        except OSError as error:
            raise unwritable(path, error) from error

    def _check_folder(self) -> None:
        """Refuse to mix this run's files with those of a run that took its folder."""
        if _identity(self.folder) != self._identity:
            msg = f"{self.folder}: was replaced or removed while this run was using it"
            raise ConfigError(msg)


def environment() -> Environment:
    """Return Python, platform, the versions of the loaded libraries and the git commit.

    Loads no library and never raises.
    """
    versions = {name: _version(name) for name in LIBRARIES if name in sys.modules}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "versions": {name: version for name, version in versions.items() if version},
        "git": _git(Path(__file__).resolve().parents[1]),
    }


def read_run(folder: Path) -> Record:
    """Return the record in the folder of a run.

    Raises
    ------
    DataError
        The folder holds no run.json, or one that is damaged or of another schema version.
    """
    path = folder / RECORD_FILE
    record = _object(_content(path, "a folder of a run"))
    if record is None:
        msg = f"{path}: not a run record: expected a JSON object"
        raise DataError(msg)
    if record.get("schema_version") != SCHEMA_VERSION:
        found = json.dumps(record.get("schema_version"))[:60]
        msg = f"{path}: schema_version: expected {SCHEMA_VERSION}, got {found}"
        raise DataError(msg)
    return cast("Record", record)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, without a last line that a crash has torn.

    Raises
    ------
    DataError
        The file is missing, or a line in it is damaged.
    """
    *complete, last = _content(path, "a metrics.jsonl").split(b"\n")
    lines = []
    for number, text in enumerate(complete, start=1):
        line = _object(text)
        if line is None:
            msg = f"{path}: line {number}: expected a JSON object, got {_shown(text)}"
            raise DataError(msg)
        lines.append(line)
    unfinished = _object(last)
    return lines if unfinished is None else [*lines, unfinished]


def _first_record(run_id: str, given: Given) -> Record:
    return cast(
        "Record",
        {
            "schema_version": SCHEMA_VERSION,
            "id": run_id,
            "status": "running",
            "started": _now(),
            "ended": None,
            **given,
            **environment(),
            "metrics": None,
            "fingerprint": None,
            "error": None,
        },
    )


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise ConfigError if `folder` is there, unless it is a run to be replaced."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        msg = f"{folder}: exists already: choose another --name, or replace it with --overwrite"
        raise ConfigError(msg)
    if folder.is_symlink() or not (folder / RECORD_FILE).is_file():
        msg = f"{folder}: not a run (no {RECORD_FILE} in it), so --overwrite leaves it alone"
        raise ConfigError(msg)


def _take(prepared: Path, folder: Path, *, overwrite: bool) -> bool:
    """Give the folder `prepared` the name `folder`; return False if another run holds that name.

    The system renames no folder onto one that holds files, so that of two runs one wins.
    """
    aside = folder.with_name(f".replaced-{os.urandom(8).hex()}")
    try:
        if overwrite and folder.exists():
            folder.rename(aside)
        prepared.rename(folder)
    except BaseException as error:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        if isinstance(error, OSError) and error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return False
        raise
    # The new run stands: what cannot be deleted of the old one must not stop it.
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _new_id() -> str:
    """Return a name that sorts by time and differs between runs of the same second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what distinguishes a folder from a later one of the same name; None if it is gone."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _no_folder(out: Path, error: OSError) -> ConfigError:
    problem = "is a file" if out.is_file() else error.strerror or type(error).__name__
    return ConfigError(f"--out: no run can be written in {out} ({problem}): choose another folder")


def _json(record: Record) -> bytes:
    return (json.dumps(_finite(record), indent=2, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    """Return `value` with null for each float that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _content(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}): expected {expected}"
        raise DataError(msg) from error


def _object(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `text` holds, or None if it holds anything else."""
    try:
        value = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _shown(text: bytes) -> str:
    """Return a damaged line for a message: on one line, and short."""
    return json.dumps(text[:60].decode(errors="replace"))


def _version(module: str) -> str | None:
    version = getattr(sys.modules[module], "__version__", None)
    return None if version is None else str(version)


def _git(root: Path) -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout `root`, or None if it is not one of xpnet."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists() or not _is_xpnet(root / "pyproject.toml"):
        return None
    # A hook's GIT_DIR would name another repository; a status must neither lock nor start a daemon.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = [git, "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root)]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        answer = subprocess.run(  # noqa: S603 - no word of it comes from outside
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.decode(errors="replace").splitlines()
    commits = [line.removeprefix("# branch.oid ") for line in lines if "# branch.oid " in line]
    if not commits or commits[0] == "(initial)":
        return None
    return {"commit": commits[0], "dirty": any(not line.startswith("#") for line in lines)}


def _is_xpnet(pyproject: Path) -> bool:
    try:
        project = tomllib.loads(pyproject.read_bytes().decode()).get("project")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(project, dict) and project.get("name") == "xpnet"
