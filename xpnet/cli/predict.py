"""``xpnet predict``: what a trained network sees in images, and in tables of many samples."""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet._lib.parser import file_named
from xpnet._lib.text import complain, json_text, plain
from xpnet.cli.predictions import network_parser, write_predictions
from xpnet.errors import DataError
from xpnet.inference.load import LoadedModel, classes_of, load_for_inference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What is imported below, inside the functions, loads NumPy; --help does without.

DESCRIPTION = "Say which digit each image shows, and how probable the network finds it."
EPILOG = """\
FILE is an image (PNG, JPEG, GIF, BMP, WebP, TIFF, PPM) of one digit, dark on light or light on dark, or a
table with a sample a row (.csv, .csv.gz, .npy, .npz and IDX files).

RUN is the folder of a run, or a .safetensors file. If the first word is another file, it is the first FILE,
and the newest trained run in runs is used.

Exit codes: 0 done, 2 bad input or device, 130 interrupted. Where a file cannot be read, the others are
still printed; --out then writes nothing."""


class Prediction(NamedTuple):
    """The prediction for one sample of a file."""

    file: str
    row: int | None  # None in an image
    label: int | None  # None where the file has no labels
    predicted: int
    probabilities: "NDArray[np.floating]"  # (classes,)


def main(words: Sequence[str]) -> int:
    """Print the predictions and return the exit code.

    Raises
    ------
    DataError
        The model cannot be read, or --out is not written because a file could not be read.
    """
    arguments = _arguments(words)
    trained = load_for_inference(arguments.run, arguments.device, arguments.backend, arguments.arithmetic)
    classes = trained.predictor.classes
    as_text = not arguments.json and arguments.out is None
    width = max(len(plain(file)) for file in arguments.files)
    if as_text and arguments.all:
        names = "".join(f"{f'p{label}':>9}" for label in range(classes))
        sys.stdout.write(f"{'':{width}}   class   probability{names}\n")
    predictions, complete = [], True
    for file in arguments.files:
        try:
            of_file = list(_predict(trained, file))
        except DataError as error:
            complain(" ".join(str(error).split()))
            complete = False
            continue
        predictions += of_file
        if as_text:
            for line in _lines(of_file, width, every=arguments.all):
                sys.stdout.write(f"{line}\n")
    if arguments.json:
        result = {"model": trained.name, "predictions": list(map(_as_object, predictions))}
        sys.stdout.write(json_text(result))
    if arguments.out is not None:
        if not complete:
            msg = f"{arguments.out}: is not written, as a file could not be read"
            raise DataError(msg)
        rows = ((each[:3], each.predicted, each.probabilities) for each in predictions)
        write_predictions(arguments.out, Prediction._fields[:3], rows, classes)
    return 0 if complete else 2


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line, with run None if the first of its words is a FILE."""
    parser = network_parser("predict", DESCRIPTION, EPILOG, "%(prog)s [OPTIONS] [RUN] FILE [FILE ...]")
    add = parser.add_argument
    add("files", type=Path, metavar="FILE", nargs="*", help="an image, or a table of samples")
    add("--all", action="store_true", help="print the probability of every class")
    add("--json", action="store_true", help="print JSON, with the probability of every class")
    add("--out", type=file_named(".csv"), metavar="FILE.csv", help="write a CSV file instead of printing")
    # Words behind -- may begin with a dash, which Python 3.11 takes for options.
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:end])
    arguments.files += map(Path, words[end + 1 :])
    named = bool(arguments.files) and _is_network(arguments.files[0])
    arguments.run = arguments.files.pop(0) if named else None
    if not arguments.files:
        parser.error("the following arguments are required: FILE")
    return arguments


def _is_network(path: Path) -> bool:
    """Return whether the first word is RUN: a folder, or a safetensors file.

    Raises
    ------
    DataError
        There is nothing of that name.
    """
    if path.suffix.lower() == ".safetensors" or os.path.isdir(path):  # noqa: PTH112 - false after an error
        return True
    if not os.path.exists(path):  # noqa: PTH110
        files = "a .safetensors file, or an image or table, for which the newest run is used"
        msg = f"{path}: no such file or folder: expected the folder of a run, {files}"
        raise DataError(msg)
    return False


def _predict(trained: LoadedModel, file: Path) -> Iterator[Prediction]:
    """Yield what the network predicts for each sample of a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.
    """
    from xpnet.data.rows import Rows, is_table, read_rows

    many = is_table(file)
    rows = read_rows(file, trained.features) if many else Rows(_image(trained, file), None)
    _, predicted, probabilities = classes_of(trained.predictor, rows.x, str(file))
    labels = [None] * len(predicted) if rows.labels is None else rows.labels.tolist()
    samples = zip(labels, predicted.tolist(), probabilities, strict=True)
    for row, values in enumerate(samples, start=1):
        yield Prediction(str(file), row if many else None, *values)


def _image(trained: LoadedModel, file: Path) -> "NDArray[np.generic]":
    """Return the digit in an image file as a row of features, (1, features)."""
    from xpnet.data.pictures import read_digit
    from xpnet.data.rows import FORMS

    side = math.isqrt(trained.features)
    if side * side != trained.features:
        problem = f"the network takes {trained.features} features, which make no square image"
        msg = f"{file}: {problem}: predict takes tables for it ({FORMS})"
        raise DataError(msg)
    digit, model = read_digit(file, side).reshape(1, -1), trained.predictor.model
    scale = model.normalization.get("scale")
    if model.normalize != "scale" or scale is None or scale.ndim or scale in (0.0, 1.0 / 255.0):
        return digit
    brightest = 1.0 / float(scale)  # of the features in training, which stands for full ink
    return digit if brightest == 255.0 else digit * (brightest / 255.0)


def _lines(predictions: Iterable[Prediction], width: int, *, every: bool) -> Iterator[str]:
    """Yield for each sample the file, the class, and its probability, or those of all classes."""
    digits, places = (5, 11) if every else (1, 6)
    for file, row, _, predicted, probabilities in predictions:
        name = plain(file) if row is None else f"{plain(file)}:{row}"
        others = "".join(f"{probability:9.4f}" for probability in probabilities) if every else ""
        yield f"{name:{width}}   {predicted:{digits}}   {probabilities[predicted]:{places}.4f}{others}"


def _as_object(prediction: Prediction) -> dict[str, Any]:
    values = prediction._asdict()
    probabilities = values.pop("probabilities").tolist()
    return {**values, "probability": probabilities[prediction.predicted], "probabilities": probabilities}
