"""Shared parts of ``xpnet evaluate`` and ``xpnet predict``: flags, and CSV files of predictions."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from xpnet._lib.files import save
from xpnet._lib.parser import Parser
from xpnet._typing import HostArray


def build_network_parser(command: str, description: str, epilog: str, usage: str | None = None) -> Parser:
    """Return the parser of a command that uses a network, with flags of device, backend and arithmetic."""
    parser = Parser(prog=f"xpnet {command}", usage=usage, description=description, epilog=epilog)
    add = parser.add_argument
    add("--device", default="auto", metavar="{auto,cpu,cuda,cuda:N}", help="as in xpnet train")
    add("--backend", default="auto", help="the array library, as in xpnet train")
    arithmetic = "as in xpnet train (default: that of the training)"
    add("--arithmetic", choices=("reproducible", "native"), help=arithmetic)
    return parser


def probability_name(name: str | int) -> str:
    """Return the heading of the probabilities of a class: p7, or p_cat."""
    return f"p_{name}" if isinstance(name, str) else f"p{name}"


def write_predictions(
    path: Path,
    keys: Sequence[str],
    rows: Iterable[tuple[Sequence[object], int, HostArray]],
    names: Sequence[str | int],
) -> None:
    """Write a CSV file of predictions, completely or not at all.

    Parameters
    ----------
    path
        The file.
    keys
        The names of the first columns; predicted, probability, and p with the name of each class follow.
    rows
        For each sample the values of the first columns, the predicted class, and the probabilities
        (classes,), which are written with the fewest digits that read back exactly in their dtype.
    names
        The names or numbers of the classes.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "predicted", "probability", *map(probability_name, names)])
    for values, predicted, probabilities in rows:
        numbers = list(map(str, probabilities))
        writer.writerow([*values, names[predicted], numbers[predicted], *numbers])
    save(path, text.getvalue().encode(errors="surrogateescape"))
