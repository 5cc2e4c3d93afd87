"""``xpnet predict``: predictions of a trained network for images and for tables of samples.

Say which digit an image shows, or of which class each row of a table is, and how probable that is.

FILE is an image (PNG, JPEG, GIF, BMP, WebP, TIFF, PPM) of one digit, dark on light or light on dark, or a
table with a sample a row (.csv, .csv.gz, .npy, .npz and IDX files).

RUN is a run, by its folder or its name in runs, or a .safetensors file. If the first word is another file, it
is the first FILE, and the newest trained run in runs is used.

Exit codes: 0 done, 2 bad input or device, 130 interrupted. Where a file cannot be read, the others are
still printed; --out then writes nothing.

Options
-------
--device
    as in xpnet train
--backend
    the array library, as in xpnet train
--arithmetic
    as in xpnet train (default: that of the training)
files
    an image, or a table of samples
--all
    print the probability of every class
--json
    print JSON, with the probability of every class
--out
    write a CSV file instead of printing
"""

import csv
import io
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet._lib.files import read_start, save
from xpnet._lib.text import align, complain, csv_field, format_json, join_lines, plain
from xpnet._typing import Args, HostArray, Json
from xpnet.config.flags import Parser, csv_path
from xpnet.config.rules import DEVICE
from xpnet.errors import DataError
from xpnet.storage.find import resolve_run

if TYPE_CHECKING:
    from xpnet.data.datasets import Rows
    from xpnet.inference.predictor import Predictor
    from xpnet.storage.model_file import TrainedNetwork

# The imports inside the functions load NumPy, which --help does not need.


Names = Sequence[str | int]
"""The names or numbers of the classes."""


class Prediction(NamedTuple):
    """The prediction for one sample of a file."""

    file: str
    row: int | None  # from 1 in a table; None for an image
    label: int | str | None  # None if the file has no labels
    predicted: int
    probabilities: HostArray  # (classes,)


def main(words: Sequence[str]) -> int:
    """Print the predictions. Return the exit code.

    Raises
    ------
    DataError
        The model cannot be read, or --out is not written because a file could not be read.
    """
    parser = build_network_parser("predict", __doc__, "%(prog)s [OPTIONS] [RUN] FILE [FILE ...]")
    parser.add_argument("files", type=Path, metavar="FILE", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=csv_path, metavar="FILE.csv")
    # Python 3.11 parses words after -- that begin with a dash as options.
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:end])
    files = [*arguments.files, *map(Path, words[end + 1 :])]
    run = files.pop(0) if files and _is_network(files[0]) else None
    if not files:
        parser.error("the following arguments are required: FILE")
    from xpnet.inference.predictor import load_for_inference

    path, predictor, _ = load_for_inference(run, arguments.device, arguments.backend, arguments.arithmetic)
    names = predictor.class_names
    predictions = []
    complete = True
    for file in files:
        try:
            predictions += list(_predict_file(predictor, file))
        except DataError as error:
            complain(join_lines(error))
            complete = False
    if arguments.json:
        classes = {} if isinstance(names, range) else {"classes": list(names)}
        results = [_to_json(prediction, names) for prediction in predictions]
        sys.stdout.write(format_json({"model": str(path), **classes, "predictions": results}))
    if arguments.out:
        if not complete:
            raise DataError(f"{arguments.out}: is not written, as a file could not be read")
        write_predictions(arguments.out, Prediction._fields[:3], predictions, names)
    elif not arguments.json:
        headings = ["", "class", "probability", *map(plain, map(probability_name, names))]
        lines = [headings] if arguments.all else []
        for each in predictions:
            row = "" if each.row is None else f":{each.row}"
            shares = [each.probabilities[each.predicted], *(each.probabilities if arguments.all else ())]
            texts = f"{plain(each.file)}{row}", plain(names[each.predicted])
            lines.append([*texts, *(f"{share:.4f}" for share in shares)])
        sys.stdout.writelines(f"{line}\n" for line in align(lines, gap="   "))
    return 0 if complete else 2


def _is_network(path: Path) -> bool:
    """Return whether a path is a RUN: a folder or a name, or a safetensors file by its name or first bytes.

    Raises
    ------
    DataError
        The path does not exist.
    """
    files = ", a .safetensors file, or an image or table, for which the newest run is used"
    folder = resolve_run(path, others=files)
    if path.suffix.lower() == ".safetensors" or os.path.isdir(folder):  # noqa: PTH112 - false after an error
        return True
    return read_start(path, 9)[4:] == b"\0\0\0\0{"  # the length of a JSON header, and its first character


def _predict_file(predictor: "Predictor", file: Path) -> Iterator[Prediction]:
    """Yield the prediction for each sample of a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.
    """
    from xpnet._lib.text import announce
    from xpnet.data.datasets import is_table, read_rows

    is_many, model = is_table(file), predictor.model
    with announce(f"reading {file}"):
        x, numbers = read_rows(file, model.sizes[0], model.columns) if is_many else _read_image(model, file)
    _, predicted, probabilities = predictor.classify(x, str(file))
    labels: Any = [None] * len(predicted)
    if numbers is not None:
        labels = map(model.columns.class_name, numbers.tolist())
    samples = zip(labels, predicted.tolist(), probabilities, strict=True)
    for row, values in enumerate(samples, start=1):
        yield Prediction(str(file), row if is_many else None, *values)


def _read_image(model: "TrainedNetwork", file: Path) -> "Rows":
    """Return the digit in an image file as a row of features, (1, features)."""
    from xpnet.data.datasets import FILE_FORMATS
    from xpnet.data.pictures import read_digit

    features, normalization = model.sizes[0], model.normalization
    side = math.isqrt(features)
    if side * side != features:
        problem = f"the network takes {features} features, which make no square image"
        raise DataError(f"{file}: {problem}: predict takes tables for it ({FILE_FORMATS})")
    with warnings.catch_warnings(action="always", record=True) as doubts:
        digit: HostArray = read_digit(file, side).reshape(1, -1)
    for doubt in doubts:
        complain(f"note: {file}: {doubt.message}")
    scale = normalization.scale
    if normalization.kind == "scale" and not scale.ndim and scale not in (0.0, 1.0 / 255.0):
        largest = 1.0 / float(scale)  # feature of the training data, which represents full ink
        digit = digit if largest == 255.0 else digit * (largest / 255.0)
    return digit, None


def _to_json(prediction: Prediction, names: Names) -> Json:
    predicted, probabilities = prediction.predicted, prediction.probabilities.tolist()
    best = {"predicted": names[predicted], "probability": probabilities[predicted]}
    return {**prediction._asdict(), **best, "probabilities": probabilities}


# Shared with xpnet evaluate


def build_network_parser(command: str, doc: str | None, usage: str | None = None) -> Parser:
    """Return the parser of a command that uses a network, with flags of device, backend and arithmetic."""
    parser = Parser(f"xpnet {command}", doc, usage=usage)
    parser.add_argument("--device", default="auto", metavar=DEVICE.metavar)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--arithmetic", choices=("reproducible", "native"))
    return parser


def probability_name(name: str | int) -> str:
    """Return the heading of the probabilities of a class: p7, or p_cat."""
    return f"p_{name}" if isinstance(name, str) else f"p{name}"


def write_predictions(path: Path, keys: Sequence[str], rows: Iterable[Args], names: Names) -> None:
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
    for *values, predicted, probabilities in rows:
        numbers = list(map(str, probabilities))
        writer.writerow([*map(csv_field, (*values, names[predicted])), numbers[predicted], *numbers])
    save(path, text.getvalue().encode(errors="surrogateescape"))
