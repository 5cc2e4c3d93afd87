"""The pages as HTML: the report of a run, the comparison of runs, and the environment of their templates."""

import base64
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from xpnet._lib.kinds import check_arguments
from xpnet._lib.text import format_command_line, format_duration
from xpnet._lib.tree import leaves
from xpnet._typing import Json, Values
from xpnet.backends.resolve import make
from xpnet.config import from_json
from xpnet.config.settings import BOOKKEEPING
from xpnet.config.training import recorded_defaults
from xpnet.data.datasets import Dataset, digest, load_shared
from xpnet.errors import ConfigError, DataError
from xpnet.inference.predictor import Evaluation, Predictor, evaluate_rows
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.metrics import Labels
from xpnet.report import images
from xpnet.report.charts import Rows, build_learning_curves, build_overlays
from xpnet.storage.find import FoundRun
from xpnet.storage.folder import RunFolder
from xpnet.storage.model_file import TrainedNetwork
from xpnet.storage.record import REPORT_FILE, Record, format_commits
from xpnet.training.trainer import split_samples

MOST_WHOLE, MOST_CONFUSED = 26, 20
"""The largest number of classes of a whole confusion matrix, and the number of a part of a larger one."""
MOST_ROWS = 100
"""The largest number of classes in the table; of more, it shows those with the lowest F1."""
MOST_MISTAKES = 20
LONGEST = 300
"""The largest number of characters of a value."""
MOST_UNITS, MOST_FEATURES = 40, 20
"""The largest number of units whose weights are images, and of features whose weights are bars."""
MOST_SAMPLES = 1000
"""The largest number of samples of which standard deviations are computed."""


@check_arguments
def render_page(folder: Path, data: Dataset | None, sha256: str | None) -> bytes:
    """Return the HTML page of a run as UTF-8. Parameters and errors as in ``xpnet.report.write_report``."""
    run = RunFolder(folder)
    model = run.model
    if not data:
        run.check_files("its report is in its folder, and the model that xpnet.fit returns writes it anew")
        try:
            data = load_shared(run.config)
        except (DataError, ConfigError) as error:
            raise DataError(f"{run.path}: name its data with --data: {error}") from error
    if problem := run.find_other_data(data.name, sha256 or digest(data)):
        raise DataError(f"{run.path}: {problem}: name the data of the training with --data")
    return render_training(folder.resolve().name, run.record, model, run.history, data)


def render_training(name: str, record: Record, model: TrainedNetwork, history: Rows, data: Dataset) -> bytes:
    """Return the HTML page of a training as UTF-8."""
    part, samples = select_samples(record, data)
    is_native = record["config"].get("arithmetic") == "native"  # else that of the parameters' dtype
    predictor = Predictor(model, make("numpy", "cpu"), "native" if is_native else None)
    evaluation = evaluate_rows(predictor, samples.x_test, samples.y_test, name=data.name)
    side = images.image_side(data)
    has_field = side and images.can_draw(model, samples)
    names = [*map(str, predictor.class_names)]
    shown = model.layers[0]["weight"][:MOST_UNITS]
    best = (record["metrics"] or {}).get("best_epoch")
    defaults = recorded_defaults()
    settings = ((name, value) for name, value in record["config"].items() if name not in BOOKKEEPING)
    text = make_environment().get_template("page.html").render(
        name=name,
        part=part,
        record=record,
        model=model,
        data=data,
        evaluation=evaluation,
        fingerprint=model.fingerprint,
        parameters=sum(math.prod(array.shape) for array in leaves(model.parameters)),
        names=names,
        side=side,
        activation=ACTIVATIONS[model.activation].script,
        network=images.encode_network(model, samples) | {"names": names} if has_field else None,
        charts=build_learning_curves(history, best if isinstance(best, int) else None),
        classes=summarize_classes(samples.y_test, evaluation, names),
        mistakes=list(_select_mistakes(samples, evaluation)),
        file=Path(samples.test_file).name,
        weights=list(map(images.draw_weight_image, shown) if side else _weigh_features(model, samples)),
        command=format_command_line(record["command"]),
        commits=format_commits(record),
        settings=[(name, value, value != defaults.get(name, value)) for name, value in settings],
    )  # fmt: skip
    return _encode(text)


def _encode(text: str) -> bytes:
    """Return a page as UTF-8, with escapes for the characters that change the direction of text.

    Names of folders may contain lone surrogates, which UTF-8 cannot encode.
    """
    marks = "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    text = re.sub(marks, lambda mark: mark[0].encode("unicode_escape").decode(), text)
    return text.encode("utf-8", "replace")


def select_samples(record: Record, data: Dataset) -> tuple[str, Dataset]:
    """Return the part of the data that the page evaluates, and the data with its samples as test samples.

    They are the test samples, else the validation samples, else the training samples.
    """
    if len(data.y_test):
        return "validation" if data.test_is_validation else "test", data
    _, rows = split_samples(from_json(record["config"], "the record"), data)
    part, kept = ("training", slice(None)) if rows is None else ("validation", rows)
    x, y = data.x_train[kept], data.y_train[kept]
    return part, replace(data, x_test=x, y_test=y, test_rows=rows, test_file="")


@cache
def make_environment() -> Environment:
    """Return the environment of the templates, which escapes every value and rejects undefined variables."""
    templates = Environment(loader=PackageLoader("xpnet.report"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    templates.globals["read_source"] = read_source
    templates.filters |= {
        "decimal": "{:.1f}".format,
        "label": format_label,
        "metric": format_page_metric,
        "percent": format_percent,
        "thousands": "{:,}".format,
        "value": format_page_value,
    }
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


def format_page_value(value: object) -> str:
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


def format_page_metric(value: float | None, name: str) -> str:
    """Format a metric: accuracies in percent, seconds as a duration, None as a dash."""
    if value is None or name.endswith("accuracy"):
        return format_percent(value)
    if name == "seconds":
        return format_duration(value).replace(" ", "\u00a0")
    if "epoch" in name:
        return f"{round(value, 1):,.10g}"
    return f"{value:.4f}" if value >= 0.001 else f"{value:.2g}"


def format_label(name: str) -> str:
    """Format the name of a metric as a label."""
    return "training time" if name == "seconds" else name.replace("train_", "training_").replace("_", " ")


def read_source(name: str, activation: str | None = None) -> Json:
    """Return the text of an inline style or script, and its hash for the page's Content-Security-Policy.

    A term of z takes the place of `ACTIVATION` in it.
    """
    text = files("xpnet.report").joinpath("templates", name).read_text("utf-8")
    text = text.replace("ACTIVATION", "null" if activation is None else f"(z) => ({activation})")
    encoded = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": text, "hash": f"sha256-{encoded}"}


def summarize_classes(labels: Labels, evaluation: Evaluation, names: Sequence[str]) -> Json:
    """Return the metrics of each class, the most frequent mistakes, and cells of the confusion matrix.

    Of many classes, the cells are those of the classes with the most mistakes, as labels or predictions.
    """
    metrics, count = evaluation.classes, len(evaluation.classes)
    pairs = Counter(zip(labels.tolist(), evaluation.predicted.tolist(), strict=True))
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    mistakes = [(*pair, times) for pair, times in ordered if pair[0] != pair[1]]
    mistaken_for = {label: (prediction, number) for label, prediction, number in reversed(mistakes)}
    rows = shown = list(range(count))
    if count > MOST_ROWS:
        rows = sorted(rows, key=lambda index: metrics[index].f1 or 0.0)[:MOST_ROWS]
    if count > MOST_WHOLE:
        wrong = Counter(index for *pair, times in mistakes for index in pair * times)
        shown = sorted(sorted(shown, key=lambda index: -wrong[index])[:MOST_CONFUSED])
    table = [(index, metrics[index], *mistaken_for.get(index, (None, 0))) for index in rows]
    cells = _make_cells(shown, pairs, [metrics[index].support for index in shown])
    classes = [names[index] for index in shown]
    return {"rows": table, "frequent": mistakes[:3], "shown": classes, "cells": cells}


def _make_cells(
    shown: Sequence[int], pairs: Mapping[tuple[int, int], int], totals: Sequence[int]
) -> Iterator[tuple[object, ...]]:
    """Yield row, column, count, total and opacity of each nonzero cell of the shown classes.

    `pairs` has the number of samples by label and prediction, `totals` that of each shown label. The opacity
    grows with the cell's share of its total, relative to 1 on the diagonal and to the largest share off the
    diagonal elsewhere, so that the mistakes stand out.
    """
    places = {index: place for place, index in enumerate(shown)}
    inside = ((label, predicted) for label, predicted in pairs if {label, predicted} <= places.keys())
    cells = [(places[i], places[j], pairs[i, j]) for i, j in sorted(inside)]
    worst = max((count / totals[i] for i, j, count in cells if i != j), default=0.0)
    for i, j, count in cells:
        relative = count / totals[i] / (1.0 if i == j else worst)
        yield i, j, count, totals[i], 0.06 + 0.5 * relative


def _weigh_features(model: TrainedNetwork, data: Dataset) -> Iterator[tuple[str, float]]:
    """Yield name and weight of the features with the largest weights in the first layer.

    The weight is the root mean square over the units, times the standard deviation of the normalised feature,
    relative to the largest.
    """
    deviations = data.x_test[:MOST_SAMPLES].std(axis=0, dtype=np.float64) * model.normalization.scale
    weights = np.sqrt(np.mean(np.square(model.layers[0]["weight"], dtype=np.float64), axis=0)) * deviations
    names = model.columns.inputs or [f"feature {index}" for index in range(len(weights))]
    for index in np.argsort(-weights, kind="stable")[:MOST_FEATURES]:
        yield names[index], float(weights[index] / (weights.max() or 1.0))


def _select_mistakes(data: Dataset, evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    """Yield number, label, prediction, probabilities and image of the most confident mistakes."""
    predicted, probabilities = evaluation.predicted, evaluation.probabilities
    wrong = np.flatnonzero(predicted != data.y_test)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")[:MOST_MISTAKES]
    has_image = images.image_side(data)
    for row in wrong[order].tolist():
        image = images.draw_ink_image(data.x_test[row], images.full_ink(data)) if has_image else None
        number = row if data.test_rows is None else data.test_rows[row]
        yield number, data.y_test[row], predicted[row], probabilities[row], image


# The page that compares runs: their metrics, what differs, and their learning curves in common charts

MOST_RUNS = 40
"""The largest number of runs that a page shows."""
COLOURS = 12
"""The number of colours; of more runs, the lines are dashed differently in each round of colours."""


def render_comparison(
    runs: Sequence[FoundRun], comparison: Values, out: Path, *, name: str, summary: Values | None
) -> bytes:
    """Return the page that compares runs, with links to their reports, as UTF-8.

    Parameters
    ----------
    runs
        The runs; they need no model, and need not have ended.
    comparison
        settings, surroundings and metrics as objects of lists, with a value for each run (None for a missing
        one); fingerprints_agree (None if one is missing); and best, the best values of metrics.
    out
        The page's path.
    name
        The heading.
    summary
        The summary of the runs, as of `compare_summary`, if they were trained together.

    Raises
    ------
    DataError
        The history of a run is damaged.
    """
    shown = {f"run c{i % COLOURS} round{i // COLOURS}": run for i, run in enumerate(runs[:MOST_RUNS])}
    text = make_environment().get_template("comparison.html").render(
        name=name,
        summary=summary,
        comparison=comparison,
        count=len(runs),
        runs=[(run, key, _link_report(run.folder, out)) for key, run in shown.items()],
        names={key: run.id for key, run in shown.items()},
        charts=build_overlays({key: run.history for key, run in shown.items()}),
    )  # fmt: skip
    return _encode(text)


def _link_report(folder: Path, out: Path) -> str | None:
    """Return the relative address of the report of a run; None if there is none."""
    report = folder.resolve() / REPORT_FILE
    try:
        path = os.path.relpath(report, os.path.realpath(out.parent))
    except ValueError:  # on another drive
        return None
    return quote(os.fsencode(Path(path).as_posix())) if report.is_file() else None
