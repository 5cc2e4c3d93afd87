"""What several trainings have recorded, as far as it does not depend on when and where they ran."""

import json
from pathlib import Path

from folders import tree

from xpnet.storage.record import read_metrics, read_run

VARYING = {"command", "started", "ended", "segments", "versions", "digests", "seconds"}


def lasting(value):
    """JSON without the times, the command and the loaded libraries of a training."""
    if isinstance(value, dict):
        return {key: lasting(part) for key, part in value.items() if key not in VARYING}
    return list(map(lasting, value)) if isinstance(value, list) else value


def summary(name):
    return json.loads(Path("runs", name, "summary.json").read_text())


def outcome(name):
    folders = sorted(folder.parent for folder in Path("runs", name).glob("*/run.json"))
    return [
        lasting(summary(name)),
        [*tree(Path("runs", name))],
        [lasting(read_run(folder)) for folder in folders],
        [lasting(read_metrics(folder / "metrics.jsonl")) for folder in folders],
        [(folder / "model.safetensors").read_bytes() for folder in folders],
    ]
