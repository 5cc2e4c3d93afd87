"""Writes the results as a page of Markdown."""

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from shared import markdown, render

from benchmarks import tasks
from benchmarks.limits import Limits
from benchmarks.runs import Line, Table
from benchmarks.tasks import CONTENDERS

UNITS = (("s", 1.0, 1.0), ("ms", 1e3, 1e-3), ("µs", 1e6, 0.0))
"""Names of units of time, how many make a second, and the least time that each is used for."""


@dataclass
class Results:
    """All that a run of the benchmark finds."""

    runs: int
    threads: int
    limits: Limits
    about: dict[str, str] = field(default_factory=dict)  # what ran, where: one line each
    tables: list[Table] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # contenders that did not take part -> why


def page(results: Results) -> str:
    """Return the page."""
    sections: list[str] = []
    for key, group in groupby(results.tables, lambda table: table.key):
        tables = list(group)
        single = [table_section(table, results.limits) for table in tables]
        sections += [steps_section(tables)] if key == "steps" else single
    return render(
        Path(__file__).with_name("page.md.j2"),
        results=results,
        tables=sections,
        number=number,
        absent={CONTENDERS[who].title: why for who, why in results.missing.items()},
        tasks=tasks,
    )


def table_section(table: Table, limits: Limits) -> str:
    """Return a table under its heading."""
    unit, factor = scale(min(line.median for line in table.lines))
    best, task = best_peer(table), table.task
    notebook = next((line for line in table.lines if line.who == "notebook"), None)
    compared = {"× notebook": notebook, "× best peer": best}
    references = {heading: line for heading, line in compared.items() if line is not None}
    with_memory = table.key != "steps"  # whose tasks share processes
    with_floor = task is not None and task.table is None
    head = ["", f"{unit} {task.unit if task else ''}".strip(), "min-max", *references]
    head += ["× floor"] * with_floor + ["peak MiB"] * with_memory
    rows = []
    for line in table.lines:
        row = [f"**{line.name}**" if line is best else line.name, number(factor * line.median)]
        row.append("-".join(number(factor * end(line.seconds)) for end in (min, max)))
        row += ["" if peer is line else number(line.ratio(peer)) for peer in references.values()]
        if task is not None and with_floor:
            is_own = CONTENDERS[line.who].peer is None
            row.append(number(line.median / limits.floor(task, line.who.split(":")[1])) if is_own else "")
        rows.append(row + [f"{line.peak:.0f}"] * with_memory)
    return f"## {table.title}\n\n{markdown(head, rows)}"


def steps_section(tables: list[Table]) -> str:
    """Return the tables of steps as one, under one heading: a time and a ratio for each size of a batch."""
    head, rows = [""], {line.who: [line.name] for line in tables[0].lines}
    for table in tables:
        best = best_peer(table)
        head += [f"µs, batches of {table.task.batch if table.task else ''}", "× best peer"]
        for line in table.lines:
            time = number(1e6 * line.median)
            ratio = "" if best in (None, line) else number(line.ratio(best))
            rows[line.who] += [f"**{time}**" if line is best else time, ratio]
    title = f"One step, {tables[0].title.split(', ')[1]}, mini-batches"
    return f"## {title}\n\n{markdown(head, list(rows.values()))}"


def best_peer(table: Table) -> Line | None:
    """Return the fastest line of another library; None in a table without one."""
    peers = [who for who in CONTENDERS if CONTENDERS[who].peer and who != "notebook"]
    lines = [line for line in table.lines if line.who in peers]
    return min(lines, key=lambda line: line.median, default=None)


def scale(seconds: float) -> tuple[str, float]:
    """Return the unit that a time is shown in, and how many make a second."""
    return next((unit, factor) for unit, factor, least in UNITS if seconds >= least)


def number(x: float) -> str:
    """Return a number with three significant digits, and never an exponent for a large one."""
    return f"{x:,.0f}" if x >= 100 else f"{x:#.3g}".rstrip(".")
