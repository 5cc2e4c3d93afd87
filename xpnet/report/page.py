"""The report as HTML: the variables of the templates, and the environment that renders them."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from xpnet.inference.evaluation import Evaluation
from xpnet.report.charts import confusion_cells, learning_curves
from xpnet.report.content import ReportData
from xpnet.report.images import image_side, ink_image, no_image, weight_image
from xpnet.report.network import embedded, full_ink, no_drawing
from xpnet.report.settings import command_line, format_value, training_settings

MOST_CELLS = 64
"""Classes up to which the confusion matrix is drawn."""
MOST_ROWS = 100
"""Classes of which the table shows the metrics; of more, it shows those with the lowest F1."""
MOST_MISTAKES = 20
MOST_UNITS = 40
"""Units of the first layer whose weights are shown."""


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share as text: 0.9385 is 93.85 %, and none is a dash."""
    return "\u2013" if share is None else f"{100.0 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """Return a time as text: 0.62 s, 75 s, 12 min, 3.2 h."""
    if seconds < 120:
        return f"{seconds:.3g}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


def page(report: ReportData) -> bytes:
    """Return the report as a file."""
    text = environment().get_template("page.html").render(variables(report))
    # Names of folders may hold what is no text: lone surrogates.
    return text.encode("utf-8", "replace")


def environment() -> Environment:
    """Return the environment of the templates: every value is escaped, and a missing one is an error."""
    templates = Environment(
        loader=PackageLoader("xpnet.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "decimal": "{:.1f}".format,
        "duration": duration,
        "percent": percent,
        "thousands": "{:,}".format,
        "value": format_value,
    }
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


def variables(report: ReportData) -> dict[str, Any]:
    """Return the variables of the templates."""
    model, data, record = report.predictor.model, report.data, report.record
    weight = model.layers[0]["weight"]
    side, reason = image_side(data.features), no_drawing(model, data)
    return {
        "report": report,
        "record": record,
        "model": model,
        "style": _source("style.css"),
        "script": _source("page.js"),
        "parameters": sum(
            part[name].size for part in (*model.layers, *model.norms) for name in ("weight", "bias")
        ),
        "side": side,
        "no_image": no_image(data.features),
        "no_drawing": reason,
        "network": None if reason else embedded(model, data),
        "charts": learning_curves(report.curves),
        "classes": _classes(report.evaluation),
        "mistakes": _mistakes(report),
        "weights": [] if side is None else [weight_image(row) for row in weight[:MOST_UNITS]],
        "command": command_line(record["command"]),
        "settings": training_settings(record["config"]),
    }


def _source(name: str) -> dict[str, str]:
    """Return an inline style or script, and its hash for the page's Content-Security-Policy."""
    text = files("xpnet.report").joinpath("templates", name).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": text, "hash": f"sha256-{digest}"}


def _classes(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the metrics of each class, the most frequent mistakes, and the cells of the confusion matrix.

    None without a confusion matrix.
    """
    metrics, confusion = evaluation.classes, evaluation.confusion
    if confusion is None:
        return None
    order = list(range(len(metrics)))
    if len(order) > MOST_ROWS:
        order = sorted(order, key=lambda index: metrics[index].f1 or 0.0)[:MOST_ROWS]
    misread = confusion.copy()
    np.fill_diagonal(misread, 0)
    frequent = np.argsort(-misread, axis=None, kind="stable")[:3]
    places = zip(*np.unravel_index(frequent, misread.shape), strict=True)
    return {
        "rows": [(index, metrics[index], misread[index].argmax(), misread[index].max()) for index in order],
        "frequent": [(*place, misread[place]) for place in places if misread[place]],
        "cells": confusion_cells(confusion.tolist()) if len(metrics) <= MOST_CELLS else None,
    }


def _mistakes(report: ReportData) -> list[dict[str, Any]]:
    """Return the test samples that the network gets wrong, the most confident first."""
    data, evaluation = report.data, report.evaluation
    predicted, probabilities = evaluation.predicted, evaluation.probabilities
    wrong = np.flatnonzero(predicted != data.y_test)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")[:MOST_MISTAKES]
    has_image = image_side(data.features) is not None
    return [
        {
            "row": row,
            "label": data.y_test[row],
            "predicted": predicted[row],
            "probabilities": probabilities[row],
            "image": ink_image(data.x_test[row], full_ink(data)) if has_image else None,
        }
        for row in wrong[order].tolist()
    ]
