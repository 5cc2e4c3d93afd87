"""How xpnet's time and memory grow with the rows, the width and the depth of the network."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any

from benchmarks.runs import Table
from benchmarks.tasks import TIMING_RATE, Task, takes_part

FIGURE = "benchmarks-growth.svg"


@dataclass
class Series:
    """Tasks that differ in one number only, and what the contenders took for each."""

    key: str
    title: str
    tasks: dict[int, Task]
    tables: list[Table]

    @property
    def contenders(self) -> list[str]:
        """The contenders."""
        return takes_part(self.key)

    @property
    def unit(self) -> str:
        """What the times are of: "an epoch" or "a step"."""
        return next(iter(self.tasks.values())).unit

    def medians(self, who: str) -> list[float]:
        """Return the median time of a contender at each number, in seconds."""
        return [table.by_contender[who].median for table in self.tables]

    def slope(self, who: str) -> float:
        """Return the slope of the least-squares line through the logarithms of numbers and times."""
        return linear_regression([*map(math.log, self.tasks)], [*map(math.log, self.medians(who))]).slope


def all_series() -> list[Series]:
    """Return the series, not yet measured."""
    step: dict[str, Any] = {"unit": "a step", "batch": 256, "learning_rate": TIMING_RATE}
    rows = {n: Task(rows=n) for n in (6_000, 20_000, 60_000, 200_000, 600_000)}
    widths = {n: Task(hidden=(n,), **step) for n in (10, 32, 128, 512, 2_048)}
    depths = {n: Task(hidden=(128,) * n, **step) for n in (1, 2, 4, 8)}
    return [
        Series("rows", "training images (full batch)", rows, []),
        Series("width", "units of one hidden layer (batch 256)", widths, []),
        Series("depth", "hidden layers of 128 (batch 256)", depths, []),
    ]


def figure(growth: Sequence[Series]) -> bytes:
    """Return SVG, the same for the same times: a panel a series, with proportional growth below its lines."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "xpnet", "axes.spines.top": False, "axes.spines.right": False}):
        drawing, grid = plt.subplots(1, len(growth), layout="constrained", figsize=(14, 4))
        for axes, series in zip(grid, growth, strict=True):
            xs = list(series.tasks)
            times = [[1000 * time for time in series.medians(who)] for who in series.contenders]
            for who, ys in zip(series.contenders, times, strict=True):
                axes.plot(xs, ys, "o-", label=who.split(":")[1])
            last = 0.8 * min(ys[-1] for ys in times)
            axes.plot(xs, [last * x / xs[-1] for x in xs], ":", color="gray", label="proportional")
            axes.set(xscale="log", yscale="log", xlabel=series.title, ylabel=f"ms {series.unit}")
            axes.minorticks_off()
            axes.set_xticks(xs, [f"{x:,}" for x in xs])
            axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.10g}")
        grid[0].legend()
        drawing.savefig(content, format="svg", metadata={"Date": None}, facecolor="white")
        plt.close(drawing)
    return content.getvalue()
