"""The section with the learning curves."""

from collections.abc import Callable, Sequence

from xpnet.report.charts import Line, line_chart, split
from xpnet.report.facts import Facts
from xpnet.report.markup import Markup, element
from xpnet.report.parts import note, section


def curves(facts: Facts) -> Markup:
    """Return the section: loss and accuracy by epoch, of training and of validation data."""
    curves = facts.story.curves
    charts = [
        _curve(title, [Line(name, curves[f"{name}_{kind}"]) for name in ("train", "validation")], form)
        for title, kind, form in (
            ("Loss", "loss", "{:.3g}".format),
            ("Accuracy", "accuracy", _short_percent),
        )
    ]
    charts = [chart for chart in charts if chart]
    if not charts:
        return section("curves", "Learning curves", note("The run noted no epoch."))
    return section("curves", "Learning curves", element("div", *charts, class_="pair"))


def _short_percent(share: float) -> str:
    return f"{100 * share:.4g}\u00a0%"


def _curve(title: str, lines: Sequence[Line], written: Callable[[float], str]) -> Markup | None:
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    if len(drawn) == 1:
        drawn = [Line(f"{drawn[0].name} only", drawn[0].points)]
    first, trained = zip(*map(split, drawn), strict=True)
    last = [f"{line.name.split()[0]} {written(line.points[-1][1])}" for line in drawn]
    before = [f"{line.name.split()[0]} {written(y)}" for line in first for _, y in line.points]
    keys = [element("span", text, class_=f"key {line.name}") for line, text in zip(drawn, last, strict=True)]
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", title),
            element("span", *keys, class_="keys"),
            class_="legend",
        ),
        line_chart(f"{title} by epoch; at the end: {', '.join(last)}", trained, written),
        element("p", f"epoch{_in_brackets(before)}", class_="across"),
    )


def _in_brackets(before: Sequence[str]) -> str:
    return f" (before the first: {', '.join(before)})" if before else ""
