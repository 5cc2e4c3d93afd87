"""What a report tells of a run: its record, and how its network does on the test data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError, DataError
from xpnet.inference.predictor import Predictor, model_path
from xpnet.nn.metrics import ClassFigures, class_figures, confusion_matrix
from xpnet.report.record import Story, read_story
from xpnet.storage.model_file import fingerprint

MISTAKES = 20


@dataclass(frozen=True)
class Mistake:
    """A test sample that the network gets wrong."""

    index: int  # its row in the test data
    label: int
    predicted: int
    probability: float  # of the predicted class
    label_probability: float  # of the right one


@dataclass(frozen=True, eq=False)
class Facts:
    """All that a report tells."""

    story: Story
    predictor: Predictor
    fingerprint: str
    data: Dataset
    accuracy: float
    confusion: NDArray[np.int64] | None  # None with more than 1,000 classes
    classes: list[ClassFigures]
    mistakes: list[Mistake]


def gather(folder: Path, data: Dataset | None, sha256: str | None) -> Facts:
    """Read a run, and evaluate its network on the test data.

    Parameters
    ----------
    folder
        The folder of the run.
    data
        Its data; by default they are read again from where the record says they were.
    sha256
        The digest of `data`, where it is known already.

    Raises
    ------
    DataError
        The run or its model is missing or damaged, or the data are not there, or not those of the run.

    """
    story = read_story(folder)
    path = model_path(folder)
    arithmetic = story.record["config"].get("arithmetic")
    predictor = Predictor.load(
        path,
        device="cpu",
        backend="numpy",
        arithmetic=arithmetic if arithmetic in ("native", "reproducible") else None,
    )
    found = fingerprint(predictor.model.layers, predictor.model.norms)
    if story.record["fingerprint"] not in (None, found):
        msg = f"{path}: is not the model of which run.json tells: its fingerprint is {found[:16]}…"
        raise DataError(msg)
    if data is None:
        data = _data_again(folder, story)
    _check_digest(folder, story, data, sha256 or datasets.digest(data))
    return _evaluated(story, predictor, found, data)


def _data_again(folder: Path, story: Story) -> Dataset:
    """Read the data from where the record says they were."""
    config = story.record["config"]
    try:
        return datasets.load(_path(config.get("data")), _path(config.get("test_data")))
    except (DataError, ConfigError) as error:
        msg = f"{folder}: name its data with --data: {error}"
        raise DataError(msg) from error


def _path(value: Any) -> Path | None:
    return None if value is None else Path(str(value))


def _check_digest(folder: Path, story: Story, data: Dataset, found: str) -> None:
    expected, name = story.record["data"]["sha256"], story.record["data"]["name"]
    if found != expected:
        msg = (
            f"{folder}: was trained on {name} with SHA-256 {expected[:16]}…, found {data.name} with "
            f"{found[:16]}…: name the data of the training with --data"
        )
        raise DataError(msg)


def _evaluated(story: Story, predictor: Predictor, found: str, data: Dataset) -> Facts:
    classes = predictor.classes
    if data.classes > classes:
        msg = f"{data.name}: has labels up to {data.classes - 1}, the model tells {classes} classes"
        raise DataError(msg)
    logits, probabilities = predictor.outputs(data.x_test)
    if not np.all(np.isfinite(probabilities)):
        msg = f"{story.name}: the network's outputs for the test data are not all finite numbers"
        raise DataError(msg)
    predicted = np.argmax(logits, axis=1)
    return Facts(
        story,
        predictor,
        found,
        data,
        float(np.mean(predicted == data.y_test)),
        confusion_matrix(predicted, data.y_test, classes),
        class_figures(predicted, data.y_test, classes),
        _mistakes(probabilities, predicted, data.y_test),
    )


def _mistakes(
    probabilities: NDArray[np.floating], predicted: NDArray[np.int64], labels: NDArray[np.int32]
) -> list[Mistake]:
    """Return the mistakes of which the network is surest, the surest first."""
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    return [
        Mistake(
            index=int(index),
            label=int(labels[index]),
            predicted=int(predicted[index]),
            probability=float(probabilities[index, predicted[index]]),
            label_probability=float(probabilities[index, labels[index]]),
        )
        for index in surest[:MISTAKES]
    ]
