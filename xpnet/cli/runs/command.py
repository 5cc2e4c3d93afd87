"""``xpnet runs``: list, show and compare runs, and name the best."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from xpnet._lib.text import complain
from xpnet.cli.parser import Parser
from xpnet.cli.runs import comparison, details, listing
from xpnet.cli.runs.formatting import print_result
from xpnet.errors import DataError
from xpnet.storage.find import OUT, FoundRun, name_below, newest, read, surveyed
from xpnet.storage.record import RECORD_FILE

DESCRIPTION = "List, show and compare runs, and name the best, from what their folders hold."
EXIT_CODES = "Exit codes: 0 done, 2 bad input, 130 interrupted."


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(words)
    arguments.run(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="xpnet runs", description=DESCRIPTION, epilog=EXIT_CODES)
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> Parser:
        description = f"{summary[0].upper()}{summary[1:]}."
        added = actions.add_parser(name, help=summary, description=description, epilog=EXIT_CODES)
        added.set_defaults(run=run)
        return added

    folder: dict[str, Any] = {"metavar": "FOLDER", "type": Path}
    folder["help"] = f"where the runs are (default: {OUT})"

    def add_folder(parser: Parser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument("folder", nargs="?", **folder)
        where.add_argument("--out", default=OUT, **folder)

    many = action("list", _list, "list all runs")
    add_folder(many)
    many.add_argument(
        "--sort",
        metavar="NAME",
        default="started",
        help="id, status, started, network, arithmetic, backend or a metric such as test_accuracy: "
        "accuracies from the best on, all else ascending (default: started)",
    )
    many.add_argument("--reverse", action="store_true", help="the other way round")
    one = action("show", _show, "show everything about a run, or about several trained together")
    one.add_argument(
        "run_name", metavar="RUN", nargs="?", help="a run: its name, or its folder (default: the newest)"
    )
    one.add_argument("--out", default=OUT, **folder)
    some = action("compare", _compare, "show what differs between runs")
    some.add_argument(
        "names",
        metavar="RUN",
        nargs="+",
        help="runs: names or folders; a folder of several trained together stands for all of them",
    )
    some.add_argument("--all", action="store_true", help="show what is equal too")
    some.add_argument("--out", default=OUT, **folder)
    first = action("best", _best, "name the best run, and the commands that use it")
    add_folder(first)
    first.add_argument(
        "--metric",
        metavar="NAME",
        help="what counts: the highest accuracy, the lowest of anything else "
        "(default: validation_accuracy if a run has it, else test_accuracy)",
    )
    for added in actions.choices.values():
        form = added.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="print JSON")
        form.add_argument("--csv", action="store_true", help="print CSV")
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    folder = arguments.folder or arguments.out
    runs = surveyed(folder)
    if not runs:
        complain(f"note: no run in {folder}")
    runs = listing.ordered(runs, arguments.sort, reverse=arguments.reverse)
    _print_runs(arguments, runs, lambda console: listing.print_list(console, runs, arguments.sort))


def _show(arguments: argparse.Namespace) -> None:
    name, out = arguments.run_name, arguments.out
    folder = newest(out, trained=False).folder if name is None else _folder(name, out)
    if not _is_run(folder):
        runs = _runs_of(folder, out)
        _print_runs(arguments, runs, lambda console: details.print_trials(console, folder, runs))
        return
    run = read(folder, out)
    history = run.history()
    print_result(
        arguments,
        details.as_object(run, history),
        details.history_rows(history),
        lambda console: details.print_details(console, run, history),
    )


def _compare(arguments: argparse.Namespace) -> None:
    folders = [_folder(name, arguments.out) for name in arguments.names]
    runs = [run for folder in folders for run in _runs_of(folder, arguments.out)]
    compared = comparison.compare(runs, everything=arguments.all)
    print_result(
        arguments,
        compared,
        comparison.as_rows(compared),
        lambda console: comparison.print_comparison(console, compared, everything=arguments.all),
    )


def _best(arguments: argparse.Namespace) -> None:
    runs = surveyed(arguments.folder or arguments.out)
    run, metric, count = listing.best(runs, arguments.metric)
    if arguments.metric is None and metric == "test_accuracy":
        complain(
            "note: chosen by test_accuracy, which flatters what it chooses: no run here has a "
            "validation_accuracy (train with --validation 10000)"
        )
    print_result(
        arguments,
        {**listing.as_object(run), "chosen_by": metric, "commands": listing.commands(run)},
        listing.as_rows([run]),
        lambda console: listing.print_best(console, run, metric, count),
    )


def _print_runs(
    arguments: argparse.Namespace, runs: Sequence[FoundRun], print_text: Callable[[Console], None]
) -> None:
    print_result(arguments, list(map(listing.as_object, runs)), listing.as_rows(runs), print_text)


def _folder(name: str, out: Path) -> Path:
    """Return the folder that is meant: the path `name` if a run is there, else ``out/name``, else the path.

    Raises
    ------
    DataError
        There is none.
    """
    path, inside = Path(name), out / name
    for folder in (path, inside) if _is_run(path) else (inside, path):
        if folder.is_dir():
            return folder
    msg = f"{name}: no such run in {out}, and no such folder: xpnet runs list shows what there is"
    raise DataError(msg)


def _is_run(folder: Path) -> bool:
    return os.path.lexists(folder / RECORD_FILE)


def _runs_of(folder: Path, out: Path) -> list[FoundRun]:
    """Return the run in `folder`, or the runs below it; raise DataError if there is none."""
    if _is_run(folder):
        return [read(folder, out)]
    runs = [replace(run, id=name_below(run.folder, out)) for run in surveyed(folder)]
    if not runs:
        msg = f"{folder}: no run in it: xpnet runs list shows those there are"
        raise DataError(msg)
    return runs
