"""The geometry of the charts; templates/charts.html draws them as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from xpnet._typing import Functions, Item, Json, Values

Points = Sequence[tuple[float, float]]
Rows = Sequence[Values]
"""The rows of metrics.jsonl."""

WIDTH, HEIGHT = 440, 250
LEFT = 52
RIGHT = WIDTH - 12
TOP = 12
BOTTOM = HEIGHT - 34
"""The edges of the plotting area of a line chart."""
MOST_POINTS = 400
"""The largest number of points of a line; of more, evenly spaced ones are selected."""
MOST_IN_CHART = 2400
"""The largest number of points of all lines."""
PARTS = {"train": "training", "validation": "validation"}
FORMATS: Functions = {"loss": "{:.3g}".format}
FORMATS["accuracy"] = lambda share: f"{100 * share:.4g}\u00a0%"
FORMATS["score"] = "{:.4g}".format
"""The metrics of the charts, and the functions that format their values."""


def build_learning_curves(rows: Rows, best: int | None) -> list[Json]:
    """Return the line charts of loss, accuracy and score by epoch from the rows of metrics.jsonl.

    Each line has the epochs for which its values are recorded, and the `best` epoch, if there is one, is
    marked. Charts without a point are left out.
    """
    lines = {metric: points for metric in FORMATS if (points := _read_lines(rows, metric))}
    return [build_line_chart(metric, points, FORMATS[metric], best) for metric, points in lines.items()]


def build_overlays(histories: Mapping[str, Rows]) -> list[Json]:
    """Return the charts of ``build_learning_curves`` with a line for each run, a chart for each metric.

    Parameters
    ----------
    histories
        The rows of metrics.jsonl by the name of the line.
    """
    charts = []
    for metric, form in FORMATS.items():
        lines = {name: _read_lines(rows, metric) for name, rows in histories.items()}
        for part, title in PARTS.items():
            points = {name: parts[part] for name, parts in lines.items() if part in parts}
            if points:
                charts.append(build_line_chart(f"{title} {metric}", points, form))
    return charts


def build_line_chart(
    title: str, lines: Mapping[str, Points], format_tick: Callable[[float], str], best: int | None = None
) -> Json:
    """Return the geometry of a chart of values by epoch.

    Parameters
    ----------
    title
        The title, of which the first letter becomes a capital.
    lines
        The (epoch, value) pairs of each line, at least one of all. Those before the first epoch are split off
        if a line has two points of later ones; lines without any other are left out.
    format_tick
        Formats a value as text.
    best
        An epoch to mark, which need not be in the chart.
    """
    begun = any(sum(epoch > 0 for epoch, _ in points) > 1 for points in lines.values())
    first = 0 if begun else -math.inf  # values before training would dominate the scale of the others
    before = [(name, y) for name, points in lines.items() for epoch, y in points if epoch <= first]
    parts = {name: [point for point in points if point[0] > first] for name, points in lines.items()}
    most = min(MOST_POINTS, MOST_IN_CHART // len(lines))
    trained = {name: select_evenly(points, most) for name, points in parts.items() if points}
    xs, ys = zip(*chain.from_iterable(trained.values()), strict=True)
    across, up = _make_axis(xs, LEFT, RIGHT), _make_axis(ys, BOTTOM, TOP)
    return {
        "title": title.capitalize(),
        "area": (WIDTH, HEIGHT, LEFT, RIGHT),
        "best": None if best is None or not min(xs) <= best <= max(xs) else (across(best), best, TOP, BOTTOM),
        "grid": [(up(y), format_tick(y)) for y in choose_ticks(min(ys), max(ys))],
        "epochs": [(across(x), f"{x:,.0f}") for x in choose_ticks(min(xs), max(xs), whole=True)],
        "before": [(name, format_tick(y)) for name, y in before],
        "last": [(name, format_tick(points[-1][1])) for name, points in trained.items()],
        "lines": [
            (name, [(across(x), up(y), x, format_tick(y)) for x, y in points])
            for name, points in trained.items()
        ],
    }


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


def _read_lines(rows: Rows, metric: str) -> dict[str, Points]:
    """Return the points of training and validation, those of them that have any."""
    lines = dict[str, Points]()
    for part in PARTS:
        pairs = ((row.get("epoch"), row.get(f"{part}_{metric}")) for row in rows)
        if points := [(epoch, y) for epoch, y in pairs if epoch is not None and y is not None]:
            lines[part] = points
    return lines


def _make_axis(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the function that maps values to positions from `begin` to `end`; equal values to the middle."""
    low, high = min(values), max(values)
    middle, span = low / 2 + high / 2, (high - low) or 1.0
    return lambda value: (begin + end) / 2 + (value - middle) / span * (end - begin)
