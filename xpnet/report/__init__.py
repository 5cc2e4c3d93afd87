"""``xpnet report``: what a run did, as one page that needs no other file.

``content`` reads the run and evaluates its network, ``page`` prepares this for the templates in templates/,
with ``charts``, ``images`` and ``settings``, and ``network`` is what the page's own script computes with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet._lib.files import save

if TYPE_CHECKING:
    from pathlib import Path

    from xpnet.data.datasets import Dataset

__all__ = ["REPORT_FILE", "write_report"]

# What is imported below, inside the functions, loads NumPy; --help does without.

REPORT_FILE = "report.html"


def write_report(
    folder: Path, data: Dataset | None = None, out: Path | None = None, *, sha256: str | None = None
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
        ``xpnet.data.datasets.digest(data)``, if you have it already.

    Raises
    ------
    DataError
        The run or its model is missing or damaged, or the data are not there, or not those of the run.
    ConfigError
        The page cannot be written.
    """
    from xpnet.report.content import gather
    from xpnet.report.page import page

    path = folder / REPORT_FILE if out is None else out
    content = page(gather(folder, data, sha256))
    save(path, content)
    return path
