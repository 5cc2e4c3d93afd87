"""``xpnet runs``: list, show and compare runs, and name the best."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from xpnet._lib.text import complain, csv_text, json_text, plain
from xpnet.cli.parser import guarded
from xpnet.errors import DataError, XPNetError
from xpnet.storage.find import OUT, FoundRun, name_below, newest, read, surveyed
from xpnet.storage.record import RECORD_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

DESCRIPTION = "List, show and compare runs, and name the best, from what their folders hold."
EXIT_CODES = "Exit codes: 0 done, 2 bad input, 130 interrupted."


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        complain(plain(f"{message} ({self.prog} --help)"))
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _printable(lambda: _command(words)), debug="--debug" in words)


def _command(words: list[str]) -> int:
    arguments = _parser().parse_args(words)
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpnet runs", description=DESCRIPTION, epilog=EXIT_CODES)
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)

    def action(
        name: str, run: Callable[[argparse.Namespace], int], description: str
    ) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name,
            help=description,
            description=f"{description[0].upper()}{description[1:]}.",
            epilog=EXIT_CODES,
        )
        made.set_defaults(run=run)
        return made

    many = action("list", _list, "list all runs")
    _add_folder(many)
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
        "run_name",
        metavar="RUN",
        nargs="?",
        help="a run: its name, or its folder (default: the newest)",
    )
    _add_out(one)
    some = action("compare", _compare, "show what differs between runs")
    some.add_argument(
        "names",
        metavar="RUN",
        nargs="+",
        help="runs: names or folders; a folder of several trained together stands for all of them",
    )
    some.add_argument("--all", action="store_true", help="show what is equal too")
    _add_out(some)
    first = action("best", _best, "name the best run, and the commands that use it")
    _add_folder(first)
    first.add_argument(
        "--metric",
        metavar="NAME",
        help="what counts: the highest accuracy, the lowest of anything else "
        "(default: validation_accuracy if a run has it, else test_accuracy)",
    )
    for made in (many, one, some, first):
        form = made.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="print JSON")
        form.add_argument("--csv", action="store_true", help="print CSV")
        made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_folder(parser: argparse.ArgumentParser) -> None:
    """Let the folder be given as a word or with --out."""
    where = parser.add_mutually_exclusive_group()
    help_text = f"where the runs are (default: {OUT})"
    where.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help=help_text)
    _add_out(where)


def _add_out(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    help_text = f"where the runs are (default: {OUT})"
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=help_text)


def _list(arguments: argparse.Namespace) -> int:
    from xpnet.cli.runs import listing

    folder = arguments.folder or arguments.out
    found = surveyed(folder)
    if not found:
        complain(f"note: no run in {plain(folder)}")
    runs = listing.ordered(found, arguments.sort, reverse=arguments.reverse)
    _print(
        arguments,
        lambda: [listing.as_object(run) for run in runs],
        lambda: listing.as_rows(runs),
        lambda console: listing.print_list(console, runs, arguments.sort),
    )
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from xpnet.cli.runs import details, listing

    name, out = arguments.run_name, arguments.out
    folder = newest(out, trained=False).folder if name is None else _folder(name, out)
    if _is_run(folder):
        run = read(folder, out)
        history = run.history()
        _print(
            arguments,
            lambda: details.details(run, history),
            lambda: details.history_rows(history),
            lambda console: details.print_details(console, run, history),
        )
    else:
        runs = _runs_of(folder, out)
        _print(
            arguments,
            lambda: [listing.as_object(run) for run in runs],
            lambda: listing.as_rows(runs),
            lambda console: details.print_trials(console, folder, runs),
        )
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from xpnet.cli.runs import comparison

    folders = [_folder(name, arguments.out) for name in arguments.names]
    runs = [run for folder in folders for run in _runs_of(folder, arguments.out)]
    found = comparison.compare(runs, everything=arguments.all)
    _print(
        arguments,
        lambda: comparison.as_object(found),
        lambda: comparison.as_rows(found),
        lambda console: comparison.print_comparison(console, found, everything=arguments.all),
    )
    return 0


def _best(arguments: argparse.Namespace) -> int:
    from xpnet.cli.runs import listing

    found = surveyed(arguments.folder or arguments.out)
    run, metric, count = listing.best(found, arguments.metric)
    if arguments.metric is None and metric == "test_accuracy":
        complain(
            "note: chosen by test_accuracy, which flatters what it chooses: no run here has a "
            "validation_accuracy (train with --validation 10000)"
        )
    _print(
        arguments,
        lambda: {
            **listing.as_object(run),
            "chosen_by": metric,
            "commands": listing.commands(run),
        },
        lambda: listing.as_rows([run]),
        lambda console: listing.print_best(console, run, metric, count),
    )
    return 0


def _print(
    arguments: argparse.Namespace,
    as_object: Callable[[], Any],
    as_rows: Callable[[], tuple[Sequence[object], Sequence[Sequence[object]]]],
    as_text: Callable[[Console], None],
) -> None:
    """Print in the form that is asked for."""
    if arguments.json:
        sys.stdout.write(json_text(as_object()))
    elif arguments.csv:
        sys.stdout.write(csv_text(*as_rows()))
    else:
        from rich.console import Console

        as_text(Console(highlight=False))


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


def _printable(body: Callable[[], int]) -> int:
    """Run `body`; what stands in files and names reaches no message as it is."""
    try:
        return body()
    except XPNetError as error:
        raise type(error)(plain(error)) from error


if __name__ == "__main__":
    sys.exit(main())
