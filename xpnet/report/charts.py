"""The geometry of the charts; templates/charts.html draws them as SVG."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

Item = TypeVar("Item")
Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 12, 12, HEIGHT - 34
"""The edges of the plotting area of a line chart."""
MOST_POINTS = 400
"""The largest number of points of a line; of more, evenly spaced ones are selected."""


def build_learning_curves(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return the line charts of loss and accuracy by epoch from the rows of metrics.jsonl.

    Values that are None are left out, and so are charts without a point.
    """
    charts: list[dict[str, object]] = []
    for title, format_value in (("Loss", "{:.3g}".format), ("Accuracy", _format_accuracy)):
        lines: dict[str, Points] = {}
        for part in ("train", "validation"):
            pairs: list[Any] = [(row.get("epoch"), row.get(f"{part}_{title.lower()}")) for row in rows]
            lines[part] = [pair for pair in pairs if None not in pair]
        if any(lines.values()):
            charts.append({"title": title, **build_line_chart(lines, format_value)})
    return charts


def build_line_chart(lines: Mapping[str, Points], format_value: Callable[[float], str]) -> dict[str, object]:
    """Return the geometry of a chart of values by epoch.

    Parameters
    ----------
    lines
        The (epoch, value) pairs of each line, at least one; lines without any are left out.
    format_value
        Formats a value as text.
    """
    parts = {name: split_before_training(points) for name, points in lines.items() if points}
    trained = {name: select_evenly(points, MOST_POINTS) for name, (_, points) in parts.items()}
    xs, ys = zip(*chain.from_iterable(trained.values()), strict=True)
    across, up = _make_axis(xs, LEFT, RIGHT), _make_axis(ys, BOTTOM, TOP)
    return {
        "area": (WIDTH, HEIGHT, LEFT, RIGHT),
        "grid": [(up(y), format_value(y)) for y in choose_ticks(min(ys), max(ys))],
        "epochs": [(across(x), f"{x:,.0f}") for x in choose_ticks(min(xs), max(xs), whole=True)],
        "before": [(name, format_value(y)) for name, (points, _) in parts.items() for _, y in points],
        "last": [(name, format_value(points[-1][1])) for name, points in trained.items()],
        "lines": [
            (name, [(across(x), up(y), x, format_value(y)) for x, y in points])
            for name, points in trained.items()
        ],
    }


def split_before_training(points: Points) -> tuple[Points, Points]:
    """Split off the points before the first epoch, whose values would dominate the scale of the rest.

    If the rest has fewer than two points, nothing is split off.
    """
    count = sum(epoch <= 0 for epoch, _ in points)  # epochs ascend
    return ([], points) if len(points) - count < 2 else (points[:count], points[count:])


def select_evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most `most` evenly spaced items, including the first and the last."""
    last = len(items) - 1
    return items if last < most else [items[round(i * last / (most - 1))] for i in range(most)]


def choose_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return two to seven round numbers from `low` to `high`, or one if these are equal."""
    span = high - low
    if not 1e-300 < span < math.inf:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(span / 5.5))
    steps = (magnitude * factor for factor in (1, 2, 2.5, 5, 10, 20))
    step = next(step for step in steps if span <= 5.5 * step)
    if whole:
        step = max(1.0, float(round(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)] or [low]


def _format_accuracy(share: float) -> str:
    return f"{100 * share:.4g}\u00a0%"


def _make_axis(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the function that maps values to positions from `begin` to `end`; equal values to the middle."""
    low, high = min(values), max(values)
    middle, span = low / 2 + high / 2, (high - low) or 1.0
    return lambda value: (begin + end) / 2 + (value - middle) / span * (end - begin)
