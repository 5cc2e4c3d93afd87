"""The folder of a run: its files are read here, each when it is needed, and strictly."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.config import TrainConfig, from_json
from xpnet.errors import ConfigError, DataError
from xpnet.storage import record as records

if TYPE_CHECKING:
    from xpnet.storage.model_file import SavedModel


class RunFolder:
    """The files of a run.

    Reading a property raises DataError if its file is missing or damaged.

    Attributes
    ----------
    path
        The path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def record(self) -> records.Record:
        """The content of run.json."""
        return records.read_run(self.path)

    @cached_property
    def config(self) -> TrainConfig:
        """The settings of the training."""
        return from_json(self.record["config"], str(self.path / records.RECORD_FILE))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; none if it does not exist."""
        return records.read_metrics(self.path / records.METRICS_FILE)

    @cached_property
    def model(self) -> "SavedModel":
        """The network, which may lack a fingerprint in the record only if the run is not completed.

        Raises
        ------
        DataError
            It is missing or damaged, or is not the one that the record names.
        """
        from xpnet.storage.model_file import fingerprint, load_model  # loads NumPy, which lists do not need

        model = load_model(self.path / records.MODEL_FILE)
        digest = fingerprint(model.layers, model.norms)
        expected = self.record["fingerprint"] or ("none" if self.record["status"] == "completed" else digest)
        if digest != expected:
            difference = f"its model has the fingerprint {digest[:16]}…, run.json says {expected[:16]}…"
            remedy = "predict and evaluate take the .safetensors file all the same"
            raise DataError.at(self.path, f"{difference}: {remedy}")
        return model

    @property
    def checkpoint(self) -> Path:
        """The path of the last checkpoint, which may not exist."""
        return self.path / records.CHECKPOINT_FILE

    @cached_property
    def progress(self) -> dict[str, Any]:
        """The facts in the last checkpoint: epoch, batch, rows, seconds and best epoch."""
        from xpnet.storage.checkpoint import load_checkpoint

        return load_checkpoint(self.checkpoint)[1]

    @property
    def epochs(self) -> int:
        """The number of epochs in the last checkpoint."""
        return int(self.progress["epoch"])

    @property
    def initial_epoch(self) -> int:
        """The number of epochs of the state that the training began with."""
        parent = self.record["parent"]
        return 0 if parent is None else parent["epochs"]

    @property
    def parent(self) -> "RunFolder | None":
        """The run that this one extends, perhaps moved beside it; None if it extends none."""
        parent = self.record["parent"]
        if parent is None:
            return None
        folder = Path(parent["run"])
        return RunFolder(folder if folder.exists() else self.path.resolve().parent / folder.name)

    def kept(self, epoch: int) -> Path:
        """Return the path of the checkpoint that was kept after an epoch, if it was."""
        return self.path / records.KEPT_CHECKPOINT.format(epoch)

    @property
    def files(self) -> list[Path]:
        """The files whose digests the record holds: history, model and checkpoints."""
        names = records.METRICS_FILE, records.MODEL_FILE, records.CHECKPOINT_FILE
        kept = sorted(self.path.glob(records.KEPT_CHECKPOINT.format("[0-9]*")))
        return [path for path in (*(self.path / name for name in names), *kept) if path.is_file()]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of the record, history, model and checkpoints, by path."""
        return {str(path): digest_file(path) for path in (self.path / records.RECORD_FILE, *self.files)}

    def check_files(self, remedy: str) -> None:
        """Check that the data of the training are in files; the message ends with the `remedy`.

        Raises
        ------
        DataError
            It was trained from Python on arrays.
        """
        if self.record["data"].get("source") == "arrays":
            raise DataError.at(self.path, f"was trained on arrays in Python, which are in no file: {remedy}")

    def check_specification(self) -> None:
        """Check that the training followed this version of the specification, or was in native arithmetic.

        Raises
        ------
        ConfigError
            It followed another one, so that going on with it would mix the bits of two.
        """
        from xpnet.arithmetic import SPECIFICATION_VERSION  # loads NumPy, which lists do not need

        version, writer = self.record["specification_version"], self.record["versions"].get("xpnet")
        if version not in (None, SPECIFICATION_VERSION):
            remedy = f"expected version {SPECIFICATION_VERSION}: use the xpnet that trained it"
            remedy += f", {writer}" if writer else ""
            raise ConfigError.at(self.path, f"follows version {version} of the specification, {remedy}")

    def find_other_data(self, name: str, sha256: str) -> str | None:
        """Describe the data of the training if data of this name and digest are others; else return None."""
        data = self.record["data"]
        if sha256 == data["sha256"]:
            return None
        original = f"{data['name']} with SHA-256 {data['sha256'][:16]}…"
        return f"was trained on other data: {original}, found {name} with {sha256[:16]}…"


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
