"""Loading of trained networks from run folders and model files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib.text import complain
from xpnet.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from xpnet.config import TrainConfig
    from xpnet.config.settings import Arithmetic
    from xpnet.inference.predictor import Predictor
    from xpnet.storage.model_file import SavedModel
    from xpnet.storage.record import Record


@dataclass(frozen=True)
class LoadedModel:
    """A trained network and the settings of its training.

    Attributes
    ----------
    name
        The path that the user gave: a run folder or a file.
    predictor
        The network, ready for inference.
    config
        The training settings; None for a model file.
    data_sha256
        The SHA-256 of the training data; None for a model file.
    """

    name: str
    predictor: "Predictor"
    config: "TrainConfig | None" = None
    data_sha256: str | None = None

    @property
    def features(self) -> int:
        """The number of features."""
        return self.predictor.model.sizes[0]

    @property
    def class_names(self) -> "Sequence[str | int]":
        """The names of the classes, or their numbers if they have no names."""
        return self.predictor.model.columns.classes or range(self.predictor.classes)


def load_for_inference(
    run: Path | None, device: str, backend: str, arithmetic: "Arithmetic | None"
) -> LoadedModel:
    """Load a trained network for inference on a device, backend and arithmetic.

    Parameters
    ----------
    run
        The folder of a run, or a model file; None for the newest trained run in ``runs``.
    device, backend
        As in ``xpnet.backends.resolve.resolve``.
    arithmetic
        None for that of the training.

    Raises
    ------
    DataError
        The run or file is missing or damaged, or the run has not ended.
    ConfigError
        The device or backend is unknown.
    BackendError
        The device or backend is not usable on this machine.
    """
    from xpnet.backends.resolve import resolve
    from xpnet.config import from_json
    from xpnet.inference.predictor import Predictor, model_path
    from xpnet.storage.find import find_newest_run
    from xpnet.storage.model_file import load_model
    from xpnet.storage.record import RECORD_FILE

    path = find_newest_run().folder if run is None else run
    config = sha256 = None
    if path.is_dir():
        record, model = load_run(path)
        config, sha256 = from_json(record["config"], str(path / RECORD_FILE)), record["data"]["sha256"]
        arithmetic = arithmetic or config.arithmetic
    else:
        model = load_model(model_path(path))
    selection = resolve(device, backend)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    return LoadedModel(str(path), Predictor(model, selection.backend, arithmetic), config, sha256)


def load_run(folder: Path) -> "tuple[Record, SavedModel]":
    """Return the record and the model of a run that has ended.

    Raises
    ------
    DataError
        One of the two is missing or damaged, the run has not ended or has failed, or the model is not the
        one that the record names.
    """
    from xpnet.inference.predictor import model_path
    from xpnet.storage.model_file import fingerprint, load_model
    from xpnet.storage.record import read_run

    record = read_run(folder)
    if record["status"] == "running":
        remedy = f"wait until it has ended, or go on with xpnet train --resume {folder}"
        msg = f"{folder}: is still running, or was killed: {remedy}"
        raise DataError(msg)
    if record["status"] == "failed":
        msg = f"{folder}: holds no trained network, as the training has failed"
        raise DataError(msg)
    model = load_model(model_path(folder))
    digest, expected = fingerprint(model.layers, model.norms), record["fingerprint"] or "none"
    if digest != expected:
        msg = (
            f"{folder}: its model has the fingerprint {digest[:16]}…, run.json says {expected[:16]}…: "
            "name the .safetensors file to use it all the same"
        )
        raise DataError(msg)
    return record, model


def predict_classes(
    predictor: "Predictor", x: "NDArray[np.generic]", name: str
) -> "tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.floating]]":
    """Return logits (m, classes), predicted classes (m,) and probabilities (m, classes) of raw rows.

    Raises
    ------
    DataError
        The number of features differs from the network's, or an output is not finite. Messages call the
        rows `name`.
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
