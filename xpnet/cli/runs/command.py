"""``xpnet runs``: list, show and compare runs, and name the best."""

import csv
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from xpnet._lib.terminal import make_console
from xpnet._lib.text import complain, format_json, plain
from xpnet.cli.runs import details
from xpnet.config.flags import Parser
from xpnet.errors import DataError
from xpnet.storage import find
from xpnet.storage.record import METRICS_FILE, RECORD_FILE, read_metrics

DESCRIPTION = "List, show and compare runs, and name the best, from what their folders hold."
SORT_HELP = """
id, status, started, data, network, optimizer, learning_rate, arithmetic, backend, tags or a metric such as
test_accuracy: accuracies from the best on, all else ascending (default: started)"""
WHERE_HELP = "only runs where this holds: NAME is data, a metric or a setting; also != < <= > >=; repeatable"
NAMES_HELP = "names or folders; a folder of several trained together stands for all of them"
METRIC_HELP = """
what counts: the highest accuracy, the lowest of anything else (default: validation_accuracy if a run has it,
else test_accuracy)"""

Result = tuple[object, Sequence[Iterable[object]], Callable[[Console], None]]
"""The result of an action: a JSON value, the rows of a CSV file, heading first, and a print function."""


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = _build_parser().parse_args(words)
    value, rows, show = arguments.run(arguments)
    if arguments.json:
        sys.stdout.write(format_json(value))
    elif arguments.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(map(_format_field, row) for row in rows)
    else:
        show(make_console())
    return 0


def _build_parser() -> Parser:
    parser = Parser(prog="xpnet runs", description=DESCRIPTION)
    subparsers = parser.add_subparsers(metavar="ACTION", required=True)
    folder_help = f"where the runs are (default: {find.OUT})"
    add = {}
    for name, (run, summary) in ACTIONS.items():
        action = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        action.set_defaults(run=run)
        root, form = action.add_mutually_exclusive_group(), action.add_mutually_exclusive_group()
        root.add_argument("--out", default=find.OUT, metavar="FOLDER", type=Path, help=folder_help)
        if name in ("list", "best"):
            root.add_argument("folder", nargs="?", metavar="FOLDER", type=Path, help=folder_help)
        if name != "show":
            add_condition = partial(action.add_argument, dest="where", action="append", default=[])
            add_condition("--where", metavar="NAME=VALUE", type=find.read_condition, help=WHERE_HELP)
            tag = partial(find.Condition, "tags", "=")
            add_condition("--tag", metavar="NAME", type=tag, help="only runs with this tag; repeatable")
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


def _list_runs(arguments: Namespace) -> Result:
    runs, place = _find_selected_runs(arguments)
    if not runs:
        complain(f"note: no run {place}")
    runs = details.sort_runs(runs, arguments.sort, reverse=arguments.reverse)
    return _make_list(runs, partial(details.print_list, runs=runs, sort=arguments.sort))


def _show_run(arguments: Namespace) -> Result:
    if arguments.name is None:
        runs = [find.find_newest_run(arguments.out, trained=False)]
        folder = runs[0].folder
    else:
        folder, runs = _read_runs(arguments.name, arguments.out)
    run = runs[0]
    if run.folder != folder:
        return _make_list(runs, partial(details.print_trials, folder=folder, runs=runs))
    history = read_metrics(run.folder / METRICS_FILE)
    value = {**run.record, "status": run.status, "folder": str(run.folder), "history": history}
    columns = details.to_columns(history)
    rows = [[*columns], *zip(*columns.values(), strict=True)]
    return value, rows, partial(details.print_details, run=run, history=history)


def _compare_runs(arguments: Namespace) -> Result:
    runs = [run for name in arguments.names for run in _read_runs(name, arguments.out)[1]]
    runs = find.select_runs(runs, arguments.where)
    value = details.compare_runs(runs, everything=arguments.all)
    show = partial(details.print_comparison, comparison=value, everything=arguments.all)
    return value, details.comparison_to_csv_rows(value), show


def _find_best_run(arguments: Namespace) -> Result:
    runs, place = _find_selected_runs(arguments)
    run, metric, count = details.find_best(runs, arguments.metric, place)
    if arguments.metric is None and metric == "test_accuracy":
        reason = "no run here has a validation_accuracy (train with --validation 10000)"
        complain(f"note: chosen by test_accuracy, which flatters what it chooses: {reason}")
    value = {**details.to_object(run), "chosen_by": metric, "commands": details.suggest_commands(run)}
    show = partial(details.print_best, run=run, metric=metric, count=count)
    return value, details.to_csv_rows([run]), show


def _find_selected_runs(arguments: Namespace) -> tuple[list[find.FoundRun], str]:
    """Return the runs in the folder that fulfil the conditions, and both in words."""
    folder = arguments.folder or arguments.out
    runs = find.select_runs(find.find_runs(folder), arguments.where)
    return runs, f"in {' with '.join([str(folder), *map(''.join, arguments.where)])}"


def _make_list(runs: Sequence[find.FoundRun], show: Callable[[Console], None]) -> Result:
    return list(map(details.to_object, runs)), details.to_csv_rows(runs), show


ACTIONS = {
    "list": (_list_runs, "list all runs"),
    "show": (_show_run, "show everything about a run, or about several trained together"),
    "compare": (_compare_runs, "show what differs between runs"),
    "best": (_find_best_run, "name the best run, and the commands that use it"),
}


def _format_field(value: object) -> object:
    """Convert a value to a CSV field: None to an empty field, a list to JSON.

    Text that a spreadsheet would compute as a formula begins with an apostrophe.
    """
    if value is None or isinstance(value, int | float):
        return value
    text = plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _read_runs(name: str, out: Path) -> tuple[Path, list[find.FoundRun]]:
    """Return a folder, and the run in it or the runs below it.

    Raises
    ------
    DataError
        The folder does not exist, or there is no run in it.
    """
    folder = find.resolve_run(name, out)
    if os.path.lexists(folder / RECORD_FILE):
        return folder, [find.read_found_run(folder, out)]
    runs = [replace(run, id=find.name_relative_to(run.folder, out)) for run in find.find_runs(folder)]
    if not runs:
        raise DataError.at(folder, "no run in it: xpnet runs list shows those there are")
    return folder, runs
