"""The start of a recorded training: what its record says of settings, device and data, and its checks."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpnet.arithmetic import SPECIFICATION_VERSION
from xpnet.backends.resolve import Selection
from xpnet.config import TrainConfig, to_json
from xpnet.data import datasets
from xpnet.errors import ConfigError
from xpnet.recording.extension import Parent
from xpnet.storage.folder import RunFolder, digest_file
from xpnet.storage.record import MODEL_FILE, DataInfo, RunInfo


def describe_run(
    config: TrainConfig,
    selection: Selection,
    data: datasets.Dataset,
    parent: Parent | None = None,
    command: Sequence[str] = (),
) -> RunInfo:
    """Return the part of a run's record on its settings, device and data.

    Without a `command` it is that of a call of ``xpnet.fit``, with the script that made it.
    """
    start = config.init_from
    script = [*sys.argv[:1]] if sys.argv and Path(sys.argv[0]).is_file() else []
    return {
        "command": [*command] or ["xpnet.fit", *script],
        "config": to_json(config),
        "seed": config.seed,
        "parent": None if parent is None else parent.info,
        "init_from_sha256": digest_file(start) if start is not None and start.is_file() else None,
        "specification_version": SPECIFICATION_VERSION if config.arithmetic == "reproducible" else None,
        "device_requested": config.device,
        "device_used": selection.backend.device_name,
        "device_reason": selection.reason,
        "backend": selection.backend.name,
        "data": describe_data(data),
    }


def describe_data(data: datasets.Dataset) -> DataInfo:
    """Return the part of a run's record on its data."""
    info: DataInfo = {
        "name": data.name,
        "sha256": datasets.digest(data),
        "training_samples": len(data.y_train),
        "test_samples": len(data.y_test) if data.has_test else 0,
        "features": data.features,
        "classes": data.classes,
        "largest_class": int(np.bincount(data.y_train).max()),
    }
    if data.test_is_validation:
        info["validation_samples"] = len(data.y_test)
    if data.from_arrays:
        info["source"] = "arrays"
    if data.weights is not None:
        info["weights_sha256"] = hashlib.sha256(data.weights.astype("<f8").tobytes()).hexdigest()
    if data.columns.features is not None:
        info["feature_names"] = list(data.columns.features)
    if data.columns.classes is not None:
        info["class_names"] = list(data.columns.classes)
    return info


def check_extension(parent: Parent, config: TrainConfig, data: datasets.Dataset) -> None:
    """Check that an extension has the data of its parent, and does not replace it.

    Raises
    ------
    ConfigError
        The data differ, or the folder is the parent's.
    """
    if config.name is not None and (config.out / config.name).resolve() == parent.path.resolve():
        msg = f"--extend: {parent.path}: expected another folder for the new run, got that of its parent"
        raise ConfigError(msg)
    check_data(parent, data, "--extend")


def check_data(run: RunFolder, data: datasets.Dataset, setting: str) -> None:
    """Check that the data are those of a recorded run; `setting` is --resume or --extend.

    Raises
    ------
    ConfigError
        They are not.
    """
    digest, recorded, folder = datasets.digest(data), run.record["data"], run.path
    if digest != recorded["sha256"]:
        original = f"{recorded['name']} with SHA-256 {recorded['sha256'][:16]}…"
        difference = f"{original}, found {data.name} with {digest[:16]}…"
        remedy = f": --init-from {folder / MODEL_FILE} trains its network on them"
        raise ConfigError.at(setting, f"{folder} was trained on other data: {difference}{remedy}")


def check_start(run: RunFolder, init_from: Path | None) -> None:
    """Check that a file is the model that a recorded training started from.

    Raises
    ------
    ConfigError
        It is not.
    """
    recorded = run.record["init_from_sha256"]
    if init_from is None or recorded is None or (digest := digest_file(init_from)) == recorded:
        return
    difference = f"expected SHA-256 {recorded[:16]}…, found {init_from} with {digest[:16]}…"
    raise ConfigError.at(run.path, f"started from another model: {difference}: restore the file")
