"""What a tracker holds of a run, read with its own library or from its documented store, as JSON.

``python read_trackers.py TRACKER NAME``, in the folder that holds ``runs``, prints an object. The start is in
milliseconds. As a process of its own it keeps what the libraries warn of away from the tests.
"""

import hashlib
import json
import os
import sqlite3
import struct
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def wandb(name):
    """The transaction logs that `wandb sync` uploads, of all sessions of the run."""
    logs = sorted(Path("runs/wandb").glob(f"offline-run-*-{name.rpartition('-')[2]}/*.wandb"))
    records = [record for log in logs for record in wandb_records(log.read_bytes())]

    def parts(kind):
        return [getattr(record, kind) for record in records if record.HasField(kind)]

    sessions = parts("run")
    assert {run.display_name for run in sessions} == {name}
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in history.item}
        for history in parts("history")
    ]
    entries = [entry for artifact in parts("artifact") for entry in artifact.manifest.contents]
    return {
        "config": {item.key: json.loads(item.value_json) for item in sessions[-1].config.update},
        "history": [[row["_step"], {key: row[key] for key in row if key[0] != "_"}] for row in rows],
        "tags": list(sessions[-1].tags),
        "files": {entry.path: sha256(entry.local_path) for entry in entries},
        "status": "failed" if parts("exit")[-1].exit_code else "completed",
        "fingerprint": rows[-1]["fingerprint"],
        "started": 1000 * (rows[0]["_timestamp"] - rows[0]["seconds"]),
    }


def wandb_records(data):
    """The records of a transaction log: LevelDB's log format after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # too little for a header: the next block
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def trackio(name):
    """The SQLite database of the project, whose schema trackio documents."""
    from trackio import Api

    folder = Path(os.environ["TRACKIO_DIR"])
    (run,) = [run for run in Api().runs("xpnet") if run.name == name]
    with closing(sqlite3.connect(folder / "xpnet.db")) as base:
        rows = base.execute("SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id", [run.id])
        history = [[step, json.loads(metrics)] for step, metrics in rows]
        manifests = base.execute("SELECT manifest FROM artifact_versions WHERE producer_run_id = ?", [run.id])
        entries = [entry for (manifest,) in manifests for entry in json.loads(manifest)]
    blobs = {path.name: path for path in folder.glob("artifacts/xpnet/blobs/sha256/*/*")}
    last, started = history[-1][1], datetime.fromisoformat(run.config["_Created"])
    return {
        "config": run.config,
        "history": history,
        "tags": [],
        "files": {entry["path"]: sha256(blobs[entry["digest"]]) for entry in entries},
        "status": last["status"],
        "fingerprint": last["fingerprint"],
        "started": 1000 * started.timestamp(),
    }


def mlflow(name):
    """MLflow's own client."""
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///runs/mlflow.db"
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("xpnet")
    (run,) = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == name]
    values = [value for key in run.data.metrics for value in client.get_metric_history(run.info.run_id, key)]
    files = client.list_artifacts(run.info.run_id)
    return {
        "config": run.data.params,
        "history": [[value.step, {value.key: value.value}] for value in values],
        "tags": [key for key, value in run.data.tags.items() if value == "true"],
        "files": {file.path: sha256(client.download_artifacts(run.info.run_id, file.path)) for file in files},
        "status": {"FINISHED": "completed"}.get(run.info.status, run.info.status),
        "fingerprint": run.data.tags["fingerprint"],
        "started": run.info.start_time,
    }


if __name__ == "__main__":
    tracker, name = sys.argv[1:]
    print(json.dumps({"wandb": wandb, "trackio": trackio, "mlflow": mlflow}[tracker](name)))
