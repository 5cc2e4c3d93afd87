"""``xpnet report``: the report of a run as one self-contained HTML page.

``page`` reads the run, evaluates its network, and prepares the variables of the templates in templates/, with
``charts`` and ``images`` (also of the network, for the script of the page).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib.files import save
from xpnet.storage.record import REPORT_FILE

if TYPE_CHECKING:
    from xpnet.data.datasets import Dataset


def write_report(
    folder: Path, data: "Dataset | None" = None, out: Path | None = None, *, sha256: str | None = None
) -> Path:
    """Write the report of a run and return its path.

    Parameters
    ----------
    folder
        The folder of the run. It needs a model, but need not have ended.
    data
        The data of its training; by default they are read again from their path.
    out
        The page to write, by default report.html in the folder. It appears complete or not at all.
    sha256
        ``xpnet.data.datasets.digest(data)``, if it is known already.

    Raises
    ------
    DataError
        The run or its model is missing or damaged, or the data are missing or have changed.
    ConfigError
        The page cannot be written.
    """
    from xpnet.report.page import render_page  # loads NumPy, which --help does not need

    page = render_page(folder, data, sha256)
    path = out or folder / REPORT_FILE
    save(path, page, is_named=out is not None)
    return path
