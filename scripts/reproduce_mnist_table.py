"""Trains the multilayer perceptrons of the literature on MNIST and compares their test errors.

Trains what is missing, one after the other, and goes on where it was stopped. What is reached stands in
FOLDER/results.md and results.json; --page writes the same to docs/, where what an earlier page holds of
rows and seeds that are not in FOLDER is kept.

Exit codes: 0 done, 2 bad input or a training failed, 130 interrupted.
"""

import argparse
import itertools
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from papers.page import Candidate, RowResults, SeedResult, page, spoken
from papers.record import record, with_earlier
from papers.rows import ROWS, Row
from papers.runs import Job, candidate_job, completed, final_job, read_notes, train, verify
from shared import ROOT, make_folder, whole_number

from xpnet._lib.files import save
from xpnet.config.flags import Parser
from xpnet.errors import XPNetError
from xpnet.storage.record import Record

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
            choose(options.choose, options.flags, options.out, options.backend)
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
    parser.add_argument("--seeds", type=whole_number, metavar="N", help="seeds of each row (default: 5)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="(default: runs/mnist-table)")
    parser.add_argument(
        "--choose",
        type=_row,
        metavar="ROW",
        help="instead, train a candidate for this row, and judge it by validation images",
    )
    parser.add_argument("--flags", metavar="FLAGS", help="of the candidate, of xpnet train")
    parser.add_argument(
        "--backend", metavar="NAME", help="of xpnet train (default: the fastest for each row)"
    )
    parser.add_argument("--page", action="store_true", help="train nothing, write docs/results.md and .json")
    options = parser.parse_args(argv)
    if options.page and (options.choose or options.rows or options.seeds):
        parser.error("--page takes all that is there: leave --rows, --seeds and --choose out")
    if (options.choose is None) != (options.flags is None):
        parser.error("--choose and --flags belong together: the row of a candidate, and its settings")
    if options.choose and (options.rows or options.seeds):
        parser.error("--choose takes one row and seed 0: leave --rows and --seeds out")
    options.rows = tuple(dict.fromkeys(options.rows or (row for row in ROWS if row.seeds)))
    return options


def _row(name: str) -> Row:
    for row in ROWS:
        if row.key == name:
            return row
    msg = f"expected one of {', '.join(row.key for row in ROWS)}, got {name!r}"
    raise argparse.ArgumentTypeError(msg)


def train_rows(options: argparse.Namespace) -> None:
    """Train what is missing: every row with its first seed, then every row with its second, and so on."""
    wanted = {row.key: options.seeds or row.seeds or 1 for row in options.rows}
    for seed in range(max(wanted.values())):
        for row in options.rows:
            if seed < wanted[row.key]:
                _train_one(row, seed, options.out, options.backend)


def _train_one(row: Row, seed: int, out: Path, backend: str | None) -> None:
    job = final_job(out, row, seed)
    name = f"{row.key}, seed {seed}"
    if completed(job) is None:
        print(f"{name}: training", flush=True)
        train(job, backend or row.backend)
        write(results(out), out)
    if job.config.arithmetic == "reproducible":
        verify(job)
    result = _trained(job, seed)
    if result is not None:
        print(f"{name}: test error {result.test_error:.2f} %, {spoken(result.wall)}", flush=True)


def choose(row: Row, flags: str, out: Path, backend: str | None) -> None:
    """Train a candidate for a row without the validation images, and print its error on those."""
    run = train(candidate_job(out, row, flags), backend or row.backend)
    print(f"{_error(run, 'validation'):5.2f} %  {flags}", flush=True)


def results(out: Path) -> list[RowResults]:
    """Return what the complete runs in ``out`` reached.

    Raises
    ------
    DataError
        A run is damaged, or has other settings than its row.
    """
    return [row_results(out, row) for row in ROWS]


def row_results(out: Path, row: Row) -> RowResults:
    """Return what the complete runs of a row reached."""
    folders = (out / "runs").glob(f"{row.key}-seed-*")
    seeds = sorted(int(name) for folder in folders if (name := folder.name.rpartition("-")[2]).isdecimal())
    trained = [_trained(final_job(out, row, seed), seed) for seed in seeds]
    tried = [_candidate(out, row, folder) for folder in sorted((out / "candidates").glob(f"{row.key}-*"))]
    sizes = (FEATURES, *final_job(out, row, 0).config.hidden, CLASSES)
    return RowResults(
        row,
        "-".join(map(str, sizes)),
        [result for result in trained if result is not None],
        [candidate for candidate in tried if candidate is not None],
    )


def _trained(job: Job, seed: int) -> SeedResult | None:
    run = completed(job)
    if run is None:
        return None
    notes, name = read_notes(job.folder), run["backend"]
    return SeedResult(
        seed,
        _error(run, "test"),
        notes.wall,
        notes.cpu,
        _parameter_count(run),
        str(run["fingerprint"]),
        f"{name} {run['versions'].get(name, 'of unknown version')}",
        notes.machine,
        notes.processors,
        notes.verified,
    )


def _candidate(out: Path, row: Row, folder: Path) -> Candidate | None:
    notes = read_notes(folder)
    job = candidate_job(out, row, notes.flags)
    run = completed(job) if job.folder == folder else None  # else it is one of a row with a longer name
    if run is None:
        return None
    return Candidate(notes.flags, _error(run, "validation"), job.config.epochs, notes.cpu)


def _error(run: Record, part: str) -> float:
    """Return the error on a part of the images in per cent, free of the noise of binary fractions."""
    return round(100.0 * (1.0 - run["metrics"][f"{part}_accuracy"]), 6)


def _parameter_count(run: Record) -> int:
    hidden = run["config"]["hidden"]
    sizes = [run["data"]["features"], *hidden, run["data"]["classes"]]
    of_layers = sum((inputs + 1) * units for inputs, units in itertools.pairwise(sizes))
    return of_layers + (2 * sum(hidden) if run["config"]["batch_norm"] else 0)


def write(measured: Sequence[RowResults], folder: Path) -> None:
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
