"""Copies of a run in experiment trackers: Weights & Biases, trackio and MLflow.

The folder of the run holds the complete record, with or without trackers. A child process
(``python -m xpnet.trackers NAME FOLDER``) copies it to each tracker, because their libraries print,
crash, and wait for servers, even at the exit of the interpreter: training neither stops nor slows down.
"""

import faulthandler
import json
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

from filelock import FileLock

from xpnet._lib.extras import install_command, is_installed
from xpnet._lib.files import write_atomic
from xpnet._lib.text import complain, join_lines
from xpnet._typing import Json, Notify
from xpnet.errors import ConfigError, DataError, setting
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import MODEL_FILE, REPORT_FILE, is_number, read_json
from xpnet.training.loop import EpochLog, FitResult, LoopCallback

FILES = (MODEL_FILE, REPORT_FILE)
"""The files that the trackers receive."""
LIMIT = 120.0
"""Seconds that a tracker may take for an epoch, and after the training."""
SILENCE = 1.0
"""Seconds to wait for a tracker after the training before a line says so."""
OPT_OUT = "WANDB_DISABLE_GIT", "WANDB_X_DISABLE_STATS", "HF_HUB_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY"
ENVIRONMENT = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", **dict.fromkeys(OPT_OUT, "true")}
"""Defaults of the libraries' environment variables, which the user can override."""


def check_installed(names: Sequence[str]) -> None:
    """Check that the libraries of these trackers are installed, without importing them.

    Raises
    ------
    ConfigError
        A library is not installed.
    """
    for name in names:
        if not is_installed(name):
            raise ConfigError(f"{setting('track', name)}: {name} is not installed: {install_command(name)}")


class Tracker(LoopCallback):
    """Copies the run in a folder to one tracker; a failure of the tracker is printed as one warning.

    ``echo`` prints a line of text: that the tracker is waited for, and the location of the run in it. With
    ``debug`` the output of the library is shown.
    """

    _closed = False

    def __init__(self, name: str, folder: Path, echo: Notify, *, debug: bool = False) -> None:
        self._name = name
        self._run = folder
        self._echo = echo
        words = [sys.executable, "-P", "-u", "-m", "xpnet.trackers", name, str(folder)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        streams = {"stdin": PIPE, "stdout": PIPE, "stderr": None if debug else DEVNULL}
        options: Any = {**streams, "encoding": "utf-8", "start_new_session": True}  # receives no Ctrl-C
        self._process: Popen[str] = Popen(words, env=env, **options)  # noqa: S603 - validated settings

    def on_epoch_end(self, log: EpochLog) -> None:  # noqa: ARG002
        """Warn if the child process has died."""
        if self._process.poll() is not None:
            self.close()

    def on_train_end(self, result: FitResult) -> None:  # noqa: ARG002
        """Signal the child process that the record is complete."""
        if self._process.stdin:
            self._process.stdin.close()
            self._process.stdin = None

    def close(self) -> None:
        """Print the answer of the child process, once it has ended. After Ctrl-C, let it finish by itself."""
        if self._closed or isinstance(sys.exception(), KeyboardInterrupt):
            return
        self._closed = True
        try:
            answer, _ = self._process.communicate(timeout=SILENCE)
        except TimeoutExpired:
            limit = f"at most {LIMIT:g} s; Ctrl-C leaves it to finish by itself"
            self._echo(f"{self._name:<14}waiting for the copy of the run ({limit})")
            answer, _ = self._process.communicate()
        if self._process.returncode == 0:
            self._echo(f"{self._name:<14}{answer}")
            return
        cause = answer or f"no answer, exit code {self._process.returncode} (the limit is {LIMIT:g} s)"
        complain(f"warning: --track {self._name}: {cause}: nothing is lost, {self._run} has the whole record")


def main() -> None:
    """Copy a run until training has ended. Write its location, or the reason of a failure, to stdout."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)  # what the libraries print goes to standard error
        try:
            source = TrackedRun(sys.argv[1], Path(sys.argv[2]))
            answer.write(copy_to_mlflow(source) if source.tracker == "mlflow" else copy_to_wandb(source))
        except BaseException as error:
            answer.write(join_lines(f"{type(error).__name__}: {error}").rstrip(".")[:300])
            raise


class TrackedRun:
    """The run in a folder, while training writes it, and the progress of its copy in a tracker.

    Attributes
    ----------
    run
        The files of the run; its record is complete once all rows have been read.
    started
        The start of the training, in milliseconds since 1970.
    settings
        The settings, the data, and the backend and device that were used.
    state
        Name, id and tags of the run in the tracker, and the last epoch that was copied, or -1. It is saved
        in track-NAME.json, so that a resumed run continues the copy.
    """

    def __init__(self, tracker: str, folder: Path) -> None:
        self.tracker, self.run = tracker, RunFolder(folder)
        record = self.run.record
        self._path = folder / f"track-{tracker}.json"
        self.started = int(datetime.fromisoformat(record["started"]).timestamp() * 1000)
        data = {f"data_{name}": value for name, value in record["data"].items()}
        used = {"backend_used": record["backend"], "device_used": record["device_used"]}
        self.settings: Json = {**record["config"], **data, **used, "started": record["started"]}
        unique = f"{self.started:x}"[-8:]
        saved: Json = read_json(self._path, "damaged", "expected a file") if self._path.exists() else {}
        self.state = {"name": f"{folder.name}-{unique}", "run": unique, "tags": [], "epoch": -1, **saved}
        faulthandler.dump_traceback_later(LIMIT, exit=True)

    def save(self) -> None:
        """Write the state to its file."""
        write_atomic(self._path, json.dumps(self.state).encode())

    def read_rows(self) -> Iterator[tuple[int, int, Json]]:
        """Yield epoch, time and metrics of each epoch that is not copied yet, and at last of the result.

        It waits for the training, whose end closes standard input. Times are milliseconds since 1970, of
        epochs without the pauses of a resumed run.

        Raises
        ------
        DataError
            Another run has taken the folder.
        """
        training = threading.Thread(target=sys.stdin.read, daemon=True)
        training.start()
        ended = False
        while not ended:
            training.join(1.0)
            ended = not training.is_alive()
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            self.run = RunFolder(self.run.path)
            if self.run.record["started"] != self.settings["started"]:
                raise DataError(f"{self.run.path}: holds another run now")
            for row in (new := [row for row in self.run.history if row["epoch"] > self.state["epoch"]]):
                self.state["epoch"] = row.pop("epoch")
                row.pop("fingerprint", None)  # no metric
                yield self.state["epoch"], self.started + int(1000 * row["seconds"]), row
            if new:
                self.save()
        record = self.run.record
        metrics, time = record["metrics"] or {}, record["ended"] or datetime.now(UTC).isoformat()
        result = {key: metrics[key] for key in metrics if key.startswith(("test_", "best_", "seconds"))}
        row = {**result, "status": record["status"], "fingerprint": record["fingerprint"]}
        yield max(self.state["epoch"], 0), int(datetime.fromisoformat(time).timestamp() * 1000), row


def copy_to_wandb(source: TrackedRun) -> str:
    """Copy a run to wandb or trackio, which have the same functions. Return its location.

    wandb writes into the folder ``wandb`` beside the run's, offline, unless its own environment variables
    say otherwise; trackio into the folder that ``trackio show`` reads.
    """
    out = source.run.path.resolve().parent
    state = source.state
    is_wandb = source.tracker == "wandb"
    folders = {"WANDB_DIR": str(out), "WANDB_DATA_DIR": str(out / "wandb")}  # the latter for a later sync
    os.environ |= {**ENVIRONMENT, **folders, **os.environ, "WANDB_RUN_ID": state["run"]}
    project = os.environ.get(f"{source.tracker.upper()}_PROJECT", "xpnet")
    with warnings.catch_warnings(record=True, action="ignore") as caught:
        warnings.filterwarnings("always", category=UserWarning, module="trackio")  # it has lost data
        module = import_module(source.tracker)
        tags = {"tags": source.settings.get("tags")} if is_wandb else {}  # which trackio lacks
        run = module.init(project=project, name=state["name"], config=source.settings, resume="allow", **tags)
        if not is_wandb:
            run.config["_Created"] = source.settings["started"]  # else the start of the copy
        for epoch, time, row in source.read_rows():
            run.log(row | ({"_timestamp": time / 1000} if is_wandb else {}), step=epoch)
        for file in filter(Path.exists, (source.run.path / name for name in FILES)):
            run.log_artifact(str(file), name=f"{file.stem}-{state['run']}", type=file.stem)
        run.finish(**({"exit_code": int(source.run.record["status"] != "completed")} if is_wandb else {}))
    if caught:
        raise RuntimeError(caught[0].message)
    folder = os.path.relpath(Path(run.dir).parent) if is_wandb else f"project {project}, run {state['name']}"
    return str(run.url or folder)


def copy_to_mlflow(source: TrackedRun) -> str:
    """Copy a run to MLflow. Return its location.

    MLflow writes into mlflow.db beside the run's folder, or to MLFLOW_TRACKING_URI if that is set.
    """
    out, state = source.run.path.resolve().parent, source.state
    default = f"sqlite:///{(out / 'mlflow.db').as_posix().replace('%', '%25').replace('?', '%3F')}"
    os.environ |= {**ENVIRONMENT, "MLFLOW_TRACKING_URI": default, **os.environ}
    mlflow, experiment = import_module("mlflow"), os.environ.get("MLFLOW_EXPERIMENT_NAME", "xpnet")
    artifacts = (out / "mlartifacts").as_uri() if os.environ["MLFLOW_TRACKING_URI"] == default else None
    with FileLock(out / ".mlflow.lock"):  # two clients must not create the tables at once
        client = mlflow.MlflowClient()
        known = client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else client.create_experiment(experiment, artifacts)
    if state["epoch"] < 0:
        state["run"] = client.create_run(number, source.started, run_name=state["name"]).info.run_id
        parameters = {name: value for name, value in source.settings.items() if name != "tags"}
        mlflow.log_params(parameters, run_id=state["run"])
    client.update_run(state["run"], "RUNNING")
    tags = source.settings.get("tags", [])
    replaced = {*state["tags"]} - {*tags}  # those of an earlier session
    for tag in client.get_run(state["run"]).data.tags.keys() & replaced:
        client.delete_tag(state["run"], tag)
    for tag in tags:
        client.set_tag(state["run"], tag, "true")
    state["tags"] = tags
    source.save()
    for epoch, time, row in source.read_rows():
        metrics = {key: row[key] for key in row if is_number(row[key])}
        mlflow.log_metrics(metrics, epoch, run_id=state["run"], timestamp=time)
    client.set_tag(state["run"], "fingerprint", source.run.record["fingerprint"])
    for file in filter(Path.exists, (source.run.path / name for name in FILES)):
        client.log_artifact(state["run"], str(file))
    status = {"completed": "FINISHED", "failed": "FAILED"}.get(source.run.record["status"], "KILLED")
    client.set_terminated(state["run"], status, time)
    return f"experiment {experiment}, run {state['name']}"


if __name__ == "__main__":
    main()
