"""``xpnet runs``: list, show and compare runs, and name the best."""

import csv
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from xpnet._lib.parser import Parser
from xpnet._lib.text import complain, format_json, plain
from xpnet.cli.runs import details, listing
from xpnet.cli.tables import new_console
from xpnet.errors import DataError
from xpnet.storage.find import OUT, FoundRun, find_newest_run, find_runs, name_relative_to, read_found_run
from xpnet.storage.record import RECORD_FILE

DESCRIPTION = "List, show and compare runs, and name the best, from what their folders hold."
SORT_HELP = """
id, status, started, network, arithmetic, backend or a metric such as test_accuracy: accuracies from the best
on, all else ascending (default: started)"""
NAMES_HELP = "names or folders; a folder of several trained together stands for all of them"
METRIC_HELP = """
what counts: the highest accuracy, the lowest of anything else (default: validation_accuracy if a run has it,
else test_accuracy)"""

Result = tuple[Any, list[list[Any]], Callable[[Console], None]]
"""Of an action: a JSON value, the rows of a CSV file with the heading first, and what prints it as text."""


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(words)
    value, rows, show = arguments.run(arguments)
    if arguments.json:
        sys.stdout.write(format_json(value))
    elif arguments.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(map(_field, row) for row in rows)
    else:
        show(new_console())
    return 0


def _parser() -> Parser:
    parser = Parser(prog="xpnet runs", description=DESCRIPTION)
    subparsers = parser.add_subparsers(metavar="ACTION", required=True)
    folder: dict[str, Any] = {"metavar": "FOLDER", "type": Path}
    folder["help"] = f"where the runs are (default: {OUT})"
    add = {}
    for name, (run, summary) in ACTIONS.items():
        action = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        action.set_defaults(run=run)
        where, form = action.add_mutually_exclusive_group(), action.add_mutually_exclusive_group()
        where.add_argument("--out", default=OUT, **folder)
        if name in ("list", "best"):
            where.add_argument("folder", nargs="?", **folder)
        form.add_argument("--json", action="store_true", help="print JSON")
        form.add_argument("--csv", action="store_true", help="print CSV")
        add[name] = action.add_argument
    add["list"]("--sort", metavar="NAME", default="started", help=SORT_HELP)
    add["list"]("--reverse", action="store_true", help="the other way round")
    add["show"]("name", metavar="RUN", nargs="?", help="its name, or its folder (default: the newest)")
    add["compare"]("names", metavar="RUN", nargs="+", help=NAMES_HELP)
    add["compare"]("--all", action="store_true", help="show what is equal too")
    add["best"]("--metric", metavar="NAME", help=METRIC_HELP)
    return parser


def _list(arguments: Namespace) -> Result:
    folder, sort = arguments.folder or arguments.out, arguments.sort
    runs = find_runs(folder)
    if not runs:
        complain(f"note: no run in {folder}")
    runs = listing.ordered(runs, sort, reverse=arguments.reverse)
    return _list_of(runs, partial(listing.print_list, runs=runs, sort=sort))


def _show(arguments: Namespace) -> Result:
    name, out = arguments.name, arguments.out
    folder = find_newest_run(out, trained=False).folder if name is None else _folder(name, out)
    if not _is_run(folder):
        runs = _runs_of(folder, out)
        return _list_of(runs, partial(details.print_trials, folder=folder, runs=runs))
    run = read_found_run(folder, out)
    history = run.history()
    value = {**run.record, "status": run.status, "folder": str(run.folder), "history": history}
    columns = details.by_name(history)
    rows = [[*columns], *map(list, zip(*columns.values(), strict=True))]
    return value, rows, partial(details.print_details, run=run, history=history)


def _compare(arguments: Namespace) -> Result:
    folders = [_folder(name, arguments.out) for name in arguments.names]
    runs = [run for folder in folders for run in _runs_of(folder, arguments.out)]
    value = details.compare(runs, everything=arguments.all)
    show = partial(details.print_comparison, comparison=value, everything=arguments.all)
    return value, details.comparison_rows(value), show


def _best(arguments: Namespace) -> Result:
    runs = find_runs(arguments.folder or arguments.out)
    run, metric, count = listing.best(runs, arguments.metric)
    if arguments.metric is None and metric == "test_accuracy":
        reason = "no run here has a validation_accuracy (train with --validation 10000)"
        complain(f"note: chosen by test_accuracy, which flatters what it chooses: {reason}")
    value = {**listing.as_object(run), "chosen_by": metric, "commands": listing.commands(run)}
    show = partial(listing.print_best, run=run, metric=metric, count=count)
    return value, listing.as_rows([run]), show


def _list_of(runs: Sequence[FoundRun], show: Callable[[Console], None]) -> Result:
    return list(map(listing.as_object, runs)), listing.as_rows(runs), show


ACTIONS = {
    "list": (_list, "list all runs"),
    "show": (_show, "show everything about a run, or about several trained together"),
    "compare": (_compare, "show what differs between runs"),
    "best": (_best, "name the best run, and the commands that use it"),
}


def _field(value: object) -> object:
    """Return a value as a field of CSV: None is an empty field, and a list is JSON."""
    if value is None or isinstance(value, int | float):
        return value
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


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
        return [read_found_run(folder, out)]
    runs = [replace(run, id=name_relative_to(run.folder, out)) for run in find_runs(folder)]
    if not runs:
        msg = f"{folder}: no run in it: xpnet runs list shows those there are"
        raise DataError(msg)
    return runs
