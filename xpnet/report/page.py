"""The report as HTML: its sections, and the frame around them."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from string import Template

from xpnet.nn.architecture import shown as sizes_shown
from xpnet.report.classes import classes
from xpnet.report.curves import curves
from xpnet.report.facts import ReportData
from xpnet.report.images import image_side
from xpnet.report.markup import Markup, element, joined, json_script, note, percent, section
from xpnet.report.network import embedded, no_drawing
from xpnet.report.origin import origin
from xpnet.report.pictures import mistakes, weights
from xpnet.report.record import shown


def duration(seconds: float) -> str:
    """Return a time as text: 0.62 s, 75 s, 12 min, 3.2 h."""
    if seconds < 120:
        return f"{seconds:.3g}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


RECORDED_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("test loss", "test_loss", "{:.4f}".format),
    ("validation accuracy", "validation_accuracy", percent),
    ("training accuracy", "train_accuracy", percent),
    ("epochs", "epochs", "{:,.0f}".format),
    ("training time", "seconds", duration),
)
"""The label of each figure of the record in the header, its name in the record, and its form."""
SECTIONS = (curves, classes, mistakes, weights, origin)


def page(facts: ReportData) -> bytes:
    """Return the report as a file."""
    style, script = _file("style.css"), _file("page.js")
    version = facts.story.record["versions"].get("xpnet")
    used = "" if version is None else f" {shown(version)}"
    footer = f"The report of a run of xpnet{used}: one file, which needs no other and no connection."
    reason = no_drawing(facts.predictor.model, facts.data)
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    text = Template(_file("page.html")).substitute(
        policy=policy,
        style=style,
        script=script,
        title=joined([f"{facts.story.name} · xpnet"]),
        header=_header(facts),
        main=joined([_drawing(facts, reason), *(make(facts) for make in SECTIONS)]),
        footer=joined([footer]),
        network="" if reason else json_script("network", embedded(facts.predictor.model, facts.data)),
    )
    # Names of folders may hold what is no text: lone surrogates.
    return text.encode("utf-8", "replace")


def _file(name: str) -> str:
    return files("xpnet.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return what names an inline script or style in the page's Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _header(facts: ReportData) -> Markup:
    story, model = facts.story, facts.predictor.model
    record = story.record
    status = record["status"]
    kind = "status" if status == "completed" else "status unfinished"
    text = "running, or killed" if status == "running" else status
    sub = (
        f" · {record['data']['name']} · network {sizes_shown(model.sizes)} · "
        f"{record['started'][:16].replace('T', ' ')} UTC"
    )
    return joined(
        [
            element("p", "xpnet report", class_="over"),
            element("h1", story.name),
            element("p", element("span", text, class_=kind), sub, class_="sub"),
            element("dl", *_key_figures(facts), class_="figures"),
        ]
    )


def _key_figures(facts: ReportData) -> Iterator[Markup]:
    metrics = facts.story.record["metrics"] or {}

    def figure(label: str, text: str, kind: str | None = None) -> Markup:
        return element("div", element("dt", label), element("dd", text), class_=kind)

    yield figure("test accuracy", percent(facts.evaluation.accuracy), "main")
    for label, key, written in RECORDED_FIGURES:
        value = metrics.get(key)
        if isinstance(value, int | float):
            yield figure(label, written(value))
    layers = [*facts.predictor.model.layers, *facts.predictor.model.norms]
    parameters = sum(part[name].size for part in layers for name in ("weight", "bias"))
    yield figure("parameters", f"{parameters:,}")


def _drawing(facts: ReportData, reason: str | None) -> Markup:
    if reason is not None:
        return section("draw", "Draw a digit", note(f"Drawing is off: {reason}."))
    side = image_side(facts.data.features)
    field = Markup(Template(_file("draw.html")).substitute(side=side))
    return section("draw", "Draw a digit", field)
