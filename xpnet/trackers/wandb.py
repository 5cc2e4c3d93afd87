"""Weights & Biases, and trackio, whose calls are the same."""

import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from xpnet.storage.record import Record

PROJECT = "xpnet"


class Wandb:
    """A run in wandb or trackio, which is called ``library``.

    wandb writes into the folder ``wandb`` beside the run's, offline, unless its own environment variables
    say otherwise; trackio into the folder that ``trackio show`` looks into.
    """

    def __init__(self, library: str, folder: Path) -> None:
        self._library = library
        self._project = os.environ.get(f"{library.upper()}_PROJECT", PROJECT)
        for name, value in _environment(folder.resolve().parent).items():
            os.environ.setdefault(name, value)
        self._module = import_module(library)
        self._lost = _warnings_of(self._module) if library == "trackio" else []
        self._run: Any = None
        self._id = self._name = ""

    def start(self, run: str | None, name: str, settings: Mapping[str, Any]) -> str:
        """Begin a run, or go on with one; trackio knows it by its name, wandb by its id."""
        self._id, self._name = run or name.rpartition("-")[2], name
        os.environ["WANDB_RUN_ID"] = self._id
        self._run = self._module.init(project=self._project, name=name, config=dict(settings), resume="allow")
        return self._id

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the figures after an epoch."""
        self._run.log(dict(figures), step=epoch)

    def finish(self, record: Record, files: Sequence[Path]) -> str:
        """Log each file as an artifact, the model with its fingerprint, and end the run."""
        facts = {"status": record["status"], "fingerprint": record["fingerprint"]}
        for file in files:
            kind = file.stem
            artifact = self._module.Artifact(f"{kind}-{self._id}", type=kind, metadata=facts)
            artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        if self._library == "trackio":
            self._run.finish()
            if self._lost:
                raise RuntimeError(self._lost[0])
            return f"project {self._project}, run {self._name}"
        where: str = self._run.url or os.path.relpath(Path(self._run.dir).parent)
        self._run.finish(exit_code=int(record["status"] != "completed"))
        return where


def _environment(out: Path) -> dict[str, str]:
    """Return what the environment says unless the user's does; ``out`` is where the runs are."""
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(out),
        "WANDB_DATA_DIR": str(out / "wandb"),  # files on their way, which a later sync needs
        "WANDB_CONSOLE": "off",
        "WANDB_SILENT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_X_DISABLE_STATS": "true",  # of this process, not of the training
        "WANDB_ERROR_REPORTING": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _warnings_of(module: ModuleType) -> list[str]:
    """Return a list that will hold what a library warns of: trackio raises nothing when it loses data."""
    lost: list[str] = []
    folder = str(Path(module.__file__ or "").parent)

    def note(message: Warning | str, category: type[Warning], filename: str, *_: object) -> None:
        if issubclass(category, UserWarning) and filename.startswith(folder):
            lost.append(" ".join(str(message).split()))

    warnings.showwarning = note  # type: ignore[assignment]  # Python passes the rest by position
    return lost
