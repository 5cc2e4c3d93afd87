"""A trained network from the folder of a run or from a model file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib.text import complain
from xpnet.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.config import TrainConfig
    from xpnet.config.settings import Arithmetic
    from xpnet.inference.predictor import Predictor
    from xpnet.storage.model_file import SavedModel
    from xpnet.storage.record import Record


@dataclass(frozen=True)
class LoadedModel:
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


def load_for_inference(
    run: Path | None, device: str, backend: str, arithmetic: "Arithmetic | None"
) -> LoadedModel:
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
    from xpnet.config import from_json
    from xpnet.inference.predictor import Predictor, model_path
    from xpnet.storage.find import newest
    from xpnet.storage.model_file import load_model
    from xpnet.storage.record import RECORD_FILE, read_run

    path = newest().folder if run is None else run
    config = sha256 = None
    if path.is_dir():
        record = read_run(path)
        _check_ended(path, record)
        model = load_model(model_path(path))
        _check_fingerprint(path, record, model)
        config, sha256 = from_json(record["config"], str(path / RECORD_FILE)), record["data"]["sha256"]
        arithmetic = arithmetic or config.arithmetic
    else:
        model = load_model(model_path(path))
    selection = resolve(device, backend)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    return LoadedModel(str(path), Predictor(model, selection.backend, arithmetic), config, sha256)


def _check_ended(folder: Path, record: "Record") -> None:
    if record["status"] == "running":
        msg = (
            f"{folder}: is still running, or was killed: wait until it has ended, "
            f"or go on with xpnet train --resume {folder}"
        )
        raise DataError(msg)
    if record["status"] == "failed":
        msg = f"{folder}: holds no trained network, as the training has failed"
        raise DataError(msg)


def _check_fingerprint(folder: Path, record: "Record", model: "SavedModel") -> None:
    from xpnet.storage.model_file import fingerprint

    digest, expected = fingerprint(model.layers, model.norms), record["fingerprint"] or "none"
    if digest != expected:
        msg = (
            f"{folder}: its model has the fingerprint {digest[:16]}…, run.json says {expected[:16]}…: "
            "name the .safetensors file to use it all the same"
        )
        raise DataError(msg)


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
