"""``xpnet report``: write the report of a run, or a page that compares several.

Write what a run did as one page, RUN/report.html, which needs no other file and no network: learning
curves, metrics by class, the worst mistakes, and a field to draw images for the network. Of several runs,
or of a folder of several trained together, the page compares metrics, settings and learning curves.

Options
-------
runs
    runs, or folders of several, by folder or name in runs (default: the newest trained run)
--out
    the page to write (default: RUN/report.html; of several RUNs, comparison.html)
--data
    the data of the training, if they are not where they were
--test-data
    the test data, where --data is a CSV file
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xpnet._lib.text import plain
from xpnet.config.flags import Parser
from xpnet.errors import ConfigError
from xpnet.report import write_report
from xpnet.storage.find import OUT, find_newest_run, read_runs, resolve_run
from xpnet.storage.record import REPORT_FILE, SUMMARY_FILE
from xpnet.storage.summary import compare_summary


def main(words: Sequence[str]) -> int:
    """Write the page, and print its path. Return the exit code.

    Raises
    ------
    ConfigError
        Data are named for several runs.
    """
    parser = Parser("xpnet report", __doc__)
    parser.add_argument("runs", type=Path, metavar="RUN", nargs="*")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test-data", type=Path)
    arguments = parser.parse_args(words)
    folders = [*map(resolve_run, arguments.runs)] or [find_newest_run().folder]
    has_data = arguments.data or arguments.test_data
    if len(folders) == 1 and not os.path.lexists(folders[0] / SUMMARY_FILE):
        data = None
        if has_data:
            from xpnet.data import datasets
            from xpnet.storage.folder import RunFolder

            is_table = arguments.data and datasets.is_csv(arguments.data)
            options = RunFolder(folders[0]).config.table_options if is_table else {}
            data = datasets.load(arguments.data, arguments.test_data, **options)
        path = write_report(folders[0], data, arguments.out)
    elif has_data:
        raise ConfigError("--data: is for the report of one run: a comparison reads no data")
    else:
        from xpnet._lib.files import save
        from xpnet.cli.comparison import compare_runs, get_best_value
        from xpnet.report.page import render_comparison

        out, is_one = arguments.out, len(folders) == 1
        runs = [run for folder in folders for run in read_runs(folder, folder if is_one else OUT)]
        places = [run.folder.resolve() for run in runs]
        for run, place in zip(runs, places, strict=True):
            if places.count(place) > 1:
                raise ConfigError(f"{run.folder}: is named twice: expected different runs")
        comparison = compare_runs(runs, everything=False)
        best = {name: get_best_value(name, values) for name, values in comparison["metrics"].items()}
        path = out or (folders[0] / REPORT_FILE if is_one else Path("comparison.html"))
        name = folders[0].resolve().name if is_one else "Comparison"
        summary = compare_summary(folders[0])[0] if is_one else None
        page = render_comparison(runs, comparison | {"best": best}, path, name=name, summary=summary)
        save(path, page, is_named=out is not None)
    sys.stdout.write(f"{plain(path)}\n")
    return 0
