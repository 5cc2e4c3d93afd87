"""``xpnet report``: what a run did, as one page that needs no other file.

``record`` reads what the run noted, ``facts`` evaluates its network, ``page`` writes both down with the
``charts`` and ``images``, and ``network`` is what the page's own script computes with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet.cli import Parser, guarded
from xpnet.files import unwritable, write_atomic

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from xpnet.datasets import Dataset

__all__ = ["REPORT_FILE", "main", "write_report"]

# What is imported below, inside the functions, loads NumPy; --help does without.

REPORT_FILE = "report.html"

DESCRIPTION = """\
Write what a run did as one page, RUN/report.html, which needs no other file and no network: learning
curves, figures by class, the worst mistakes, and a field to draw digits for the network."""
EPILOG = "Exit codes: 0 done, 2 bad input, 130 interrupted."


def write_report(
    folder: Path,
    data: Dataset | None = None,
    out: Path | None = None,
    *,
    sha256: str | None = None,
) -> Path:
    """Write the report of a run and return where it is.

    Parameters
    ----------
    folder
        The folder of the run. It needs a model, but need not have ended.
    data
        The data of its training; by default they are read again from where they were.
    out
        The page to write, by default report.html in the folder. It appears complete or not at all.
    sha256
        ``xpnet.datasets.digest(data)``, if you have it already.

    Raises
    ------
    DataError
        The run or its model is missing or damaged, or the data are not there, or not those of the run.
    ConfigError
        The page cannot be written.
    """
    from xpnet.report.facts import gather
    from xpnet.report.page import page

    path = folder / REPORT_FILE if out is None else out
    content = page(gather(folder, data, sha256))
    try:
        write_atomic(path, content)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(words), debug="--debug" in words)


def _command(words: list[str]) -> int:
    arguments = _parser().parse_args(words)
    data = None
    if arguments.data is not None or arguments.test_data is not None:
        from xpnet import datasets

        data = datasets.load(arguments.data, arguments.test_data)
    run = arguments.run
    if run is None:
        from xpnet.runs.command import newest

        run = newest().folder
    sys.stdout.write(f"{write_report(run, data, arguments.out)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="xpnet report", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add(
        "run",
        type=Path,
        metavar="RUN",
        nargs="?",
        help="the folder of a run, such as runs/first (default: the newest trained run in runs)",
    )
    add("--out", type=Path, metavar="FILE", help="the page to write (default: RUN/report.html)")
    add("--data", type=Path, help="the data of the training, if they are not where they were")
    add("--test-data", type=Path, help="the test data, where --data is a CSV file")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return parser
