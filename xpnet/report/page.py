"""The report as HTML: the content of a run, and the environment that renders it by the templates."""

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig, to_json
from xpnet.config.training import read_table_options
from xpnet.data import datasets
from xpnet.errors import ConfigError, DataError
from xpnet.inference.predictor import Evaluation, Predictor, evaluate, load_run_model
from xpnet.report import BOOKKEEPING, format_command_line, images
from xpnet.report.charts import build_learning_curves
from xpnet.storage.model_file import fingerprint
from xpnet.storage.record import METRICS_FILE, Record, read_metrics, read_run

MOST_CELLS = 64
"""The largest number of classes for which the confusion matrix is drawn."""
MOST_ROWS = 100
"""The largest number of classes in the table; of more, it shows those with the lowest F1."""
MOST_MISTAKES = 20
LONGEST = 300
"""The largest number of characters of a value."""
MOST_UNITS = 40
"""The largest number of units of the first layer whose weights are shown."""


def render_page(folder: Path, data: datasets.Dataset | None, sha256: str | None) -> bytes:
    """Return the HTML page of a run as UTF-8; parameters and errors as in ``xpnet.report.write_report``."""
    record = read_run(folder)
    model = load_run_model(folder, record)
    data = _read_data(folder, record) if data is None else data
    _check_data(folder, record, data, sha256 or datasets.digest(data))
    is_native = record["config"].get("arithmetic") == "native"  # else that of the parameters' dtype
    predictor = Predictor(model, make("numpy", "cpu"), "native" if is_native else None)
    evaluation = evaluate(predictor, data.x_test, data.y_test, name=data.name)
    side = images.image_side(data.features)
    reason = images.explain_no_drawing(model, data)
    names = [str(name) for name in model.columns.classes or range(model.classes)]
    shown = model.layers[0]["weight"][:MOST_UNITS]
    text = make_environment().get_template("page.html").render(
        name=folder.resolve().name,
        record=record,
        model=model,
        data=data,
        evaluation=evaluation,
        fingerprint=fingerprint(model.layers, model.norms),
        style=_read_source("style.css"),
        script=_read_source("page.js"),
        parameters=sum(math.prod(array.shape) for array in leaves(model.parameters)),
        names=names,
        side=side,
        no_drawing=reason,
        network=None if side is None or reason else images.encode_network(model, data) | {"names": names},
        charts=build_learning_curves(read_metrics(folder / METRICS_FILE)),
        classes=_summarize_classes(evaluation),
        mistakes=list(_select_mistakes(data, evaluation)),
        weights=[] if side is None else list(map(images.draw_weight_image, shown)),
        command=format_command_line(record["command"]),
        settings=_list_settings(record["config"]),
    )  # fmt: skip
    # Names of folders may contain lone surrogates, which UTF-8 cannot encode.
    return text.encode("utf-8", "replace")


def make_environment() -> Environment:
    """Return the environment of the templates, which escapes every value and rejects undefined variables."""
    templates = Environment(
        loader=PackageLoader("xpnet.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "decimal": "{:.1f}".format,
        "duration": format_duration,
        "percent": format_percent,
        "thousands": "{:,}".format,
        "value": format_value,
    }
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


def format_value(value: object) -> str:
    """Format a value of a record."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def format_percent(share: float | None, digits: int = 2) -> str:
    """Format a share: 0.9385 as 93.85 %, None as a dash."""
    return "\u2013" if share is None else f"{100.0 * share:.{digits}f}\u00a0%"


def format_duration(seconds: float) -> str:
    """Format a duration: 0.62 s, 75 s, 12 min, 3.2 h."""
    if seconds < 120:
        return f"{seconds:.3g}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


def _read_data(folder: Path, record: Record) -> datasets.Dataset:
    """Read the data again from the path in the record."""
    config = record["config"]
    paths = (config.get(name) for name in ("data", "test_data"))
    data, test_data = (None if path is None else Path(str(path)) for path in paths)
    try:
        return datasets.load(data, test_data, **read_table_options(config))
    except (DataError, ConfigError) as error:
        raise DataError.at(folder, f"name its data with --data: {error}") from error


def _check_data(folder: Path, record: Record, data: datasets.Dataset, sha256: str) -> None:
    """Raise DataError if the data are not those of the training."""
    name, expected = record["data"]["name"], record["data"]["sha256"]
    if sha256 != expected:
        difference = f"{name} with SHA-256 {expected[:16]}…, found {data.name} with {sha256[:16]}…"
        raise DataError.at(folder, f"was trained on {difference}: name the data of the training with --data")


def _read_source(name: str) -> dict[str, str]:
    """Return the text of an inline style or script, and its hash for the page's Content-Security-Policy."""
    text = files("xpnet.report").joinpath("templates", name).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": text, "hash": f"sha256-{digest}"}


def _list_settings(config: Mapping[str, object]) -> list[tuple[str, object, bool]]:
    """Return name and value of each setting of the training, and True if it differs from the default."""
    defaults = to_json(TrainConfig())
    settings = ((name, value) for name, value in config.items() if name not in BOOKKEEPING)
    return [(name, value, value != defaults.get(name, value)) for name, value in settings]


def _summarize_classes(evaluation: Evaluation) -> dict[str, object] | None:
    """Return the metrics of each class, the most frequent mistakes, and the cells of the confusion matrix.

    Return None if there is no confusion matrix.
    """
    metrics, confusion = evaluation.classes, evaluation.confusion
    if confusion is None:
        return None
    order = list(range(len(metrics)))
    if len(order) > MOST_ROWS:
        order = sorted(order, key=lambda index: metrics[index].f1 or 0.0)[:MOST_ROWS]
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    frequent = np.argsort(-mistakes, axis=None, kind="stable")[:3]
    indices = zip(*np.unravel_index(frequent, mistakes.shape), strict=True)
    return {
        "rows": [(index, metrics[index], mistakes[index].argmax(), mistakes[index].max()) for index in order],
        "frequent": [(*index, mistakes[index]) for index in indices if mistakes[index]],
        "cells": _make_cells(confusion) if len(metrics) <= MOST_CELLS else None,
    }


def _make_cells(confusion: NDArray[np.int64]) -> Iterator[tuple[object, ...]]:
    """Yield label, prediction, count, total and opacity of each nonzero cell of a confusion matrix.

    The opacity grows with the cell's share of its row, relative to 1 on the diagonal and to the largest share
    off the diagonal elsewhere, so that the mistakes stand out.
    """
    totals = confusion.sum(axis=1)
    shares = confusion / np.maximum(totals, 1)[:, None]
    worst = np.max(shares, where=~np.eye(len(totals), dtype=bool), initial=0.0)
    for i, j in np.argwhere(confusion):
        relative = shares[i, j] / (1.0 if i == j else worst)
        yield i, j, confusion[i, j], totals[i], 0.06 + 0.5 * relative


def _select_mistakes(data: datasets.Dataset, evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    """Yield row, label, prediction, probabilities and image of the most confident mistakes."""
    predicted, probabilities = evaluation.predicted, evaluation.probabilities
    wrong = np.flatnonzero(predicted != data.y_test)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")[:MOST_MISTAKES]
    has_image = images.image_side(data.features) is not None
    for row in wrong[order].tolist():
        image = images.draw_ink_image(data.x_test[row], images.full_ink(data)) if has_image else None
        yield row, data.y_test[row], predicted[row], probabilities[row], image
