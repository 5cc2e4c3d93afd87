"""Trains the multilayer perceptrons of the literature on MNIST and compares their test errors.

Trains each row that is missing with `xpnet train --recipe NAME --repeats N`; stopped, it goes on with the row
at which it was. FOLDER/results.md and results.json have what is reached; --page writes the same to docs/, and
keeps what an earlier page has of rows that are not in FOLDER.

Exit codes: 0 done, 2 bad input or a training failed, 130 interrupted.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from checkout import ROOT
from papers.page import ROWS, Row, page, published, spoken
from shared import make_folder, processor, whole_number

from xpnet import __main__ as xpnet
from xpnet._lib.files import save
from xpnet._lib.machine import available_cpus
from xpnet.config import TrainConfig, parse, to_json
from xpnet.config.flags import Parser
from xpnet.errors import DataError, XPNetError
from xpnet.storage.folder import RunFolder
from xpnet.storage.record import read_summary

DOCS = ROOT / "docs"
OUT = ROOT / "runs" / "mnist-table"
PAGE_FILE, RECORD_FILE = "results.md", "results.json"
INTERRUPTED = 130
WITHOUT_CONSEQUENCE = {"out", "name", "quiet", "overwrite", "debug", "log_every", "backend", "device"}
"""Settings in which runs of a row may differ; the page names the backend."""

Result = dict[str, Any]
"""The figures of a row, as JSON values."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        make_folder(options.out)
        results = read_results(options.out)
        if options.page:
            kept = read_results(DOCS)
            write([each if each["trained"] else kept[row] for row, each in results.items()], DOCS)
        else:
            train_rows(options, results)
            write(results.values(), options.out)
    except XPNetError as error:
        print(f"reproduce_mnist_table: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("reproduce_mnist_table: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; ConfigError if they are wrong."""
    parser = Parser(debug=False, description=__doc__, epilog="", allow_abbrev=False)
    add = parser.add_argument
    add("--rows", nargs="+", metavar="NAME", choices=ROWS, help=f"some of {', '.join(ROWS)} (default: all)")
    add("--seeds", type=whole_number, metavar="N", help="seeds of each row (default: 5)")
    add("--out", type=Path, default=OUT, metavar="FOLDER", help="(default: runs/mnist-table)")
    add("--backend", metavar="NAME", help="of xpnet train (default: the fastest for each row)")
    add("--page", action="store_true", help="train nothing, write docs/results.md and .json")
    options = parser.parse_args(argv)
    if options.page and (options.rows or options.seeds):
        parser.error("--page takes all that is there: leave --rows and --seeds out")
    options.rows = options.rows or [key for key, row in ROWS.items() if row.seeds]
    return options


def train_rows(options: argparse.Namespace, results: dict[str, Result]) -> None:
    """Train the rows that have fewer seeds than wanted."""
    for key in options.rows:
        row = ROWS[key]
        seeds = options.seeds or row.seeds or 1
        if len(results[key]["trained"]) >= seeds:
            continue
        print(f"{key}: training", flush=True)
        folder: Path = options.out / f"{key}-{seeds}"
        repeats = ["--repeats", str(seeds)] if seeds > 1 else []
        where = ["--out", str(options.out), "--name", folder.name, "--overwrite", "--no-report", "--quiet"]
        backend = ["--backend", options.backend or row.backend]
        run(folder, "train", *row.flags.split(), *repeats, *where, *backend)
        folders = [folder / name for name in read_summary(folder).runs] if seeds > 1 else [folder]
        trained = [describe_training(RunFolder(each)) for each in folders]
        results[key] = describe(row, trained)
        write(results.values(), options.out)
        for result in trained:
            error, seconds = result["test_error"], spoken(result["wall"])
            print(f"{key}, seed {result['seed']}: test error {error:.2f} %, {seconds}", flush=True)


def run(folder: Path, *command: str) -> None:
    """Run a command of xpnet; XPNetError if it fails, after its own message, or KeyboardInterrupt."""
    code = xpnet.main(command)
    if code in (INTERRUPTED, 128 + signal.SIGTERM):
        raise KeyboardInterrupt
    if code != 0:
        raise XPNetError.at(folder, f"xpnet {command[0]} ended with exit code {code}")


def describe_training(trained: RunFolder) -> Result:
    """Return the figures of a training; of a reproducible one after `xpnet verify` has computed it again."""
    record = trained.record
    is_reproducible = trained.config.arithmetic == "reproducible"
    if is_reproducible:
        run(trained.path, "verify", str(trained.path), "--quiet")
    begin, end = (datetime.fromisoformat(str(record[name])) for name in ("started", "ended"))
    sizes = [record["data"]["features"], *trained.config.hidden, record["data"]["classes"]]
    parameters = sum((inputs + 1) * units for inputs, units in pairwise(sizes))
    library, metrics = record["backend"], cast("dict[str, float]", record["metrics"])
    return {
        "seed": record["seed"],
        "test_error": round(100.0 * (1.0 - metrics["test_accuracy"]), 6),  # no noise of binary fractions
        "wall": (end - begin).total_seconds(),
        "parameters": parameters + 2 * sum(trained.config.hidden) * trained.config.batch_norm,
        "fingerprint": record["fingerprint"],
        "backend": f"{library} {record['versions'].get(library, 'of unknown version')}",
        "machine": processor(),
        "processors": available_cpus(),
        "verified": is_reproducible,
    }


def describe(row: Row, trained: Sequence[Result] = ()) -> Result:
    """Return all figures of a row, and the settings it is trained with where they are not the defaults."""
    plain, own = to_json(TrainConfig()), to_json(parse(row.flags.split(), "xpnet train").config)
    settings = {name: own[name] for name in own if own[name] != plain[name]}
    return {
        "row": row.key,
        "network": "-".join(map(str, (784, *own["hidden"], 10))),
        "training": row.training,
        "published_test_error": None if row.published is None else float(row.published),
        "source": row.source,
        "flags": row.flags,
        "settings": {name: value for name, value in settings.items() if name not in WITHOUT_CONSEQUENCE},
        **published(row, [run["test_error"] for run in trained]),
        "trained": list(trained),
    }


def read_results(folder: Path) -> dict[str, Result]:
    """Return the figures of all rows, from a folder's record if it has them with the same settings."""
    path, results = folder / RECORD_FILE, {key: describe(row) for key, row in ROWS.items()}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
        recorded = {each["row"]: each for each in rows}
        for key, row in ROWS.items():
            if recorded.get(key, {}).get("settings") == results[key]["settings"]:
                results[key] = describe(row, recorded[key]["trained"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError.at(path, "damaged: remove it, the page then holds what is trained now") from error
    return results


def write(results: Iterable[Result], folder: Path) -> None:
    """Write the page and the figures; ConfigError if they cannot be written."""
    rows = list(results)
    text = json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n"
    save(folder / RECORD_FILE, text.encode())
    save(folder / PAGE_FILE, page(rows).encode())


if __name__ == "__main__":
    sys.exit(main())
