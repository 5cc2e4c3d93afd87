"""The content of a report: the record of a run, its network, and the evaluation on the test data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.config.training import TABLE_SETTINGS
from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError, DataError
from xpnet.inference.evaluation import Evaluation, evaluate
from xpnet.inference.predictor import Predictor, model_path
from xpnet.storage.model_file import fingerprint
from xpnet.storage.record import CURVES, METRICS_FILE, Record, read_metrics, read_run


@dataclass(frozen=True, eq=False)
class ReportData:
    """The content of a report.

    Attributes
    ----------
    name
        The name of the run's folder.
    record
        The content of run.json.
    curves
        The (epoch, value) pairs of each name in CURVES, without values that are not finite.
    predictor
        The trained network.
    fingerprint
        SHA-256 of its parameters.
    data
        The data of its training.
    evaluation
        The metrics of the network on the test data.
    """

    name: str
    record: Record
    curves: Mapping[str, list[tuple[float, float]]]
    predictor: Predictor
    fingerprint: str
    data: Dataset
    evaluation: Evaluation


def read_report_data(folder: Path, data: Dataset | None, sha256: str | None) -> ReportData:
    """Read a run, and evaluate its network on the test data.

    Parameters
    ----------
    folder
        The folder of the run.
    data
        Its data; by default they are read again from the path in the record.
    sha256
        The digest of `data`, if it is known already.

    Raises
    ------
    DataError
        The run or its model is missing or damaged, or the data are missing or have changed.
    """
    record = read_run(folder)
    rows = [row for row in read_metrics(folder / METRICS_FILE) if row.get("epoch") is not None]
    curves = {
        name: [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name) is not None]
        for name in CURVES
    }
    path = model_path(folder)
    arithmetic = record["config"].get("arithmetic")
    if arithmetic not in ("native", "reproducible"):
        arithmetic = None
    predictor = Predictor.load(path, device="cpu", backend="numpy", arithmetic=arithmetic)
    digest = fingerprint(predictor.model.layers, predictor.model.norms)
    if record["fingerprint"] not in (None, digest):
        msg = f"{path}: is not the model of which run.json tells: its fingerprint is {digest[:16]}…"
        raise DataError(msg)
    if data is None:
        data = _read_data(folder, record)
    sha256 = sha256 or datasets.digest(data)
    expected = record["data"]["sha256"]
    if sha256 != expected:
        difference = (
            f"{record['data']['name']} with SHA-256 {expected[:16]}…, found {data.name} with {sha256[:16]}…"
        )
        msg = f"{folder}: was trained on {difference}: name the data of the training with --data"
        raise DataError(msg)
    evaluation = evaluate(predictor, data.x_test, data.y_test, name=data.name)
    return ReportData(folder.resolve().name, record, curves, predictor, digest, data, evaluation)


def read_table_options(config: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings of CSV files in a record."""
    return {name: config[name] for name in TABLE_SETTINGS if config.get(name) is not None}


def _read_data(folder: Path, record: Record) -> Dataset:
    """Read the data again from the path in the record."""
    config = record["config"]
    paths = [config.get(name) for name in ("data", "test_data")]
    try:
        return datasets.load(
            *(None if path is None else Path(str(path)) for path in paths), **read_table_options(config)
        )
    except (DataError, ConfigError) as error:
        msg = f"{folder}: name its data with --data: {error}"
        raise DataError(msg) from error
