"""The extension of a completed run: a new run that goes on with its state, for more epochs."""

from collections.abc import Set as AbstractSet
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path

from xpnet.config import TrainConfig
from xpnet.config.constraints import merge_settings
from xpnet.config.rules import flag, format_value
from xpnet.config.settings import RunSettings
from xpnet.config.training import DEFAULTS
from xpnet.errors import ConfigError, DataError
from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.record import CHECKPOINT_FILE, MODEL_FILE, ParentInfo
from xpnet.storage.run import check_specification

KEPT_SETTINGS = {"data", "test_data", "test_split", "label", "missing", "columns", "validation", "normalize"}
KEPT_SETTINGS |= {"hidden", "activation", "batch_norm", "init", "init_from", "optimizer", "seed", "repeats"}
KEPT_SETTINGS |= {"arithmetic", "dtype", "loss", "class_weight"}
"""Settings that an extension shares with its parent: data, network, state of the optimiser, loss."""

OWN_SETTINGS = {field.name for field in fields(RunSettings)} - {"log_every", "checkpoint_seconds"}
OWN_SETTINGS |= {"epochs", "init_from"}
"""Settings of which the parent's do not apply to the extension."""


class Parent(RunFolder):
    """A completed run to extend."""

    @property
    def epochs(self) -> int:
        """The number of its epochs."""
        return int(self.progress["epoch"])

    @cached_property
    def info(self) -> ParentInfo:
        """The part of the extension's record that names the parent."""
        return {
            "run": str(self.path),
            "started": self.record["started"],
            "epochs": self.epochs,
            "fingerprint": str(self.record["fingerprint"]),
            "checkpoint_sha256": digest_file(self.checkpoint),
        }


def read_parent(folder: Path) -> Parent:
    """Read the run in a folder, and check that it can be extended.

    Raises
    ------
    DataError
        There is no run, or its record or checkpoint is damaged.
    ConfigError
        The run is not completed, holds no checkpoint, or follows another version of the specification.
    """
    parent = Parent(folder)
    record = parent.record
    if record["status"] != "completed":
        problem = f"is not completed but {record['status']}: xpnet train --resume {folder} goes on with it"
        raise ConfigError.at(folder, problem)
    check_specification(folder, record)
    if not parent.checkpoint.exists():
        remedy = f"--init-from {folder / MODEL_FILE} starts from its parameters"
        raise ConfigError.at(folder, f"has no {CHECKPOINT_FILE}, the state of its optimiser: {remedy}")
    if parent.epochs != (recorded := (record["metrics"] or {}).get("epochs", parent.epochs)):
        problem = f"was saved after {parent.epochs} epochs, run.json says {recorded}: restore its files"
        raise DataError.at(parent.checkpoint, problem)
    return parent


def extend_settings(parent: Parent, config: TrainConfig, explicit: AbstractSet[str]) -> TrainConfig:
    """Return the settings of an extension: those of the parent, overridden by the ``explicit`` ones.

    The epochs of `config` are added to the parent's.

    Raises
    ------
    ConfigError
        There are no epochs to add, a setting differs that the two must share, or two contradict each other.
    """
    folder, recorded = parent.path, parent.config
    if "epochs" not in explicit or config.epochs < 1:
        msg = f"--extend: expected --epochs N beside it, the epochs to add to the {parent.epochs} of {folder}"
        raise ConfigError(msg)
    for name in sorted(KEPT_SETTINGS & explicit):
        before, now = (format_value(getattr(settings, name)) for settings in (recorded, config))
        if before != now:
            remedy = f"leave it out, or start from its parameters with --init-from {folder / MODEL_FILE}"
            raise ConfigError.at(flag(name), f"{folder} was trained with {before}, got {now}: {remedy}")
    shared = {name: value for name, value in vars(recorded).items() if name not in OWN_SETTINGS}
    inherited = {name: value for name, value in shared.items() if value != DEFAULTS[name]}
    added = {name: getattr(config, name) for name in explicit - {"extend"}}
    values, _ = merge_settings(DEFAULTS, [inherited, added | {"epochs": parent.epochs + config.epochs}])
    if values.average_epochs > config.epochs:
        difference = f"expected at most the {config.epochs} epochs to add, got {values.average_epochs}"
        msg = f"--average-epochs: {difference}"
        raise ConfigError(msg)
    return replace(TrainConfig(**vars(values)), extend=folder)
