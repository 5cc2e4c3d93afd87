"""The geometry of the charts; templates/charts.html draws them as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

Points = Sequence[tuple[float, float]]
Item = TypeVar("Item")

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 12, 12, HEIGHT - 34
"""The edges of the plotting area of a line chart."""
MOST_POINTS = 400
"""Points of a line; a longer one is thinned to so many, evenly spaced."""
MOST_DOTS = 30
"""Points of a line that are marked one by one."""


def learning_curves(curves: Mapping[str, Points]) -> list[dict[str, Any]]:
    """Return the line charts of loss and accuracy by epoch; none without a point."""
    charts = []
    for title, metric, format_value in (
        ("Loss", "loss", "{:.3g}".format),
        ("Accuracy", "accuracy", lambda share: f"{100 * share:.4g}\u00a0%"),
    ):
        lines = {name: curves[f"{name}_{metric}"] for name in ("train", "validation")}
        lines = {name: points for name, points in lines.items() if points}
        if lines:
            charts.append({"title": title, **line_chart(lines, format_value)})
    return charts


def line_chart(lines: Mapping[str, Points], format_value: Callable[[float], str]) -> dict[str, Any]:
    """Return the chart of values by epoch.

    Parameters
    ----------
    lines
        The (epoch, value) pairs of each line, one or more.
    format_value
        The text of a value.
    """
    before, trained = {}, {}
    for name, points in lines.items():
        before[name], rest = split(points)
        trained[name] = evenly_spaced(rest, MOST_POINTS)
    xs, ys = zip(*chain.from_iterable(trained.values()), strict=True)
    across, up = _axis(xs, LEFT, RIGHT), _axis(ys, BOTTOM, TOP)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "grid": [(up(y), format_value(y)) for y in ticks(min(ys), max(ys))],
        "epochs": [(across(x), f"{x:,.0f}") for x in ticks(min(xs), max(xs), whole=True)],
        "before": [(name, format_value(y)) for name, points in before.items() for _, y in points],
        "last": [(name, format_value(points[-1][1])) for name, points in lines.items()],
        "paths": [
            (name, "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points))
            for name, points in trained.items()
        ],
        "dots": [
            (name, across(x), up(y), f"epoch {x:g}, {name} {format_value(y)}")
            for name, points in trained.items()
            if len(points) <= MOST_DOTS
            for x, y in points
        ],
    }


def split(points: Points) -> tuple[Points, Points]:
    """Return the points before the first epoch of training, and the rest, which they would dwarf.

    If the rest is less than two points, it is all of them.
    """
    rest = [point for point in points if point[0] > 0]
    if len(rest) < 2:
        return [], points
    return [point for point in points if point[0] <= 0], rest


def evenly_spaced(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return as many of the items, the first and the last among them; all, if they are no more."""
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return two to seven round numbers from `low` to `high`, or one where these are equal."""
    span = high - low
    if not 1e-300 < span < math.inf:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(span / 5.5))
    steps = (magnitude * factor for factor in (1, 2, 2.5, 5, 10, 20))
    step = next(step for step in steps if span <= 5.5 * step)
    if whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)] or [low]


def confusion_cells(counts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return the cells of a confusion matrix that have a count, row by row.

    The opacity grows with the share of its row that a cell holds: on the diagonal from 0 to all of them,
    elsewhere up to the largest such share, so that the mistakes stand out.
    """
    totals = [sum(row) for row in counts]
    shares = {(i, j): n / totals[i] for i, row in enumerate(counts) for j, n in enumerate(row) if n}
    worst = max((share for (i, j), share in shares.items() if i != j), default=1.0)
    return [
        {
            "label": i,
            "predicted": j,
            "count": counts[i][j],
            "total": totals[i],
            "opacity": 0.06 + 0.5 * (share if i == j else share / worst),
        }
        for (i, j), share in shares.items()
    ]


def _axis(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the function from values to places from `begin` to `end`; equal values stand in the middle."""
    low, high = min(values), max(values)
    span = high / 2 - low / 2  # halves first, so that the difference of two huge values is finite

    def place(value: float) -> float:
        part = 0.5 if span == 0 else (value / 2 - low / 2) / span
        return begin + part * (end - begin)

    return place
