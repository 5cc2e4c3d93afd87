"""What a report takes from the record of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xpnet.storage.record import CURVES, METRICS_FILE, Record, read_metrics, read_run

LONGEST = 300
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Story:
    """A run as its record tells it.

    Attributes
    ----------
    name
        Of the run's folder.
    record
        The content of run.json.
    curves
        For each name in CURVES the (epoch, value) pairs, without those that are not finite.
    """

    name: str
    record: Record
    curves: Mapping[str, list[tuple[float, float]]]


def read_story(folder: Path) -> Story:
    """Return what the record in the folder of a run says.

    Raises
    ------
    DataError
        run.json is missing, or it or metrics.jsonl is damaged.
    """
    record, rows = read_run(folder), read_metrics(folder / METRICS_FILE)
    curves = {
        name: [
            (float(row["epoch"]), float(row[name]))
            for row in rows
            if row.get("epoch") is not None and row.get(name) is not None
        ]
        for name in CURVES
    }
    return Story(folder.resolve().name, record, curves)


def shown(value: object) -> str:
    """Return a value of a record for people to read."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    items = value if isinstance(value, list) else [value]
    text = " ".join(map(str, items)) or "none"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
