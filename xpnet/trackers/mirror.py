"""``python -m xpnet.trackers.mirror NAME FOLDER SECONDS``: copy one run to one tracker.

The process reads the run's folder until its standard input is closed: training has ended, or was killed.
Standard output says where the tracker has the run, or, with exit code 1, why it failed.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from xpnet._lib.files import write_atomic
from xpnet._lib.locks import Lock
from xpnet.storage.record import METRICS_FILE, MODEL_FILE, is_number, read_json, read_run

PROJECT = "xpnet"
"""Name of the project or experiment in the trackers."""
PAUSE = 1.0
"""Seconds from one look into the folder to the next."""
LONGEST_REASON = 300
"""Characters of an error that are shown."""
STATUSES = {"completed": "FINISHED", "failed": "FAILED"}
"""MLflow's words for how a run ended; any other ending is KILLED."""
ENVIRONMENT = {
    "WANDB_MODE": "offline",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_X_DISABLE_STATS": "true",  # of this process, not of the training
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables of the libraries that hold unless the user has set them."""


def main() -> int:
    """Copy a run until training has ended, and print the answer."""
    name, folder, seconds = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # standard output is for the answer, not for what the libraries print
    ended = threading.Event()
    threading.Thread(target=_wait, args=(ended, float(seconds), output), daemon=True).start()
    try:
        source = Source(Path(folder), name, ended)
        answer, code = copy_to_mlflow(source) if name == "mlflow" else copy_to_wandb(source, name), 0
    except BaseException as error:  # noqa: BLE001 - whatever a library raises is the answer
        traceback.print_exc()
        answer, code = " ".join(f"{type(error).__name__}: {error}".split()).rstrip("."), 1
    output.write(answer if len(answer) <= LONGEST_REASON else f"{answer[: LONGEST_REASON - 1]}…")
    output.close()
    return code


def _wait(ended: threading.Event, seconds: float, output: IO[str]) -> None:
    """Set the event once standard input is closed, and end the process so many seconds later."""
    sys.stdin.read()
    ended.set()
    time.sleep(seconds)
    output.write(f"not done {seconds:g} s after the training")
    output.flush()
    os._exit(1)


class Source:
    """The run in a folder, while training writes it, and how much of it a tracker has.

    The latter is saved in track-NAME.json, so that a resumed run goes on where the tracker has it.

    Attributes
    ----------
    record
        The content of run.json; complete after the last of the rows.
    name, run
        Name and id of the run in the tracker; the id is None until the tracker has one.
    """

    def __init__(self, folder: Path, tracker: str, ended: threading.Event) -> None:
        self.folder, self.record, self._ended = folder, read_run(folder), ended
        suffix = hashlib.sha256(self.record["started"].encode()).hexdigest()[:8]  # no other run has it
        state: dict[str, Any] = {"run": None, "name": f"{folder.name}-{suffix}", "epoch": -1}
        self._path = folder / f"track-{tracker}.json"
        if self._path.exists():
            state = read_json(self._path, "not the state of a tracker", "expected the state of a tracker")
        self.run, self.name, self._epoch = state["run"], state["name"], state["epoch"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, the data, and the device and backend that were used."""
        record = self.record
        return {
            **record["config"],
            **{f"data_{name}": value for name, value in record["data"].items()},
            "folder": str(self.folder),
            "backend_used": record["backend"],
            "device_used": record["device_used"],
            "xpnet_version": record["versions"].get("xpnet"),
        }

    @property
    def files(self) -> list[Path]:
        """The model and the report, as far as they exist."""
        return [path for name in (MODEL_FILE, "report.html") if (path := self.folder / name).exists()]

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield epoch and metrics of each logged epoch until training has ended, and then the test metrics.

        Epochs that the tracker has are left out.
        """
        path, started = self.folder / METRICS_FILE, self.record["started"]
        size, saved, ended = 0, None, False
        while not ended:
            ended = self._ended.wait(PAUSE)
            self.record = read_run(self.folder)
            if self.record["started"] != started:
                msg = f"{self.folder} was replaced by another run"
                raise ValueError(msg)
            text = path.read_bytes()[size:] if path.exists() else b""
            for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
                size += len(line)
                row = _numbers(json.loads(line))
                if (epoch := int(row.pop("epoch"))) > self._epoch:
                    yield epoch, row
                    self._epoch = epoch
            if self._epoch != saved:
                state = {"run": self.run, "name": self.name, "epoch": self._epoch}
                write_atomic(self._path, json.dumps(state).encode())
                saved = self._epoch
        if metrics := self.record["metrics"]:
            yield int(_numbers(metrics)["epochs"]), final_metrics(metrics)


def final_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a run that has ended which no epoch has."""
    per_class = enumerate(metrics.get("test_accuracy_per_class") or [])
    values = _numbers({**metrics, **{f"test_accuracy_class_{label}": share for label, share in per_class}})
    return {name: value for name, value in values.items() if name.startswith(("test_", "best_"))}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if is_number(value)}


def copy_to_wandb(source: Source, library: str) -> str:
    """Copy a run to wandb or trackio, whose calls are the same, and return where it is.

    wandb writes into the folder ``wandb`` beside the run's, offline, unless its own environment variables
    say otherwise; trackio into the folder that ``trackio show`` looks into.
    """
    out = source.folder.resolve().parent
    folders = {"WANDB_DIR": str(out), "WANDB_DATA_DIR": str(out / "wandb")}  # the latter for a later sync
    os.environ |= {**ENVIRONMENT, **folders, **os.environ}
    project = os.environ.get(f"{library.upper()}_PROJECT", PROJECT)
    module = import_module(library)
    source.run = source.run or source.name.rpartition("-")[2]
    os.environ["WANDB_RUN_ID"] = source.run  # trackio goes by the name
    with warnings.catch_warnings(
        record=library == "trackio"
    ) as caught:  # it raises nothing when it loses data
        run = module.init(project=project, name=source.name, config=source.settings, resume="allow")
        for epoch, metrics in source.rows():
            run.log(metrics, step=epoch)
        facts = {key: source.record[key] for key in ("status", "fingerprint")}
        for file in source.files:
            artifact = module.Artifact(f"{file.stem}-{source.run}", type=file.stem, metadata=facts)
            artifact.add_file(str(file))
            run.log_artifact(artifact)
        if library == "wandb":
            where: str = run.url or os.path.relpath(Path(run.dir).parent)
            run.finish(exit_code=int(source.record["status"] != "completed"))
            return where
        run.finish()
    folder = str(Path(module.__file__ or "").parent)
    for lost in caught or []:
        if issubclass(lost.category, UserWarning) and lost.filename.startswith(folder):
            raise RuntimeError(lost.message)
    return f"project {project}, run {source.name}"


def copy_to_mlflow(source: Source) -> str:
    """Copy a run to MLflow, and return where it is.

    MLflow writes into mlflow.db beside the run's folder, or where MLFLOW_TRACKING_URI says.
    """
    out = source.folder.resolve().parent
    default = f"sqlite:///{(out / 'mlflow.db').as_posix().replace('%', '%25').replace('?', '%3F')}"
    os.environ |= {**ENVIRONMENT, "MLFLOW_TRACKING_URI": default, **os.environ}
    local = os.environ["MLFLOW_TRACKING_URI"] == default
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    mlflow = import_module("mlflow")
    # Two clients must not make the tables at once.
    lock = Lock.take(out / ".mlflow.lock", wait=60) if local else None
    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(experiment) is None:
        client.create_experiment(experiment, (out / "mlartifacts").as_uri() if local else None)
    if lock is not None:
        lock.release()
    if source.run is None:
        experiment_id = client.get_experiment_by_name(experiment).experiment_id
        started = _milliseconds(source.record["started"])
        source.run = client.create_run(experiment_id, started, run_name=source.name).info.run_id
        settings = {key: value for key, value in source.settings.items() if value is not None}
        texts = [value if isinstance(value, str) else json.dumps(value) for value in settings.values()]
        mlflow.log_params(dict(zip(settings, texts, strict=True)), run_id=source.run)
    client.update_run(source.run, "RUNNING")
    for epoch, metrics in source.rows():
        mlflow.log_metrics(metrics, epoch, run_id=source.run)
    record = source.record
    if record["fingerprint"]:
        client.set_tag(source.run, "fingerprint", record["fingerprint"])
    for file in source.files:
        client.log_artifact(source.run, str(file))
    status = STATUSES.get(record["status"], "KILLED")
    client.set_terminated(source.run, status, _milliseconds(record["ended"]))
    # An address of the user's may hold a password.
    store = f"{source.folder.parent / 'mlflow.db'}, " if local else ""
    return f"{store}experiment {experiment}, run {source.name}"


def _milliseconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main())
