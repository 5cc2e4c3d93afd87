"""What a report tells of a run: its record, and how its network does on the test data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError, DataError
from xpnet.inference.evaluation import Evaluation, evaluate
from xpnet.inference.predictor import Predictor, model_path
from xpnet.report.record import Story, read_story
from xpnet.storage.model_file import fingerprint

MISTAKES = 20


@dataclass(frozen=True, eq=False)
class ReportData:
    """The content of a report."""

    story: Story
    predictor: Predictor
    fingerprint: str
    data: Dataset
    evaluation: Evaluation  # on the test data

    def mistakes(self) -> list[int]:
        """Return the rows of the test samples that the network gets wrong, the surest first."""
        predicted = self.evaluation.predicted
        wrong = np.flatnonzero(predicted != self.data.y_test)
        probabilities = self.evaluation.probabilities[wrong, predicted[wrong]]
        surest: list[int] = wrong[np.argsort(-probabilities, kind="stable")].tolist()
        return surest[:MISTAKES]


def gather(folder: Path, data: Dataset | None, sha256: str | None) -> ReportData:
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
    if arithmetic not in ("native", "reproducible"):
        arithmetic = None
    predictor = Predictor.load(path, device="cpu", backend="numpy", arithmetic=arithmetic)
    digest = fingerprint(predictor.model.layers, predictor.model.norms)
    if story.record["fingerprint"] not in (None, digest):
        msg = f"{path}: is not the model of which run.json tells: its fingerprint is {digest[:16]}…"
        raise DataError(msg)
    if data is None:
        data = _data_again(folder, story)
    _check_data(folder, story, data, sha256 or datasets.digest(data))
    evaluation = evaluate(predictor, data.x_test, data.y_test, name=data.name)
    return ReportData(story, predictor, digest, data, evaluation)


def _data_again(folder: Path, story: Story) -> Dataset:
    """Read the data from where the record says they were."""
    paths = [story.record["config"].get(name) for name in ("data", "test_data")]
    try:
        return datasets.load(*(None if path is None else Path(str(path)) for path in paths))
    except (DataError, ConfigError) as error:
        msg = f"{folder}: name its data with --data: {error}"
        raise DataError(msg) from error


def _check_data(folder: Path, story: Story, data: Dataset, sha256: str) -> None:
    expected, name = story.record["data"]["sha256"], story.record["data"]["name"]
    if sha256 != expected:
        msg = (
            f"{folder}: was trained on {name} with SHA-256 {expected[:16]}…, found {data.name} with "
            f"{sha256[:16]}…: name the data of the training with --data"
        )
        raise DataError(msg)
