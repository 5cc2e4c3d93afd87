"""MLflow."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from xpnet._lib.locks import Lock
from xpnet.storage.record import Record

EXPERIMENT = "xpnet"
STATUSES = {"completed": "FINISHED", "failed": "FAILED"}
"""MLflow's words for how a run ended; any other ending is KILLED."""


class MLflow:
    """A run in MLflow: in mlflow.db beside the run's folder, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._folder, out = folder, folder.resolve().parent
        self._elsewhere = "MLFLOW_TRACKING_URI" in os.environ
        path = (out / "mlflow.db").as_posix().replace("%", "%25").replace("?", "%3F")
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        self._experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        self._entities = import_module("mlflow.entities")
        with _alone(out / ".mlflow.lock"):  # it makes its tables now, unless there are some
            self._client = import_module("mlflow").MlflowClient()
            self._experiment_id = self._find_or_create(out)
        self._run = self._name = ""

    def start(self, run: str | None, name: str, settings: Mapping[str, Any]) -> str:
        """Begin a run with the settings as its parameters, or go on with one."""
        self._name = name
        if run is not None:
            self._run = run
            self._client.update_run(run, status="RUNNING")
            return run
        self._run = str(self._client.create_run(self._experiment_id, run_name=name).info.run_id)
        parameters = [
            self._entities.Param(key, value if isinstance(value, str) else json.dumps(value))
            for key, value in settings.items()
            if value is not None
        ]
        self._client.log_batch(self._run, params=parameters)
        return self._run

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the figures after an epoch."""
        now = time.time_ns() // 10**6
        metrics = [self._entities.Metric(key, value, now, epoch) for key, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, record: Record, files: Sequence[Path]) -> str:
        """Log the files as artifacts, the fingerprint as a tag, and end the run."""
        if record["fingerprint"]:
            self._client.set_tag(self._run, "fingerprint", record["fingerprint"])
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, STATUSES.get(record["status"], "KILLED"))
        # An address of the user's may hold a password.
        store = "" if self._elsewhere else f"{self._folder.parent / 'mlflow.db'}, "
        return f"{store}experiment {self._experiment}, run {self._name}"

    def _find_or_create(self, out: Path) -> str:
        known = self._client.get_experiment_by_name(self._experiment)
        if known is not None:
            return str(known.experiment_id)
        files = None if self._elsewhere else (out / "mlartifacts").as_uri()
        return str(self._client.create_experiment(self._experiment, artifact_location=files))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time run the body, by a lock on a file."""
    while (lock := Lock.take(path)) is None:
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()
