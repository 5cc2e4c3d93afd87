"""The section with the learning curves."""

from collections.abc import Callable, Sequence

from xpnet.report.charts import Line, line_chart, split
from xpnet.report.facts import ReportData
from xpnet.report.markup import Markup, element, note, section
from xpnet.report.record import Story


def curves(facts: ReportData) -> Markup:
    """Return the section: loss and accuracy by epoch, of training and of validation data."""
    charts = [
        _curve(title, lines, written)
        for title, kind, written in (
            ("Loss", "loss", "{:.3g}".format),
            ("Accuracy", "accuracy", _short_percent),
        )
        if (lines := _lines(facts.story, kind))
    ]
    content = element("div", *charts, class_="pair") if charts else note("The run noted no epoch.")
    return section("curves", "Learning curves", content)


def _short_percent(share: float) -> str:
    return f"{100 * share:.4g}\u00a0%"


def _lines(story: Story, kind: str) -> list[Line]:
    """Return the lines that have points; a single one says in its name that there is no other."""
    names = [name for name in ("train", "validation") if story.curves[f"{name}_{kind}"]]
    only = " only" * (len(names) == 1)
    return [Line(f"{name}{only}", story.curves[f"{name}_{kind}"]) for name in names]


def _curve(title: str, lines: Sequence[Line], written: Callable[[float], str]) -> Markup:
    first, trained = zip(*map(split, lines), strict=True)
    last = [f"{line.name.split()[0]} {written(line.points[-1][1])}" for line in lines]
    before = ", ".join(f"{line.name.split()[0]} {written(y)}" for line in first for _, y in line.points)
    keys = [element("span", text, class_=f"key {line.name}") for line, text in zip(lines, last, strict=True)]
    legend = [element("h3", title), element("span", *keys, class_="keys")]
    return element(
        "figure",
        element("figcaption", *legend, class_="legend"),
        line_chart(f"{title} by epoch; at the end: {', '.join(last)}", trained, written),
        element("p", f"epoch (before the first: {before})" if before else "epoch", class_="across"),
    )
