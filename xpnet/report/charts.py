"""Charts as inline SVG. Colours are classes, so that the page's style gives them, light and dark."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from xpnet.report.markup import Markup, element

Points = Sequence[tuple[float, float]]
Scale = Callable[[float], float]
Item = TypeVar("Item")

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
"""Space around the field of a line chart."""
MOST_POINTS = 400
"""Of a line; of longer ones, evenly spaced points are drawn."""
MOST_DOTS = 30
"""Points of a line that are marked one by one."""

CELL, EDGE = 36, 34
MOST_NUMBERED = 12
"""Classes up to which the cells of a confusion matrix carry their counts."""


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, which is also its class in the style, and its points."""

    name: str
    points: Points


def line_chart(label: str, lines: Sequence[Line], written: Callable[[float], str]) -> Markup:
    """Return the chart of values over epochs, as `split` leaves them; `written` gives the text of a value.

    There must be a point.
    """
    thinned = [Line(line.name, evenly_spaced(line.points, MOST_POINTS)) for line in lines if line.points]
    points = [point for line in thinned for point in line.points]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across, up = _axis(xs, LEFT, WIDTH - RIGHT), _axis(ys, HEIGHT - BOTTOM, TOP)
    epochs = ticks(min(xs), max(xs), whole=True)
    parts = [
        *(_grid_line(up(y), written(y)) for y in ticks(min(ys), max(ys))),
        *(_text(f"{x:,.0f}", f"{across(x):.1f}", HEIGHT - 12) for x in epochs),
        *(_path(line, across, up) for line in thinned),
        *(dot for line in thinned for dot in _dots(line, across, up, written)),
    ]
    return _svg(parts, WIDTH, HEIGHT, label)


def split(line: Line) -> tuple[Line, Line]:
    """Return what is before the first epoch of training, and the rest, which it would dwarf.

    Where the rest is less than two points, all belong to it.
    """
    first = [point for point in line.points if point[0] <= 0]
    rest = [point for point in line.points if point[0] > 0]
    if len(rest) < 2:
        return Line(line.name, []), line
    return Line(line.name, first), Line(line.name, rest)


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


def confusion_chart(counts: Sequence[Sequence[int]]) -> Markup:
    """Return the confusion matrix: rows are the labels, columns what the network took them for.

    The more of its row a cell holds, the stronger its colour: on the diagonal from 0 to all of them,
    elsewhere up to the largest such share, so that the mistakes stand out.
    """
    classes, side = len(counts), EDGE + len(counts) * CELL
    totals = [sum(row) for row in counts]
    shares = [[n / (total or 1) for n in row] for row, total in zip(counts, totals, strict=True)]
    worst = max((s for i, row in enumerate(shares) for j, s in enumerate(row) if i != j), default=0)
    cells = [
        _cell(i, j, n, totals[i], shares[i][j] / (1.0 if i == j else worst), classes)
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if n
    ]
    numbers = []
    for index in range(0, classes, -(-classes // 20)):
        place = EDGE + index * CELL + CELL / 2
        numbers.append(_text(str(index), place, EDGE - 10, class_="axis"))
        numbers.append(_text(str(index), EDGE - 8, place + 5, "end", class_="axis"))
    frame = element("rect", x=EDGE, y=EDGE, width=side - EDGE, height=side - EDGE, class_="frame")
    return _svg(
        [frame, *numbers, *cells],
        side + 1,
        side + 1,
        "Confusion matrix: rows are the labels, columns what the network read",
        class_="matrix" if classes <= MOST_NUMBERED else "matrix dense",
    )


def _axis(values: Sequence[float], begin: float, end: float) -> Scale:
    """Return the function from values to places from `begin` to `end`; equal values stand in the middle."""
    low, high = min(values), max(values)
    span = high / 2 - low / 2  # halves first, so that the difference of two huge values is finite

    def place(value: float) -> float:
        part = 0.5 if span == 0 else (value / 2 - low / 2) / span
        return begin + part * (end - begin)

    return place


def _path(line: Line, across: Scale, up: Scale) -> Markup:
    places = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
    return element("path", d=f"M{places}", class_=f"line {line.name}")


def _dots(line: Line, across: Scale, up: Scale, written: Callable[[float], str]) -> Iterator[Markup]:
    """Yield marks of the points, with their values, unless they are too many."""
    if len(line.points) > MOST_DOTS:
        return
    for epoch, value in line.points:
        title = element("title", f"epoch {epoch:g}, {line.name.split()[0]} {written(value)}")
        place = {"cx": f"{across(epoch):.1f}", "cy": f"{up(value):.1f}"}
        yield element("circle", title, r=3, class_=f"dot {line.name}", **place)


def _grid_line(y: float, text: str) -> Markup:
    line = element("path", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", class_="grid")
    return element("g", line, _text(text, LEFT - 8, f"{y + 4:.1f}", "end"))


def _cell(label: int, read: int, count: int, total: int, strength: float, classes: int) -> Markup:
    x, y = EDGE + read * CELL, EDGE + label * CELL
    title = f"{label} read as {read}: {count:,} of {total:,} ({100 * count / total:.1f} %)"
    square = element(
        "rect",
        x=x + 1,
        y=y + 1,
        width=CELL - 1,
        height=CELL - 1,
        class_="right" if label == read else "wrong",
        fill_opacity=f"{0.06 + 0.5 * strength:.2f}",
    )
    number: Markup | None = None
    if classes <= MOST_NUMBERED:
        text = str(count) if count < 10_000 else f"{count / 1000:.0f}k"
        number = _text(text, x + CELL / 2 + 0.5, y + CELL / 2 + 5, class_=f"digits{len(text)}")
    return element("g", element("title", title), square, number, class_="cell")


def _text(text: str, x: float | str, y: float | str, anchor: str = "middle", **attributes: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, **attributes)


def _svg(parts: Sequence[Markup], width: int, height: int, label: str, **attributes: str) -> Markup:
    view = f"0 0 {width} {height}"
    return element("svg", *parts, viewBox=view, role="img", aria_label=label, **attributes)
