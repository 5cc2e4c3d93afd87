"""Trains the multilayer perceptrons of the literature on MNIST and compares their test errors.

Trains what is missing, one after the other, and goes on where it was stopped. What is reached stands in
FOLDER/results.md and results.json; --page writes the same to docs/, where what an earlier page holds of
rows and seeds that are not in FOLDER is kept.

Exit codes: 0 done, 2 bad input or a training failed, 130 interrupted.
"""

import argparse
import itertools
import json
import platform
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from papers.page import Candidate, Results, RowResults, SeedResult, page, spoken
from papers.record import record, with_earlier
from papers.rows import ROWS, Row
from papers.runs import Job, candidate_job, completed, cost, final_job, train
from shared import ROOT, make_folder, processor, whole_number

from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet._lib.parser import Parser
from xpnet.errors import DataError, XPNetError
from xpnet.storage.record import Record, read_run

DOCS = ROOT / "docs"
OUT = ROOT / "runs" / "mnist-table"
FEATURES, CLASSES = 784, 10
PAGE_FILE, RECORD_FILE = "results.md", "results.json"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code."""
    # Also where a shell starts this in the background and has it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        make_folder(options.out)
        if options.choose is not None:
            choose(options.choose, options.out, options.backend)
        elif not options.page:
            train_rows(options)
        measured = results(options.out)
        if options.page:
            write(with_earlier(measured, DOCS / RECORD_FILE), DOCS)
        else:
            write(measured, options.out)
    except XPNetError as error:
        print(f"reproduce_mnist_table: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("reproduce_mnist_table: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options: rows, seeds, out, choose, backend and page; ConfigError if they are wrong."""
    parser = Parser(
        debug=False, prog="reproduce_mnist_table.py", description=__doc__, epilog="", allow_abbrev=False
    )
    names = ", ".join(row.key for row in ROWS)
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", type=_row, help=f"some of {names} (default: all)"
    )
    parser.add_argument("--seeds", type=whole_number, metavar="N", help="seeds of each row (default: 3 or 5)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="(default: runs/mnist-table)")
    parser.add_argument(
        "--choose",
        type=_row,
        metavar="ROW",
        help="instead, train this row's candidates and compare them on validation images",
    )
    parser.add_argument("--backend", default="auto", metavar="NAME", help="of xpnet train (default: auto)")
    parser.add_argument("--page", action="store_true", help="train nothing, write docs/results.md and .json")
    options = parser.parse_args(argv)
    if options.page and (options.choose or options.rows or options.seeds):
        parser.error("--page takes all that is there: leave --rows, --seeds and --choose out")
    if options.choose and (options.rows or options.seeds):
        parser.error("--choose takes one row and seed 0: leave --rows and --seeds out")
    options.rows = tuple(dict.fromkeys(options.rows or ROWS))
    return options


def _row(name: str) -> Row:
    for row in ROWS:
        if row.key == name:
            return row
    msg = f"expected one of {', '.join(row.key for row in ROWS)}, got {name!r}"
    raise argparse.ArgumentTypeError(msg)


def train_rows(options: argparse.Namespace) -> None:
    """Train what is missing: every row with its first seed, then every row with its second, and so on."""
    wanted = {row.key: options.seeds or row.seeds for row in options.rows}
    for seed in range(max(wanted.values())):
        for row in options.rows:
            if seed < wanted[row.key]:
                _train_one(row, seed, options.out, options.backend)


def _train_one(row: Row, seed: int, out: Path, backend: str) -> None:
    job = final_job(out, row, seed)
    name = f"{row.key}, seed {seed}"
    if completed(job) is None:
        print(f"{name}: training", flush=True)
        train(job, backend)
        write(results(out), out)
    result = _trained(job, seed)
    if result is not None:
        spent = f", {spoken(result.wall)}" if result.wall is not None else ""
        print(f"{name}: test error {result.test_error:.2f} %{spent}", flush=True)


def choose(row: Row, out: Path, backend: str) -> None:
    """Train a row's candidates without the validation images and print their errors on those.

    Raises
    ------
    DataError
        The row has no candidates.
    """
    if not row.candidates:
        msg = f"--choose: {row.key} has no candidates: its only setting is {row.flags}"
        raise DataError(msg)
    for flags in row.candidates:
        run = train(candidate_job(out, row, flags), backend)
        print(f"{_error(run, 'validation'):5.2f} %  {flags}", flush=True)


def results(out: Path) -> Results:
    """Return what the complete runs in ``out`` reached.

    Raises
    ------
    DataError
        A run is damaged, or has other settings than its row.
    """
    rows = [row_results(out, row) for row in ROWS]
    return Results(rows, available_cpus(), _about(out))


def row_results(out: Path, row: Row) -> RowResults:
    """Return what the complete runs of a row reached."""
    folders = (out / "runs").glob(f"{row.key}-seed-*")
    seeds = sorted(int(name) for folder in folders if (name := folder.name.rpartition("-")[2]).isdecimal())
    trained = [_trained(final_job(out, row, seed), seed) for seed in seeds]
    sizes = (FEATURES, *final_job(out, row, 0).config.hidden, CLASSES)
    return RowResults(
        row,
        "-".join(map(str, sizes)),
        [result for result in trained if result is not None],
        [candidate for flags in row.candidates for candidate in _candidate(out, row, flags)],
    )


def _trained(job: Job, seed: int) -> SeedResult | None:
    run = completed(job)
    if run is None:
        return None
    spent = cost(job.folder)
    return SeedResult(
        seed,
        _error(run, "test"),
        spent and spent.wall,
        spent and spent.cpu,
        _parameter_count(run),
        str(run["fingerprint"]),
        run["backend"],
    )


def _candidate(out: Path, row: Row, flags: str) -> list[Candidate]:
    job = candidate_job(out, row, flags)
    run = completed(job)
    if run is None:
        return []
    spent = cost(job.folder)
    return [Candidate(flags, _error(run, "validation"), job.config.epochs, spent and spent.cpu)]


def _error(run: Record, part: str) -> float:
    """Return the error on a part of the images in per cent, free of the noise of binary fractions."""
    return round(100.0 * (1.0 - run["metrics"][f"{part}_accuracy"]), 6)


def _parameter_count(run: Record) -> int:
    hidden = run["config"]["hidden"]
    sizes = [run["data"]["features"], *hidden, run["data"]["classes"]]
    of_layers = sum((inputs + 1) * units for inputs, units in itertools.pairwise(sizes))
    return of_layers + (2 * sum(hidden) if run["config"]["batch_norm"] else 0)


def _about(out: Path) -> str:
    """Return this machine, and what the runs say of the libraries they used."""
    records = [read_run(path.parent) for path in sorted((out / "runs").glob("*/run.json"))]
    if not records:
        return ""
    versions = sorted({run["versions"].get("numpy", "of unknown version") for run in records})
    return (
        f"Trained with NumPy {' and '.join(versions)}, on {processor()},\n"
        f"{available_cpus()} processors and as many threads, {platform.system()}."
    )


def write(measured: Results, folder: Path) -> None:
    """Write the page and the figures.

    Raises
    ------
    ConfigError
        They cannot be written.
    """
    files = {
        RECORD_FILE: json.dumps(record(measured), indent=1, ensure_ascii=False) + "\n",
        PAGE_FILE: page(measured),
    }
    for name, text in files.items():
        save(folder / name, text.encode())


if __name__ == "__main__":
    sys.exit(main())
