"""``xpnet runs``: list, show and compare runs.

List, show and compare runs, from what their folders hold.

Options
-------
--tag
    only runs with this tag; repeatable
--sort
    id, status, started, data, network, optimizer, learning_rate, arithmetic, backend, tags or a metric such
    as test_accuracy: accuracies from the best on, all else ascending (default: started)
--reverse
    the other way round
name
    its name, or its folder (default: the newest)
names
    names or folders; a folder of several trained together stands for all of them
--all
    show what is equal too
"""

import csv
import shlex
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from xpnet._lib.text import complain, csv_field, did_you_mean, format_command_line, format_json, plain
from xpnet.cli import comparison, tables
from xpnet.cli.comparison import higher_is_better, to_columns
from xpnet.cli.tables import Cell, format_cell, format_metric, make_column, print_pairs, to_line
from xpnet.config.flags import Parser
from xpnet.config.training import recorded_defaults
from xpnet.errors import ConfigError
from xpnet.report.charts import select_evenly
from xpnet.storage import record as records
from xpnet.storage.find import OUT, FoundRun, find_newest_run, find_runs, read_runs, resolve_run
from xpnet.storage.summary import compare_summary
from xpnet.training.terminal import make_console, style_text

FIELDS = """
    id status started data network optimizer learning_rate arithmetic backend tags
""".split()  # noqa: SIM905
"""The fields of a run that runs can be sorted by besides metrics."""

HEADINGS = {
    "learning_rate": "lr",
    "train_accuracy": "train acc",
    "validation_accuracy": "valid acc",
    "test_accuracy": "test acc",
}
"""Headings of columns that differ from the name of the field or metric."""

COLUMNS = (*(name for name in FIELDS if name != "started"), "epochs", "seconds", *HEADINGS, "fingerprint")
"""The columns of the table; those without a value are left out."""

DISPENSABLE = """
    fingerprint seconds train_accuracy backend arithmetic learning_rate optimizer network epochs tags
    validation_accuracy
""".split()  # noqa: SIM905
"""The columns left out on a narrow terminal, in this order."""

STYLES = {"completed": "green", "running": "cyan", "failed": "red"}
STYLES |= dict.fromkeys(("interrupted", "killed"), "yellow")

LINES = 40
"""The largest number of lines of the history in a table; --json and --csv give all of them."""

Result = tuple[object, Sequence[Iterable[object]], Callable[[Console], None]]
"""The result of an action: a JSON value, the rows of a CSV file, heading first, and a print function."""


def main(words: Sequence[str]) -> int:
    """Run the command. Return its exit code.

    Raises
    ------
    ConfigError
        It is one of before 0.4.
    """
    if words[:1] == ["best"] or any(word.startswith("--where") for word in words):
        remedy = "xpnet runs list --sort METRIC has the best run first, and pandas selects from its --csv"
        raise ConfigError(f"runs best, --where: are gone: {remedy} (docs/runs.md)")
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
    parser = Parser("xpnet runs", __doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    folder_help = f"where the runs are (default: {OUT})"
    add = {}
    for name, (run, summary) in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.", doc=__doc__)
        action.set_defaults(run=run)
        root, form = action.add_mutually_exclusive_group(), action.add_mutually_exclusive_group()
        root.add_argument("--out", default=OUT, metavar="FOLDER", type=Path, help=folder_help)
        if name == "list":
            root.add_argument("folder", nargs="?", metavar="FOLDER", type=Path, help=folder_help)
        if name != "show":
            action.add_argument("--tag", metavar="NAME", dest="tags", action="append", default=[])
        form.add_argument("--json", action="store_true", help="print JSON")
        form.add_argument("--csv", action="store_true", help="print CSV")
        add[name] = action.add_argument
    add["list"]("--sort", metavar="NAME", default="started")
    add["list"]("--reverse", action="store_true")
    add["show"]("name", metavar="RUN", nargs="?", type=Path)
    add["compare"]("names", metavar="RUN", nargs="+", type=Path)
    add["compare"]("--all", action="store_true")
    return parser


def _list_runs(arguments: Namespace) -> Result:
    folder, sort = arguments.folder or arguments.out, arguments.sort
    runs = _select_tagged(find_runs(folder), arguments.tags)
    names = [*_list_metrics(runs), *FIELDS]
    if not runs:
        complain(f"note: no run in {' with tag '.join(map(str, [folder, *arguments.tags]))}")
    elif sort not in names:
        expected = f"{', '.join(map(format_cell, names))}{did_you_mean(sort, names)}"
        raise ConfigError(f"--sort: no run has {format_cell(sort)!r}: expected one of {expected}")
    known = [run for run in runs if run.values.get(sort) is not None]
    known.sort(key=lambda run: run.values[sort], reverse=arguments.reverse != higher_is_better(sort))
    runs = known + [run for run in runs if run.values.get(sort) is None]
    return _make_list(runs, partial(print_list, runs=runs, sort=sort))


def _show_run(arguments: Namespace) -> Result:
    out = arguments.out
    folder = resolve_run(arguments.name or find_newest_run(out, trained=False).folder, out)
    runs = read_runs(folder, out)
    run = runs[0]
    if run.folder != folder:
        return _make_list(runs, partial(_print_trials, folder=folder, runs=runs))
    value = {**run.record, "status": run.status, "folder": str(run.folder), "history": run.history}
    columns = to_columns(run.history)
    return value, [[*columns], *zip(*columns.values(), strict=True)], partial(_print_details, run=run)


def _compare_runs(arguments: Namespace) -> Result:
    out = arguments.out
    runs = [run for name in arguments.names for run in read_runs(resolve_run(name, out), out)]
    value = comparison.compare_runs(_select_tagged(runs, arguments.tags), everything=arguments.all)
    rows: list[list[object]] = [["kind", "name", *value["runs"]]]
    for kind in "setting", "surrounding", "metric":
        rows += ([kind, name, *values] for name, values in value[f"{kind}s"].items())
    rows.append(["fingerprint", "fingerprint", *value["fingerprints"]])
    return value, rows, partial(comparison.print_comparison, comparison=value, everything=arguments.all)


ACTIONS = {
    "list": (_list_runs, "list all runs"),
    "show": (_show_run, "show everything about a run, or about several trained together"),
    "compare": (_compare_runs, "show what differs between runs"),
}


def _select_tagged(runs: Sequence[FoundRun], tags: Sequence[str]) -> list[FoundRun]:
    """Return the runs that have all of these tags."""
    return [run for run in runs if {*tags} <= {*run.fields["tags"]}]


def _make_list(runs: Sequence[FoundRun], show: Callable[[Console], None]) -> Result:
    """Return the fields, metrics and fingerprints of runs, and how they are shown."""
    names = [*FIELDS, *_list_metrics(runs), "fingerprint"]
    rows: list[list[object]] = [[*names], *([run.values.get(name) for name in names] for run in runs)]
    objects = []
    for run in runs:
        own = {"folder": str(run.folder), "fingerprint": run.record["fingerprint"], "metrics": run.metrics}
        objects.append({**run.fields, **own})
    return objects, rows, show


def _list_metrics(runs: Sequence[FoundRun]) -> list[str]:
    """Return the names of the metrics that at least one run has, in order of appearance."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics if name not in FIELDS))


def _format_field(value: object) -> object:
    """Convert a value to a CSV field: None to an empty field, a list to JSON."""
    if value is None or isinstance(value, int | float):
        return value
    return csv_field(to_line(value))


def _suggest_commands(run: FoundRun) -> dict[str, str]:
    """Return command lines that use the run, by a word for their purpose."""
    folder, model = (plain(shlex.quote(str(path))) for path in (run.folder, run.folder / records.MODEL_FILE))
    extendable = run.status == "completed" and (run.folder / records.CHECKPOINT_FILE).exists()
    commands = {
        "resume": (run.status not in ("running", "completed"), f"train --resume {folder}"),
        "evaluate": (run.ended, f"evaluate {folder}"),
        "predict": (run.ended, f"predict {folder} IMAGE"),
        "start from": (run.ended, f"train --init-from {model}"),
        "extend": (extendable, f"train --extend {folder} --epochs N"),
        "verify": (run.ended and run.record["specification_version"] is not None, f"verify {folder}"),
    }
    return {name: f"xpnet {words}" for name, (is_possible, words) in commands.items() if is_possible}


# Lists and details


def print_list(console: Console, runs: Sequence[FoundRun], sort: str) -> None:
    """Print a table of the runs; the field or metric `sort` always has a column."""
    values = to_columns([run.values for run in runs])
    for number, run in enumerate(runs):
        epochs, of = run.metrics.get("epochs"), run.record["config"].get("epochs")
        if run.status == "killed" and None not in (epochs, of):
            values["epochs"][number] = f"{epochs} of {of}"  # those of its checkpoint
    columns = {}
    for name in dict.fromkeys(COLUMNS if sort == "started" else (*COLUMNS, sort)):
        if any(value not in (None, []) for value in values.get(name, [])):
            cells = [_format_cell(name, value) for value in values[name]]
            columns[name] = make_column(HEADINGS.get(name, name), cells, right=name not in FIELDS)
    dispensable = (name for name in DISPENSABLE if name != sort)
    tables.print_table(console, tables.select_fitting(console, columns, dispensable))


def _format_cell(name: str, value: Any) -> Cell:
    if name == "id":
        return str(value)
    text = format_cell(_join_items(value)) if name in FIELDS else format_metric(name, value)
    return style_text(text, STYLES.get(text, ""))


def _print_trials(console: Console, folder: Path, runs: Sequence[FoundRun]) -> None:
    """Print the summary in a folder of runs trained together, if it has one, and the list of its runs.

    Raises
    ------
    DataError
        The summary is damaged.
    """
    summary = compare_summary(folder)[0] if (folder / records.SUMMARY_FILE).exists() else {}
    console.print(style_text(folder, "bold"))
    if "best" in summary:
        console.print(f"best of all {format_cell(summary['over'])}: {format_cell(summary['best']['run'])}")
    elif summary:
        console.print(f"all {format_cell(summary['over'])}, mean ± standard deviation")
        for name, figure in summary["figures"].items():
            mean, deviation = (format_metric(name, value) for value in figure.values())
            print_pairs(console, {name: f"{mean} ± {deviation}"}, width=22)
    console.print()
    print_list(console, runs, "started")


def _print_details(console: Console, run: FoundRun) -> None:
    """Print the record, the settings, the metrics and the history of a run, and commands that use it."""
    console.print(style_text(run.id, "bold"))
    print_pairs(console, _format_record(run))
    console.print("\nsettings (* not the default)", style="bold")
    defaults = recorded_defaults()
    for name, value in run.record["config"].items():
        is_default = name in defaults and value == defaults[name]
        label, style = (f"  {name}", "") if is_default else (f"* {name}", "bold")
        print_pairs(console, {label: style_text(format_cell(value), style)}, indent="", width=26)
    if run.metrics:
        console.print(f"\nmetrics{'' if run.ended else ' so far'}", style="bold")
    print_pairs(console, {name: format_metric(name, value) for name, value in run.metrics.items()})
    lists = {name: value for name, value in (run.record["metrics"] or {}).items() if isinstance(value, list)}
    if any(lists.values()):
        console.print()
        _print_numbers(console, {"class": range(max(map(len, lists.values()))), **lists})
    if history := run.history:
        cut = f" ({LINES} of {len(history)} lines; --csv gives all)" if len(history) > LINES else ""
        console.print(f"\nhistory{cut}", style="bold")
        _print_numbers(console, to_columns(select_evenly(history, LINES)))
    if commands := _suggest_commands(run):
        console.print()
        print_pairs(console, commands, indent="")


def _format_record(run: FoundRun) -> dict[str, Cell]:
    """Return the values of the record besides settings and metrics, without empty ones."""
    values: dict[str, object] = {**run.fields, "folder": run.folder, **run.record}
    values |= {"status": style_text(run.status, STYLES[run.status]), "config": None, "metrics": None}
    values |= {"git": None, **records.format_commits(run.record)}  # git: xpnet's commit in older records
    values |= {"segments": [*map(_format_segment, run.record["segments"])], "resumed": None, "digests": None}
    values["command"] = format_command_line(run.record["command"])
    return {name: style_text(_join_items(value)) for name, value in values.items() if value or value == 0}


def _format_segment(segment: records.Segment) -> str:
    """Return a part of a training in words."""
    epoch = "" if segment["epoch"] is None else f" from epoch {segment['epoch']}"
    hosts = f" of {' '.join(segment['hosts'])}" if segment["hosts"] else ""
    ranks = "" if segment["ranks"] == 1 else f", {segment['ranks']} ranks"
    places = Counter(segment.get("places") or [f"{segment['backend']} on {segment['device']}"])
    names = [f"{name} ({count} ranks)" for name, count in places.items()] if len(places) > 1 else places
    return f"{segment['started']}{epoch}: {' and '.join(names)}{hosts}{ranks}"


def _join_items(value: object) -> object:
    """Return the items of a list or an object as one text, None if a list is empty; else the value."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) or None if isinstance(value, list) else value


def _print_numbers(console: Console, columns: Mapping[str, Sequence[object]]) -> None:
    """Print columns of numbers, and of shortened fingerprints, as a table."""
    cells = {name: [format_metric(name, value) for value in values] for name, values in columns.items()}
    tables.print_table(console, [make_column(format_cell(name), cells[name]) for name in cells], indent="  ")
