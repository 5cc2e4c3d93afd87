"""A trained network from the folder of a run or from a model file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet._lib.text import complain
from xpnet.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.config import TrainConfig
    from xpnet.config.settings import Arithmetic
    from xpnet.inference.predictor import Predictor
    from xpnet.storage.model_file import SavedModel


@dataclass(frozen=True)
class Trained:
    """A network, and what is known of its training.

    Attributes
    ----------
    name
        What the user calls it: the folder of a run, or a file.
    predictor
        The network at work.
    config
        The settings of the training; None for a bare model file.
    data_sha256
        The digest of the data of the training; None for a bare model file.

    """

    name: str
    predictor: "Predictor"
    config: "TrainConfig | None" = None
    data_sha256: str | None = None

    @property
    def features(self) -> int:
        """Number of values in a sample."""
        return self.predictor.model.sizes[0]


def load_trained(run: Path | None, device: str, backend: str, arithmetic: "Arithmetic | None") -> Trained:
    """Return a trained network, on a device and a backend, in an arithmetic.

    Parameters
    ----------
    run
        The folder of a run, or a model file; None for the newest trained run in ``runs``.
    device, backend
        As in ``xpnet.backends.resolve.resolve``.
    arithmetic
        By default that of the training.

    Raises
    ------
    DataError
        There is no such run or file, or none at all, it is damaged, or the run has not ended.
    ConfigError
        There is no such device or backend.
    BackendError
        It is not usable here.

    """
    from xpnet.backends.resolve import resolve
    from xpnet.inference.predictor import Predictor, model_path
    from xpnet.storage.find import newest
    from xpnet.storage.model_file import load_model

    path = newest().folder if run is None else run
    record = _ended(path) if path.is_dir() else None
    model = load_model(model_path(path))
    config = sha256 = None
    if record is not None:
        config, sha256 = _training(path, record, model)
    selection = resolve(device, backend)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    arithmetic = arithmetic or (None if config is None else config.arithmetic)
    predictor = Predictor(model, selection.backend, arithmetic)
    return Trained(str(path), predictor, config, sha256)


def _ended(folder: Path) -> dict[str, Any]:
    """Return the record of a run that has ended with a network."""
    from xpnet.storage.record import read_run

    record: dict[str, Any] = dict(read_run(folder))
    if record.get("status") == "running":
        msg = (
            f"{folder}: is still running, or was killed: wait until it has ended, "
            f"or go on with xpnet train --resume {folder}"
        )
        raise DataError(msg)
    if record.get("status") not in ("completed", "interrupted"):
        msg = f"{folder}: holds no trained network, as the training has failed"
        raise DataError(msg)
    return record


def _training(folder: Path, record: dict[str, Any], model: "SavedModel") -> "tuple[TrainConfig, str]":
    """Return settings and digest of the data from a record, which must be that of the model."""
    from xpnet.config import from_resolved
    from xpnet.storage.model_file import fingerprint
    from xpnet.storage.record import RECORD_FILE

    path = folder / RECORD_FILE
    config: Any = record.get("config")
    data: Any = record.get("data")
    expected: Any = record.get("fingerprint")
    sha256: Any = data.get("sha256") if isinstance(data, dict) else None
    for key, value, kind in (
        ("config", config, dict),
        ("data.sha256", sha256, str),
        ("fingerprint", expected, str),
    ):
        if not isinstance(value, kind):
            wanted = "an object" if kind is dict else "a string"
            msg = f"{path}: {key}: expected {wanted}, got {type(value).__name__}"
            raise DataError(msg)
    found = fingerprint(model.layers, model.norms)
    if found != expected:
        msg = (
            f"{folder}: its model has the fingerprint {found[:16]}…, run.json says {expected[:16]}…: "
            "name the .safetensors file to use it all the same"
        )
        raise DataError(msg)
    return from_resolved(config, str(path)), sha256


def classes_of(
    predictor: "Predictor", x: "NDArray[np.generic]", name: str
) -> "tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.floating]]":
    """Return logits (m, classes), predicted classes (m,) and probabilities (m, classes) of raw rows.

    Raises
    ------
    DataError
        `name`, where the rows are from, has another number of features, or numbers so large that an
        output is not finite.

    """
    import numpy as np

    features = predictor.model.sizes[0]
    if x.shape[1] != features:
        msg = f"{name}: has {x.shape[1]} features a sample, the network takes {features}"
        raise DataError(msg)
    logits, probabilities = predictor.outputs(x)
    if not (np.isfinite(logits).all() and np.isfinite(probabilities).all()):
        msg = f"{name}: the network's outputs are not all finite: are its numbers far too large?"
        raise DataError(msg)
    return logits, np.argmax(logits, axis=1), probabilities
