"""``xpnet report``: write the report of a run."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xpnet._lib.parser import Parser
from xpnet.report import write_report
from xpnet.storage.find import find_newest_run

DESCRIPTION = """\
Write what a run did as one page, RUN/report.html, which needs no other file and no network: learning
curves, figures by class, the worst mistakes, and a field to draw digits for the network."""


def main(words: Sequence[str]) -> int:
    """Write the report and return the exit code."""
    arguments = _build_parser().parse_args(words)
    run = find_newest_run().folder if arguments.run is None else arguments.run
    data = None
    if arguments.data is not None or arguments.test_data is not None:
        from xpnet.config.training import read_table_options
        from xpnet.data import datasets
        from xpnet.storage.record import read_run

        is_table = arguments.data is not None and datasets.is_csv(arguments.data)
        options = read_table_options(read_run(run)["config"]) if is_table else {}
        data = datasets.load(arguments.data, arguments.test_data, **options)
    sys.stdout.write(f"{write_report(run, data, arguments.out)}\n")
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="xpnet report", description=DESCRIPTION)
    add = parser.add_argument
    run = "the folder of a run, such as runs/first (default: the newest trained run in runs)"
    add("run", type=Path, metavar="RUN", nargs="?", help=run)
    add("--out", type=Path, metavar="FILE", help="the page to write (default: RUN/report.html)")
    add("--data", type=Path, help="the data of the training, if they are not where they were")
    add("--test-data", type=Path, help="the test data, where --data is a CSV file")
    return parser
