"""Writes the table of names of docs/arrays.md: how each name of the standard is computed.

``python docs/array_names.py`` writes it; the tests compare it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from checkout import ROOT
from shared import write_part

from xpnet.reproducible import elementwise, reductions, standard

PAGE = ROOT / "docs" / "arrays.md"
HOSTED = {
    *elementwise.HOSTED,
    "searchsorted",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
}
MADE = {"arange", "linspace", "from_dlpack", "asarray", "astype"}
ORDER = {
    "argsort",
    "sort",
    "clip",
    "divide",
    "reciprocal",
    "maximum",
    "minimum",
    "sign",
    "max",
    "min",
    "diff",
    "square",
}
FORMULAS = {*elementwise.FORMULAS, "pow", *reductions.OWN} - ORDER - HOSTED
LINALG = {f"linalg.{name}" for name in standard.EXTENSIONS["linalg"] if name not in standard.NAMES}
TABLES = {"result_type", "can_cast", "isdtype", "finfo", "iinfo"}


def rules() -> dict[str, set[str]]:
    """Return the names under each rule."""
    own = {*standard.NAMES} - HOSTED - MADE - ORDER - FORMULAS - TABLES
    return {
        "The library's own, of operands of one dtype": own,
        "The library's own, in a form that it cannot change": ORDER | MADE,
        "NumPy's, on the host": HOSTED,
        "Formulas of xpnet": FORMULAS | LINALG,
        "A table of xpnet": TABLES | {*standard.DTYPES} | {*standard.CONSTANTS},
        "Refused, in a line": {*standard.MISSING, *(f"fft.{name}" for name in standard.EXTENSIONS["fft"])},
    }


def table() -> str:
    """Return the table."""
    rows = (
        f"| {rule} | {', '.join(f'`{name}`' for name in sorted(names))} |" for rule, names in rules().items()
    )
    return "\n".join(["| rule | names |", "|---|---|", *rows, ""])


def main() -> None:
    """Write the table."""
    write_part(PAGE, "names", table())


if __name__ == "__main__":
    main()
