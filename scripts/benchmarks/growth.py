"""How xpnet's time and memory grow with the rows, the width and the depth of the network."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runs import Table
from benchmarks.tasks import TIMING_RATE, Task

CONTENDERS = ("xpnet:native:numpy", "xpnet:reproducible:numpy")
FIGURE = "benchmarks-growth.svg"
COLOURS = {"native": "#1f6fb4", "reproducible": "#c2410c"}


@dataclass(frozen=True)
class Series:
    """Tasks that differ in one number only."""

    key: str
    title: str
    per: str  # what the times are of: "an epoch" or "a step"
    points: tuple[tuple[int, Task], ...]


@dataclass
class Point:
    """A number, and what the contenders took there."""

    x: int
    task: Task
    table: Table


def all_series(*, quick: bool = False) -> tuple[Series, ...]:
    """Return the series: all of their points, or the first few."""
    rows = (6_000, 20_000, 60_000, 200_000, 600_000)
    widths, depths = (10, 32, 128, 512, 2_048), (1, 2, 4, 8)
    if quick:
        rows, widths, depths = rows[:2], widths[:3:2], depths[:2]
    rate = TIMING_RATE
    return (
        Series(
            "rows",
            "training images (full batch)",
            "an epoch",
            tuple((count, Task(rows=count)) for count in rows),
        ),
        Series(
            "width",
            "units of one hidden layer (batch 256)",
            "a step",
            tuple((n, Task(hidden=(n,), batch=256, learning_rate=rate)) for n in widths),
        ),
        Series(
            "depth",
            "hidden layers of 128 (batch 256)",
            "a step",
            tuple((n, Task(hidden=(128,) * n, batch=256, learning_rate=rate)) for n in depths),
        ),
    )


def seconds(series: Series, point: Point, who: str) -> float:
    """Return the median time of an epoch or a step at a point."""
    steps = point.task.steps if series.per == "a step" else 1
    return point.table.by_contender[who].median / steps


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the least-squares line through the logarithms of the points."""
    u, v = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    spread = sum((a - mean_u) ** 2 for a in u)
    return sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True)) / spread


def slope_of(series: Series, points: Sequence[Point], who: str) -> float:
    """Return the slope of log time by log of what grows."""
    return slope([point.x for point in points], [seconds(series, point, who) for point in points])


def figure(growth: Sequence[tuple[Series, Sequence[Point]]]) -> bytes:
    """Return the figure as SVG, the same bytes for the same points and matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    style = {"svg.hashsalt": "xpnet", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        drawing, grid = plt.subplots(2, 2, figsize=(9.5, 7.5), layout="constrained")
        panels = list(grid.flat)
        for axes, (series, points) in zip((panels[0], *panels[2:]), growth, strict=True):
            times = {who: [1000 * seconds(series, p, who) for p in points] for who in CONTENDERS}
            _draw(axes, series, points, times, f"time of {series.per} (ms)")
            slopes = (f"{slope_of(series, points, who):.2f} {_arithmetic(who)}" for who in CONTENDERS)
            axes.set_title(f"slope: {', '.join(slopes)}", fontsize=9, loc="right", color="#444444")
        series, points = growth[0]
        peaks = {who: [point.table.by_contender[who].peak for point in points] for who in CONTENDERS}
        _draw(panels[1], series, points, peaks, "peak memory of the process (MiB)")
        panels[0].legend(frameon=False, loc="upper left")
        content = io.BytesIO()
        drawing.savefig(content, format="svg", metadata={"Date": None}, facecolor="white")
        plt.close(drawing)
    return content.getvalue()


def _arithmetic(who: str) -> str:
    return who.split(":")[1]


def _draw(
    axes: Any, series: Series, points: Sequence[Point], values: dict[str, list[float]], label: str
) -> None:
    """Draw one panel: a line a contender, and proportional growth from the lower one's last point."""
    from matplotlib.ticker import LogLocator

    xs = [point.x for point in points]
    for (who, ys), marker in zip(values.items(), "os", strict=True):
        arithmetic = _arithmetic(who)
        axes.plot(xs, ys, marker=marker, color=COLOURS[arithmetic], label=f"xpnet {arithmetic}")
    last = min(ys[-1] for ys in values.values())
    guide = [0.8 * last * x / xs[-1] for x in xs]
    axes.plot(xs, guide, color="#888888", linestyle=":", label="slope 1 (proportional)")
    axes.set(xscale="log", yscale="log", xlabel=series.title, ylabel=label)
    lowest = min(min(ys) for ys in values.values())
    axes.set_ylim(bottom=0.5 * lowest)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xticks(xs, [f"{x:,}" for x in xs])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.10g}")
    axes.grid(color="#dddddd", linewidth=0.6)
