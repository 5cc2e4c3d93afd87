"""``xpnet predict``: what a trained network sees in images, and in tables of many samples."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xpnet._lib.files import unwritable, write_atomic
from xpnet._lib.text import complain, plain
from xpnet.cli.parser import Parser
from xpnet.errors import ConfigError, DataError
from xpnet.inference.load import Trained, classes_of, load_trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.storage.model_file import SavedModel

# What is imported below, inside the functions, loads NumPy; --help does without.

DESCRIPTION = "Say which digit each image shows, and how probable the network finds it."
EPILOG = """\
FILE is an image (PNG, JPEG, GIF, BMP, WebP, TIFF, PPM) of one digit, dark on light or light on dark, or a
table with a sample a row (.csv, .csv.gz, .npy, .npz and IDX files).

The first word is RUN if it is a folder or a .safetensors file. If it is another file, it is the first FILE,
and the newest trained run in runs is used.

Exit codes: 0 done, 2 bad input or device, 130 interrupted. Where a file cannot be read, the others are
still printed; --out then writes nothing."""


class Seen(NamedTuple):
    """What the network sees in the samples of a file."""

    file: str
    many: bool  # whether the file is a table
    labels: "NDArray[np.int32] | None"
    predicted: "NDArray[np.int64]"  # (m,)
    probabilities: "NDArray[np.floating]"  # (m, classes)


def main(words: Sequence[str]) -> int:
    """Print what the network sees and return the exit code."""
    arguments = _arguments(words)
    check_csv_name("--out", arguments.out)
    trained = load_trained(arguments.run, arguments.device, arguments.backend, arguments.arithmetic)
    printed = not arguments.json and arguments.out is None
    width = max(len(plain(file)) for file in arguments.files)
    if printed and arguments.all:
        sys.stdout.write(_heading(width, trained.predictor.classes))
    found = []
    for file in arguments.files:
        try:
            seen = _seen(trained, file)
        except DataError as error:
            complain(plain(" ".join(str(error).split())))
            continue
        found.append(seen)
        if printed:
            sys.stdout.writelines(_lines(seen, width, every=arguments.all))
    if arguments.json:
        sys.stdout.write(_json(trained, found))
    complete = len(found) == len(arguments.files)
    if arguments.out is not None:
        if not complete:
            msg = f"{arguments.out}: is not written, as a file could not be read"
            raise DataError(msg)
        _write(arguments.out, trained.predictor.classes, found)
    return 0 if complete else 2


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add what says which network computes, and who computes it."""
    add = parser.add_argument
    add(
        "run",
        type=Path,
        metavar="RUN",
        nargs="?",
        help="the folder of a run, or a .safetensors file (default: the newest trained run in runs)",
    )


def add_computation(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where and how to compute."""
    add = parser.add_argument
    add("--device", default="auto", metavar="{auto,cpu,cuda,cuda:N}", help="as in xpnet train")
    add("--backend", default="auto", help="the array library, as in xpnet train")
    add(
        "--arithmetic",
        choices=("reproducible", "native"),
        help="as in xpnet train (default: that of the training)",
    )
    add("--debug", action="store_true", help="show the whole traceback of an error")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="xpnet predict",
        usage="%(prog)s [OPTIONS] [RUN] FILE [FILE ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_network(parser)
    add("files", type=Path, metavar="FILE", nargs="*", help="an image, or a table of samples")
    add("--all", action="store_true", help="print the probability of every class")
    add("--json", action="store_true", help="print JSON, with the probability of every class")
    add("--out", type=Path, metavar="FILE.csv", help="write a CSV file instead of printing")
    add_computation(parser)
    return parser


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line, with run None if the first of its words is a FILE."""
    parser = _parser()
    # Words behind -- may begin with a dash; Python 3.11 takes those for options where RUN may be left out.
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:end])
    named = [*arguments.files, *map(Path, words[end + 1 :])]
    if arguments.run is not None:
        named.insert(0, arguments.run)
    arguments.run = named.pop(0) if named and _is_network(named[0]) else None
    if not named:
        parser.error("the following arguments are required: FILE")
    arguments.files = named
    return arguments


def _is_network(path: Path) -> bool:
    """Tell whether the first word is RUN: a folder, or a safetensors file by its name or first bytes.

    Raises
    ------
    DataError
        There is nothing of that name.

    """
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        if not path.exists():
            msg = (
                f"{path}: no such file or folder: expected the folder of a run, a .safetensors file, or "
                "an image or table, for which the newest run is used"
            )
            raise DataError(msg)
        if not path.is_file():
            return path.is_dir()
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise DataError(msg) from error
    return start[4:] == b"\0\0\0\0{"  # the length of a header of JSON, and its first character


# The network


# From files to classes


def _seen(trained: Trained, file: Path) -> Seen:
    """Return what the network sees in a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.

    """
    from xpnet.data.rows import Rows, is_table, read_rows

    many = is_table(file)
    rows = read_rows(file, trained.features) if many else Rows(_image(trained, file), None)
    predicted, probabilities = classes_of(trained.predictor, rows.x, str(file))[1:]
    return Seen(str(file), many, rows.labels, predicted, probabilities)


def _image(trained: Trained, file: Path) -> "NDArray[np.generic]":
    """Return the digit in an image file as a row of features, (1, features)."""
    from xpnet.data.pictures import read_digit
    from xpnet.data.rows import FORMS

    side = math.isqrt(trained.features)
    if side * side != trained.features:
        msg = (
            f"{file}: the network takes {trained.features} features, which make no square image: "
            f"predict takes tables for it ({FORMS})"
        )
        raise DataError(msg)
    digit = read_digit(file, side).reshape(1, -1)
    brightest = _brightest(trained.predictor.model)
    return digit if brightest == 255.0 else digit * (brightest / 255.0)


def _brightest(model: "SavedModel") -> float:
    """Return the feature that stands for full ink: the largest of the training if the file tells it."""
    scale = model.normalization.get("scale")
    if model.normalize != "scale" or scale is None or scale.ndim or scale in (0.0, 1.0 / 255.0):
        return 255.0
    return 1.0 / float(scale)


# What is printed and written


def _heading(width: int, classes: int) -> str:
    names = "".join(f"{f'p{label}':>9}" for label in range(classes))
    return f"{'':{width}}   class   probability{names}\n"


def _lines(seen: Seen, width: int, *, every: bool) -> Iterator[str]:
    """Yield a line for each sample: the file, the class, its probability, or those of all classes."""
    name = plain(seen.file)
    for row, (predicted, probabilities) in enumerate(
        zip(seen.predicted.tolist(), seen.probabilities.tolist(), strict=True), start=1
    ):
        where = f"{name}:{row}" if seen.many else name
        best = probabilities[predicted]
        if every:
            others = "".join(f"{probability:9.4f}" for probability in probabilities)
            yield f"{where:{width}}   {predicted:5}   {best:11.4f}{others}\n"
        else:
            yield f"{where:{width}}   {predicted}   {best:.4f}\n"


def _json(trained: Trained, seen: Iterable[Seen]) -> str:
    predictions = [
        {
            "file": each.file,
            "row": row if each.many else None,
            "label": None if each.labels is None else int(each.labels[row - 1]),
            "predicted": predicted,
            "probability": probabilities[predicted],
            "probabilities": probabilities,
        }
        for each in seen
        for row, (predicted, probabilities) in enumerate(
            zip(each.predicted.tolist(), each.probabilities.tolist(), strict=True), start=1
        )
    ]
    found = {"model": trained.name, "predictions": predictions}
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def check_csv_name(flag: str, path: Path | None) -> None:
    """Raise ConfigError over a file to write that is not named .csv: it may be something else."""
    if path is not None and path.suffix.lower() != ".csv":
        msg = f"{flag}: expected a file name that ends in .csv, got {path}"
        raise ConfigError(msg)


def _write(path: Path, classes: int, seen: Iterable[Seen]) -> None:
    keys = ["file", "row", "label"]

    def rows() -> Iterator[list[object]]:
        for each in seen:
            labels = [""] * len(each.predicted) if each.labels is None else each.labels.tolist()
            for row, label in enumerate(labels, start=1):
                yield [each.file, row if each.many else "", label]

    probabilities = (row for each in seen for row in each.probabilities)
    predicted = (label for each in seen for label in each.predicted.tolist())
    write_predictions(path, keys, rows(), predicted, probabilities, classes)


def write_predictions(
    path: Path,
    keys: Sequence[str],
    rows: Iterable[Sequence[object]],
    predicted: Iterable[int],
    probabilities: "Iterable[NDArray[np.floating]]",
    classes: int,
) -> None:
    """Write a CSV file, completely or not at all.

    Its columns are `keys`, which `rows` fill, then predicted, probability, and p0, p1 and so on. Numbers
    are as short as reads back exactly in their dtype.

    Raises
    ------
    ConfigError
        The file cannot be written.

    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"p{label}" for label in range(classes)]
    writer.writerow([*keys, "predicted", "probability", *names])
    for row, label, numbers in zip(rows, predicted, probabilities, strict=True):
        shown = list(map(str, numbers))
        writer.writerow([*row, label, shown[label], *shown])
    try:
        write_atomic(path, text.getvalue().encode(errors="surrogateescape"))
    except OSError as error:
        raise unwritable(path, error) from error
