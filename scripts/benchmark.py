"""Measures xpnet beside the notebook's code, PyTorch, JAX and scikit-learn, in one sitting.

Writes docs/benchmarks.md and benchmarks.json; the page says how it measures.
With --against COMMIT it compares this commit of xpnet with another one instead (benchmarks/against.py), with
--gpu FILE it writes the times that scripts/gpu_check.py has measured into docs/devices.md.

Exit codes: 0 done, 1 a contender failed, 2 bad input, 130 interrupted.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks import against, commands
from benchmarks.limits import Limits
from benchmarks.page import Results, page
from benchmarks.runs import PYTHON, ContenderError, Table, entrants, environment, processes, run_in_turn
from benchmarks.tasks import WORKLOADS, takes_part
from checkout import ROOT
from shared import make_folder, markdown, processor, whole_number, write_part

from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet.config.flags import Parser
from xpnet.errors import XPNetError

DOCS = ROOT / "docs"
GPU_PAGE = DOCS / "devices.md"
PARTS = (*WORKLOADS, *commands.PARTS)
LIBRARIES = ("xpnet", "numpy", "pandas", "torch", "jax", "jaxlib", "scikit-learn")


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; ConfigError if they are wrong."""
    parser = Parser(debug=False, prog="benchmark.py", description=__doc__, epilog="", allow_abbrev=False)
    add = parser.add_argument
    add("--runs", type=whole_number, help="counted runs of each (default: 5, or 9 with --against)")
    add("--quick", action="store_true", help="a smoke run: everything once, in a few steps")
    names = f"some of {','.join(PARTS)}; with --against of {','.join(against.PARTS)}"
    add("--only", type=lambda text: text.split(","), help=names)
    written = f"default: {DOCS.name}; nothing is written after --quick or --only"
    add("--out", type=Path, help=f"folder for the page and its figures ({written})")
    ratios = "compare this commit with that one, in turn, and write nothing; ratios are new to old"
    add("--against", metavar="COMMIT", help=ratios)
    add("--gpu", type=Path, metavar="FILE", help="write its times into docs/devices.md, and measure nothing")
    options = parser.parse_args(argv)
    parts = PARTS if options.against is None else against.PARTS
    for part in options.only or ():
        if part not in parts:
            parser.error(f"argument --only: expected some of {','.join(parts)}, got {part!r}")
    if options.against is not None and options.out is not None:
        parser.error("argument --out: does not go with --against, which writes no page")
    if not options.quick and options.only is None and options.against is None:
        options.out = options.out or DOCS
    options.only = options.only or parts
    # The seconds that a run of a task takes about.
    options.target = 0.02 if options.quick else 0.5
    options.runs = options.runs or (1 if options.quick else 5 if options.against is None else 9)
    return options


def run(options: argparse.Namespace) -> None:
    """Measure, print the page, and write it and all runs; ConfigError if that fails."""
    if options.out is not None:
        make_folder(options.out)
    results = measure_all(options)
    print(f"\n{page(results)}")
    if options.out is not None:
        content = json.dumps(asdict(results), indent=1, ensure_ascii=False)
        save(options.out / "benchmarks.json", f"{content}\n".encode())
        save(options.out / "benchmarks.md", page(results).encode())
        print(f"written to {options.out}")


def measure_all(options: argparse.Namespace) -> Results:
    """Measure everything that the options ask for."""
    begin, threads = time.perf_counter(), available_cpus()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = environment(threads) | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
        results = Results(options.runs, threads, measure_limits(threads, variables, quick=options.quick))
        for table in measure_tables(options, folder, variables, results.missing):
            results.tables.append(table)
            lines = (f"  {line.name}: {line.median:.4g} s" for line in table.lines)
            print(table.title, *lines, sep="\n", flush=True)
    results.about = about(threads, time.perf_counter() - begin)
    return results


def measure_limits(threads: int, variables: dict[str, str], *, quick: bool) -> Limits:
    """Measure what the machine can do, in a process of its own."""
    size, mebibytes, repeats = (512, 128, 2) if quick else (2048, 1024, 7)
    words = [PYTHON, "-m", "benchmarks.limits", *map(str, (threads, size, mebibytes, repeats))]
    answer = subprocess.run(words, env=variables, check=True, capture_output=True, text=True)
    return Limits(**json.loads(answer.stdout))


def measure_tables(
    options: argparse.Namespace, folder: Path, variables: dict[str, str], missing: dict[str, str]
) -> Iterator[Table]:
    """Measure workloads and commands, and yield their tables; a quick run takes the images of two batches."""
    for key, tasks in WORKLOADS.items():
        if key not in options.only:
            continue
        with processes([who for who in takes_part(key) if who not in missing], variables) as running:
            for task in tasks[:1] if options.quick else tasks:
                few = replace(task, rows=min(task.rows, 2 * (task.batch or 1000))) if options.quick else task
                ready = entrants(few, running, options.target, missing)
                yield Table(key, few.title, run_in_turn(ready, options.runs), few)
    if set(commands.PARTS) & set(options.only):
        commands.export_csv(folder)
        for key, title, several in commands.groups(folder):
            if key in options.only:
                ready = [command.entrant(folder, variables) for command in several]
                yield Table(key, title, commands.measure(ready, options.runs))


def write_gpu_times(file: Path) -> None:
    """Write the times of steps that scripts/gpu_check.py has measured, in place of those of the page."""
    content = json.loads(file.read_bytes())
    rows = [row for row in content["rows"] if "µs" in row["values"]]
    rows = [row for row in rows if row["stage"] in {"steps", "others"}]
    times = {(row["case"], row["who"]): f"{row['values']['µs']:,.0f}" for row in rows}
    cases, whos = (list(dict.fromkeys(row[key] for row in rows)) for key in ("case", "who"))
    cells = [[case, *(times.get((case, who), "") for who in whos)] for case in cases]
    date, card, *libraries = content["about"]
    head = f"Measured on {card} ({date}; {'; '.join(libraries)}), in microseconds:"
    write_part(GPU_PAGE, "times on a GPU", f"{head}\n\n{markdown(['', *whos], cells)}")


def about(threads: int, seconds: float) -> dict[str, str]:
    """Return what the figures depend on."""
    installed = {each.name.lower(): each.version for each in metadata.distributions()}
    versions = (f"{name} {installed.get(name, 'absent')}" for name in LIBRARIES)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.0f} minutes",
        "machine": f"{processor()}, {threads} processors for this process, "
        f"{platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        if options.gpu is not None:
            write_gpu_times(options.gpu)
        elif options.against is None:
            run(options)
        else:
            against.compare(options)
    except (XPNetError, ContenderError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2 if isinstance(error, XPNetError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
