"""Writes the results as a page of Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared import markdown

from benchmarks.growth import CONTENDERS, FIGURE, Point, Series, seconds, slope_of
from benchmarks.limits import Limits
from benchmarks.runs import Line, Table
from benchmarks.tasks import FOLDS, NAMES, OWN, PEERS, TABLE_BATCH, TABLE_EPOCHS, Task

REFERENCES = {"notebook": "× notebook", "plain": "× plain reader"}
"""The lines that others are compared with besides the best peer, and the heading of the column."""

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
    growth: list[tuple[Series, Sequence[Point]]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # contenders that did not take part -> why


def page(results: Results) -> str:
    """Return the page."""
    parts = [_introduction(results), _machine(results), _limits(results.limits, results.tables)]
    parts += [table_section(table, results.limits) for table in results.tables]
    if results.growth:
        parts.append(_growth(results.growth))
    parts.append(_contenders(results))
    return "\n\n".join(parts) + "\n"


def table_section(table: Table, limits: Limits) -> str:
    """Return a table under its heading."""
    parts = _parts(table)
    fastest = min(line.median for line in table.lines) / parts
    name, factor, _ = next(unit for unit in UNITS if fastest >= unit[2])
    lines = table.by_contender
    references = {heading: lines[who] for who, heading in REFERENCES.items() if who in lines}
    best = best_peer(table)
    if best is not None:
        references["× best peer"] = best
    with_floor = table.task is not None
    with_memory = all(line.mebibytes for line in table.lines) and parts == 1
    head = ["", f"{name} {_per(table)}".strip(), "min - max"]
    head += [*references, *["× floor"] * with_floor, *["peak MiB"] * with_memory]
    rows = []
    for line in table.lines:
        scaled = [factor * x / parts for x in (line.median, min(line.seconds), max(line.seconds))]
        name = f"**{line.name}**" if line is best else line.name
        row = [name, number(scaled[0]), f"{number(scaled[1])} - {number(scaled[2])}"]
        row += ["" if other is line else number(line.ratio(other)) for other in references.values()]
        if with_floor:
            row.append(_times_floor(table.task, line, limits))
        if with_memory:
            row.append(f"{line.peak:.0f}")
        rows.append(row)
    return f"## {table.title}\n\n{markdown(head, rows)}"


def best_peer(table: Table) -> Line | None:
    """Return the fastest line of another library; None in a table without one."""
    peers = [line for line in table.lines if line.who in PEERS and line.who != "notebook"]
    return min(peers, key=lambda line: line.median, default=None)


def _times_floor(task: Task, line: Line, limits: Limits) -> str:
    """Return how many times the floor of its arithmetic a line of xpnet takes, else nothing."""
    if line.who not in OWN:
        return ""
    return number(line.median / limits.floor(task, line.who.split(":")[1]))


def number(x: float) -> str:
    """Return a number with three significant digits, and never an exponent for a large one."""
    return f"{x:,.0f}" if x >= 100 else f"{x:#.3g}".rstrip(".")


def _parts(table: Table) -> int:
    """Return into how many equal parts the times of a table are to be divided."""
    return table.task.steps if table.task is not None and table.key == "steps" else 1


def _per(table: Table) -> str:
    if table.task is None:
        return ""
    if table.key == "steps":
        return "a step"
    return "an epoch" if table.task.kind == "train" else "a pass"


def _introduction(results: Results) -> str:
    runs = f"medians of {results.runs} runs" if results.runs > 1 else "those of one run"
    return f"""# Benchmarks

Times are {runs}, with the smallest and the largest ({3 * results.runs} runs of commands that take a
second or so). The contenders of a table run in turn, each in a process of its own that has warmed up, so
that a noisy moment touches neighbours alike. A ratio such as *× notebook* is the median of the ratios to
the notebook's run in the same round: 0.50 takes half the time. The *best peer*, in bold, is the fastest line
of another library in the table. *× floor* is the time over the least that this machine needs for it (see
below). Peak memory is the largest resident set of the process, with its copy of the data. A name with
*(n of N steps)* marks a contender too slow to repeat whole epochs: its epoch is N/n times its n steps, on
the first images."""


def _machine(results: Results) -> str:
    lines = [f"- {name}: {value}" for name, value in results.about.items()]
    return "\n".join(["## Where", "", *lines])


def _limits(limits: Limits, tables: Sequence[Table]) -> str:
    rows = []
    for table in tables:
        task = table.task
        if task is None:
            continue
        parts = _parts(table)
        floors = [1000 * limits.floor(task, kind) / parts for kind in ("native", "reproducible")]
        rows.append(
            [
                table.title,
                number(task.flops / parts / 1e9),
                number(task.bytes / parts / 1e6),
                *map(number, floors),
            ]
        )
    head = ["", "GFLOP", "MB of pixels", "floor in float32, ms", "floor in float64, ms"]
    table = f"\n\n{markdown(head, rows)}" if rows else ""
    return f"""## What this machine can do

Measured in the same run, with all threads, the best of several: matrix products at
{number(limits.float32 / 1e9)} GFLOP/s in float32 and {number(limits.float64 / 1e9)} GFLOP/s in float64
({limits.blas}), reading memory at {number(limits.bandwidth / 1e9)} GB/s. A floor is the larger of two
times: the operations of the matrix products (2 n k m for each; three products a layer in training, two in
the first, one in predicting) at that rate, and one reading of the pixels as bytes. The float32 floor is
for native, the float64 floor for reproducible.{table}"""


def _growth(growth: Sequence[tuple[Series, Sequence[Point]]]) -> str:
    parts = [
        "## Growth",
        "",
        "On NumPy; the images are repeated where there are more rows than images. The slope is that of",
        "the least-squares line through the logarithms of the points: 1 is proportional growth.",
        "",
        f"![Time and memory by rows, width and depth]({FIGURE})",
    ]
    for series, points in growth:
        by_rows = series.key == "rows"
        head = [series.title]
        for who in CONTENDERS:
            arithmetic = who.split(":")[1]
            head += [f"{arithmetic}, ms {series.per}", "min - max"]
            head += ["peak MiB"] * by_rows
        rows = [_growth_row(series, point, with_memory=by_rows) for point in points]
        slopes = [f"{who.split(':')[1]} {slope_of(series, points, who):.2f}" for who in CONTENDERS]
        parts += ["", markdown(head, rows), "", f"Slope of time: {', '.join(slopes)}."]
    return "\n".join(parts)


def _growth_row(series: Series, point: Point, *, with_memory: bool) -> list[str]:
    row = [f"{point.x:,}"]
    for who in CONTENDERS:
        line = point.table.by_contender[who]
        scale = 1000 * seconds(series, point, who) / line.median
        row.append(number(scale * line.median))
        row.append(f"{number(scale * min(line.seconds))} - {number(scale * max(line.seconds))}")
        row += [f"{line.peak:.0f}"] * with_memory
    return row


def _contenders(results: Results) -> str:
    threads = results.threads
    absent = [f"- {NAMES[who]} did not take part: {why}" for who, why in results.missing.items()]
    notes = "\n".join(["", *absent]) if absent else ""
    return f"""## Who takes part

Every process has {threads} threads: `OMP_NUM_THREADS`, `MKL_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, XLA's
`NPROC` and `intra_op_parallelism_threads`, `torch.set_num_threads`; xpnet on NumPy has {threads} workers
with a BLAS of one thread each.

- *notebook*: its algorithm as written, float64 (`scripts/benchmarks/notebook.py`); the whole process reads
  the CSV files. It has no mini-batches: there, its functions get `X[:, index]`.
- *PyTorch eager*: `torch.nn.Sequential`, autograd, `torch.optim.SGD`, a batch being `x[index]`.
- *PyTorch compiled*: the same with `torch.compile(model, dynamic=False)`; compiling is not counted.
- *PyTorch without autograd*: the backward pass by hand in `inference_mode`, its results in arrays that are
  made once, updates in place.
- *JAX jit*: `grad` and the update in one `jit` with donated parameters, and `x[index]` inside it,
  which takes a fraction of the time of `x[index]` before it; compiling is not counted.
- *JAX scan*: an epoch as one `jit`, with `lax.scan` over the order of its batches and `x[index]` inside.
  Weights are (units, inputs), and pixels bytes that the step widens, but float32 in full batches: of the
  forms tried, these take the least time.
- *scikit-learn*: `MLPClassifier(solver="sgd", momentum=0, alpha=0).fit`, which checks the data first.
- *xpnet*: `native` in float32 and `reproducible` in float64, on three array libraries.

PyTorch, *JAX jit* and scikit-learn keep the pixels as float32, xpnet as bytes. Epochs are shuffled anew,
except full batches. From the same parameters and order, all have the same parameters after an epoch, up to
rounding (`tests/scripts/test_benchmark.py`). PyTorch's form of the recipe has `Dropout`, `BatchNorm1d`,
`Adam`, `CrossEntropyLoss(label_smoothing=0.1)` and `renorm`. A cross-validation is scikit-learn's
`cross_val_score` with {FOLDS} stratified folds, on standardised features in float32, with {TABLE_EPOCHS}
epochs of Adam on batches of {TABLE_BATCH}, and no weight decay. In predicting, pixels are in memory, and a
pass ends with the predicted classes; those of the peers are float32 there, those of xpnet's `model.predict`
bytes.
(`scripts/benchmarks/peers.py`, `contenders.py`){notes}

## Running it again

On a quiet machine, in a checkout: `pip install -e ".[bench,torch,jax]"`, then

<!-- skip: next "it takes ten minutes" -->
```sh
python scripts/benchmark.py
```

writes this page, its figure and `benchmarks.json`, which holds every run. `--quick` tries everything once
in a few steps, `--only epoch,steps` takes some of the tables, `--out FOLDER` writes elsewhere."""
