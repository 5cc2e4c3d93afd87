"""Measures xpnet beside the notebook's code, PyTorch, JAX and scikit-learn, in one sitting.

Writes docs/benchmarks.md, benchmarks.json and benchmarks-growth.svg; the page says how it measures.
With --against COMMIT it compares this commit of xpnet with another one instead (benchmarks/against.py).
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path
from typing import Any

from benchmarks import against
from benchmarks.commands import export_csv, groups, measure
from benchmarks.growth import CONTENDERS, FIGURE, Point, Series, all_series, figure, slope_of
from benchmarks.limits import Limits, better
from benchmarks.page import Results, page
from benchmarks.runs import (
    PYTHON,
    ContenderError,
    Effort,
    Table,
    entrants,
    environment,
    processes,
    run_in_turn,
)
from benchmarks.tasks import NAMES, WORKLOADS, Workload, title
from shared import ROOT, make_folder, processor, whole_number

from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet.config.flags import Parser
from xpnet.errors import ConfigError, XPNetError

DOCS = ROOT / "docs"
IMAGES = ROOT / "data" / "mnist"
COMMANDS = ("main", "first", "startup", "loading")
PARTS = (*(workload.key for workload in WORKLOADS), *COMMANDS, "growth")
LIBRARIES = ("numpy", "pandas", "torch", "jax", "jaxlib", "scikit-learn")
SLOW_TO_START = {"torch-compile"}
"""Left out of a quick run but for its first table: each network takes it long to compile."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    runs: int
    quick: bool
    only: tuple[str, ...]
    out: Path | None  # None: write nothing
    against: str | None = None  # the commit to compare with

    @property
    def effort(self) -> Effort:
        """How much to measure."""
        if self.quick:
            longest = None if self.against else 0.05
            return Effort(runs=self.runs, target=0.02, longest=longest, trial=2, warm_up=False)
        if self.against:
            return Effort(runs=self.runs, target=0.4, longest=None)
        return Effort(runs=self.runs, target=0.5, longest=1.2)


@dataclass
class Session:
    """One run of the benchmark, while it goes on."""

    options: Options
    variables: dict[str, str]
    results: Results

    def add(self, table: Table) -> None:
        """Keep a table, and show its times."""
        self.results.tables.append(table)
        times = (f"  {line.name}: {line.median:.4g} s" for line in table.lines)
        print(table.title, *times, sep="\n", flush=True)


def parse_options(argv: Sequence[str]) -> Options:
    """Return the options; ConfigError if they are wrong."""
    codes = "Exit codes: 0 done, 1 a contender failed, 2 bad input, 130 interrupted."
    parser = Parser(debug=False, prog="benchmark.py", description=__doc__, epilog=codes, allow_abbrev=False)
    parser.add_argument(
        "--runs", type=whole_number, help="counted runs of each contender (default: 5, or 9 with --against)"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: everything once, in a few steps")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        help=f"some of {','.join(PARTS)}; with --against of {','.join(against.PARTS)}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder for the page, the figure and the figures (default: {DOCS.name}; nothing is "
        "written after --quick or --only)",
    )
    parser.add_argument(
        "--against",
        metavar="COMMIT",
        help="compare this commit with that one, in turn, and write nothing; ratios are new to old",
    )
    arguments = parser.parse_args(argv)
    parts = PARTS if arguments.against is None else against.PARTS
    only = parts if arguments.only is None else tuple(part for part in parts if part in arguments.only)
    for part in arguments.only or ():
        if part not in parts:
            parser.error(f"argument --only: expected some of {','.join(parts)}, got {part!r}")
    if arguments.against is not None and arguments.out is not None:
        parser.error("argument --out: does not go with --against, which writes no page")
    complete = not arguments.quick and only == PARTS
    return Options(
        runs=arguments.runs or (1 if arguments.quick else 5 if arguments.against is None else 9),
        quick=arguments.quick,
        only=only,
        out=arguments.out or (DOCS if complete else None),
        against=arguments.against,
    )


def run_session(options: Options) -> Results:
    """Measure everything that the options ask for."""
    begin, threads = time.perf_counter(), available_cpus()
    variables = environment(threads)
    results = Results(options.runs, threads, measure_limits(options, threads, variables))
    session = Session(options, variables, results)
    for workload in WORKLOADS:
        if workload.key in options.only:
            measure_workload(session, workload)
    if set(COMMANDS) & set(options.only):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            export_csv(folder)
            for group in groups(folder, IMAGES):
                if group.key in options.only:
                    session.add(measure(group, folder, variables, options.effort))
    if "growth" in options.only:
        for series in all_series(quick=options.quick):
            results.growth.append((series, measure_series(session, series)))
    results.limits = better(results.limits, measure_limits(options, threads, variables))
    results.about = about(threads, time.perf_counter() - begin)
    return results


def measure_limits(options: Options, threads: int, variables: dict[str, str]) -> Limits:
    """Measure what the machine can do, in a process of its own."""
    size, mebibytes, repeats = (512, 128, 2) if options.quick else (2048, 1024, 7)
    words = [PYTHON, "-m", "benchmarks.limits", *map(str, (threads, size, mebibytes, repeats))]
    answer = subprocess.run(words, env=variables, check=True, capture_output=True, text=True)
    return Limits(**json.loads(answer.stdout))


def measure_workload(session: Session, workload: Workload) -> None:
    """Measure a workload's tasks in the processes of its contenders."""
    effort, absent = session.options.effort, session.results.missing
    with tempfile.TemporaryDirectory() as compiled:
        variables = {**session.variables, "TORCHINDUCTOR_CACHE_DIR": compiled}
        names = [
            who
            for who in workload.contenders
            if not (session.options.quick and who in SLOW_TO_START and workload is not WORKLOADS[0])
        ]
        with processes(names, variables) as running:
            for task in workload.tasks[:1] if session.options.quick else workload.tasks:
                able = [pair for pair in running if pair[0] not in absent]
                ready, missing = entrants(
                    task, able, replace(effort, trial=min(effort.trial, workload.trial))
                )
                absent |= missing
                for who, why in missing.items():
                    print(f"{NAMES[who]} does not take part: {why}", file=sys.stderr)
                run_in_turn(ready, effort.runs)
                lines = [entrant.line for entrant in ready]
                known = None if task.kind == "validate" else task
                session.add(Table(workload.key, title(task), lines, known))


def measure_series(session: Session, series: Series) -> list[Point]:
    """Measure a series: all of its points in turn, each in processes of its own."""
    effort = session.options.effort
    effort = replace(effort, target=effort.target / 2, longest=effort.longest / 2)
    names = [who for _ in series.points for who in CONTENDERS]
    points, everyone = [], []
    with processes(names, session.variables) as running:
        for index, (x, task) in enumerate(series.points):
            first = index * len(CONTENDERS)
            ready, _ = entrants(task, running[first : first + len(CONTENDERS)], effort)
            lines = [entrant.line for entrant in ready]
            points.append(Point(x, task, Table(series.key, title(task), lines, task)))
            everyone += ready
        run_in_turn(everyone, effort.runs)
    for who in CONTENDERS:
        slope = slope_of(series, points, who)
        print(f"time by {series.key}, {NAMES[who]}: slope {slope:.3f}", flush=True)
    return points


def about(threads: int, seconds: float) -> dict[str, str]:
    """Return what the figures depend on."""
    libraries = [f"{name} {_version(name)}" for name in LIBRARIES]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.0f} minutes",
        "machine": f"{processor()}, {threads} processors for this process, "
        f"{platform.system()} {platform.machine()}",
        "versions": f"xpnet {_version('xpnet')}, Python {platform.python_version()}, {', '.join(libraries)}",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def write_results(results: Results, out: Path) -> None:
    """Write the page, its figure and all runs; ConfigError if they cannot be written."""
    if results.growth:
        save(out / FIGURE, figure(results.growth))
    content = json.dumps(record(results), indent=1, ensure_ascii=False) + "\n"
    save(out / "benchmarks.json", content.encode())
    save(out / "benchmarks.md", page(results).encode())


def record(results: Results) -> dict[str, Any]:
    """Return everything as JSON values; times are seconds of an epoch, a pass or a process."""
    return {
        "about": dict(results.about),
        "threads": results.threads,
        "limits": asdict(results.limits),
        "missing": dict(results.missing),
        "tables": [_table_record(table, results.limits) for table in results.tables],
        "growth": [
            {
                "by": series.key,
                "slopes": {who: slope_of(series, points, who) for who in CONTENDERS},
                "points": [{"at": p.x, **_table_record(p.table, results.limits)} for p in points],
            }
            for series, points in results.growth
        ],
    }


def _table_record(table: Table, limits: Limits) -> dict[str, Any]:
    content: dict[str, Any] = asdict(table)
    if table.task is not None:
        content["steps"] = table.task.steps
        content["floors"] = {kind: limits.floor(table.task, kind) for kind in ("native", "reproducible")}
    return content


def run(options: Options) -> None:
    """Measure, print the page, and write it where it belongs."""
    if options.out is not None:
        if "growth" in options.only and util.find_spec("matplotlib") is None:
            msg = 'the figure needs matplotlib: pip install -e ".[bench]"'
            raise ConfigError(msg)
        make_folder(options.out)
    results = run_session(options)
    print(f"\n{page(results)}")
    if options.out is not None:
        write_results(results, options.out)
        print(f"written to {options.out}")


def compare(options: Options, commit: str) -> None:
    """Compare with another commit, and print what comes of it."""
    (old, new), threads = against.commits(commit), available_cpus()
    rounds = f"{options.runs} round{'s' if options.runs > 1 else ''}"
    print(f"old {old[:12]}, new {new[:12]}, {rounds}, {threads} threads\n{against.heading()}")
    pairs = []
    for pair in against.compared(old, new, options.only, options.effort, threads, quick=options.quick):
        pairs.append(pair)
        print(against.row(pair), flush=True)
    print(against.worst(pairs))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 2 bad options or folder, 1 a contender failed."""
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        if options.against is None:
            run(options)
        else:
            compare(options, options.against)
    except (XPNetError, ContenderError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2 if isinstance(error, XPNetError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
