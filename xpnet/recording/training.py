"""The start of a recorded training: what its record says, its checks, and the settings of an extension."""

import hashlib
import sys
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from xpnet.arithmetic import SPECIFICATION_VERSION
from xpnet.backends.resolve import Selection
from xpnet.config.rules import format_value
from xpnet.config.settings import DataSettings, RunSettings, names_of
from xpnet.config.training import DEFAULTS, TrainConfig, merge_settings, to_json
from xpnet.data.datasets import Dataset, digest
from xpnet.errors import ConfigError, DataError, setting
from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.record import CHECKPOINT_FILE, MODEL_FILE, DataInfo, ParentInfo, RunInfo
from xpnet.training.score import resolve_best_by

KEPT_SETTINGS = names_of(DataSettings)
KEPT_SETTINGS |= {"hidden", "activation", "batch_norm", "init", "init_from", "optimizer", "seed", "repeats"}
KEPT_SETTINGS |= {"arithmetic", "dtype", "loss", "class_weight"}
"""Settings that an extension shares with its parent: data, network, state of the optimiser, loss."""

OWN_SETTINGS = names_of(RunSettings) - {"log_every", "checkpoint_seconds"} | {"epochs", "init_from"}
"""Settings of which the parent's do not apply to the extension."""


def describe_run(
    config: TrainConfig, selection: Selection, data: Dataset, parent: RunFolder | None = None, *command: str
) -> RunInfo:
    """Return the part of a run's record on its settings, device and data.

    Without the words of a `command` it is that of a call of ``xpnet.fit``, with the script that made it.
    """
    start = config.init_from
    script = [*sys.argv[:1]] if sys.argv and Path(sys.argv[0]).is_file() else []
    return {
        "command": [*command] or ["xpnet.fit", *script],
        "config": to_json(config) | {"best_by": resolve_best_by(config, data.weights)},
        "seed": config.seed,
        "parent": describe_parent(parent) if parent else None,
        "init_from_sha256": digest_file(start) if start and start.is_file() else None,
        "specification_version": SPECIFICATION_VERSION if config.arithmetic == "reproducible" else None,
        "device_requested": selection.device_requested,
        "device_used": selection.device_used,
        "device_reason": selection.reason,
        "backend": selection.backend.name,
        "data": describe_data(data),
    }


def describe_parent(parent: RunFolder) -> ParentInfo:
    """Return the part of an extension's record on the run that it extends."""
    return {
        "run": str(parent.path),
        "fingerprint": str(parent.record["fingerprint"]),
        "started": parent.record["started"],
        "epochs": parent.epochs,
        "checkpoint_sha256": digest_file(parent.checkpoint),
    }


def describe_data(data: Dataset) -> DataInfo:
    """Return the part of a run's record on its data."""
    columns, weights = data.columns, None if data.weights is None else data.weights.astype("<f8").tobytes()
    info = {
        "name": data.name,
        "sha256": digest(data),
        "training_samples": len(data.y_train),
        "test_samples": len(data.y_test) if data.has_test else 0,
        "features": data.features,
        "classes": data.classes,
        "largest_class": int(np.bincount(data.y_train).max()),
        "validation_samples": len(data.y_test) if data.test_is_validation else None,
        "source": "arrays" if data.from_arrays else None,
        "weights_sha256": weights and hashlib.sha256(weights).hexdigest(),
        "feature_names": columns.features and [*columns.features],
        "class_names": columns.classes and [*columns.classes],
    }
    return cast("DataInfo", {name: value for name, value in info.items() if value is not None})


def check_data(run: RunFolder, data: Dataset, name: str) -> None:
    """Check that the data are those of a recorded run, for the setting resume or extend.

    Raises
    ------
    ConfigError
        They are not.
    """
    if problem := run.find_other_data(data.name, digest(data)):
        remedy = f"{setting('init_from')} {run.path / MODEL_FILE} trains its network on them"
        raise ConfigError(f"{setting(name)}: {run.path} {problem}: {remedy}")


def check_start(run: RunFolder, init_from: Path | None) -> None:
    """Check that a file is the model that a recorded training started from.

    Raises
    ------
    ConfigError
        It is not.
    """
    recorded = run.record["init_from_sha256"]
    if not init_from or recorded is None or (found := digest_file(init_from)) == recorded:
        return
    difference = f"expected SHA-256 {recorded[:16]}…, found {init_from} with {found[:16]}…"
    raise ConfigError(f"{run.path}: started from another model: {difference}: restore the file")


def extend_settings(
    folder: Path, config: TrainConfig, explicit: AbstractSet[str]
) -> tuple[TrainConfig, RunFolder]:
    """Return the settings of an extension, those of the run in a folder overridden by the ``explicit`` ones.

    The epochs of `config` are added to those of the run, which is returned too.

    Raises
    ------
    DataError
        There is no run, or its record or checkpoint is damaged.
    ConfigError
        The run is not completed, holds no checkpoint, or follows another version of the specification; there
        are no epochs to add, the folder of the new run is that of the other, a setting differs that the two
        must share, or two contradict each other.
    """
    parent = _read_parent(folder)
    recorded = parent.config
    if "epochs" not in explicit or config.epochs < 1:
        needed = f"{setting('epochs')} N beside it, the epochs to add to the {parent.epochs} of {folder}"
        raise ConfigError(f"{setting('extend')}: expected {needed}")
    if config.name and (config.out / config.name).resolve() == folder.resolve():
        problem = f"{folder}: expected another folder for the new run, got that of its parent"
        raise ConfigError(f"{setting('extend')}: {problem}")
    for name in sorted(KEPT_SETTINGS & explicit):
        before, now = (format_value(getattr(settings, name)) for settings in (recorded, config))
        if before != now:
            start = f"start from its parameters with {setting('init_from')} {folder / MODEL_FILE}"
            difference = f"{folder} was trained with {before}, got {now}: leave it out, or {start}"
            raise ConfigError(f"{setting(name)}: {difference}")
    shared = {name: value for name, value in vars(recorded).items() if name not in OWN_SETTINGS}
    inherited = {name: value for name, value in shared.items() if value != DEFAULTS[name]}
    added = {name: getattr(config, name) for name in explicit - {"extend"}}
    values, _ = merge_settings([inherited, added | {"epochs": parent.epochs + config.epochs}])
    if values.average_epochs > config.epochs:
        difference = f"expected at most the {config.epochs} epochs to add, got {values.average_epochs}"
        raise ConfigError(f"{setting('average_epochs')}: {difference}")
    return replace(TrainConfig(**vars(values)), extend=folder), parent


def _read_parent(folder: Path) -> RunFolder:
    """Return the run in a folder; raise DataError or ConfigError if it cannot be extended."""
    parent = RunFolder(folder)
    record = parent.record
    if record["status"] != "completed":
        problem = f"is not completed but {record['status']}: xpnet train --resume {folder} goes on with it"
        raise ConfigError(f"{folder}: {problem}")
    parent.check_specification()
    if not parent.checkpoint.exists():
        remedy = f"{setting('init_from')} {folder / MODEL_FILE} starts from its parameters"
        raise ConfigError(f"{folder}: has no {CHECKPOINT_FILE}, the state of its optimiser: {remedy}")
    if parent.epochs != (recorded := (record["metrics"] or {}).get("epochs", parent.epochs)):
        problem = f"was saved after {parent.epochs} epochs, run.json says {recorded}: restore its files"
        raise DataError(f"{parent.checkpoint}: {problem}")
    return parent
