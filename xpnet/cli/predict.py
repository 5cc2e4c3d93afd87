"""``xpnet predict``: predictions of a trained network for images and for tables of samples."""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xpnet._lib.parser import path_ending_in
from xpnet._lib.text import complain, format_json, plain
from xpnet.cli.predictions import build_network_parser, probability_name, write_predictions
from xpnet.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.inference.predictor import LoadedModel

# The imports inside the functions load NumPy, which --help does not need.

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
    row: int | None  # from 1 in a table; None for an image
    label: int | str | None  # None if the file has no labels
    predicted: int
    probabilities: "NDArray[np.floating]"  # (classes,)


def main(words: Sequence[str]) -> int:
    """Print the predictions and return the exit code.

    Raises
    ------
    DataError
        The model cannot be read, or --out is not written because a file could not be read.
    """
    arguments = _parse_arguments(words)
    from xpnet.inference.predictor import load_for_inference

    model = load_for_inference(arguments.run, arguments.device, arguments.backend, arguments.arithmetic)
    names = model.class_names
    as_text = not arguments.json and arguments.out is None
    width = max(len(plain(file)) for file in arguments.files)
    if as_text and arguments.all:
        class_head = f"{'class':>{max(5, *map(len, map(plain, names)))}}"
        sys.stdout.write(f"{'':{width}}   {class_head}   probability{''.join(_format_heads(names))}\n")
    predictions, complete = [], True
    for file in arguments.files:
        try:
            file_predictions = list(_predict_file(model, file))
        except DataError as error:
            complain(" ".join(str(error).split()))
            complete = False
            continue
        predictions += file_predictions
        if as_text:
            for line in _format_predictions(file_predictions, width, names, all_classes=arguments.all):
                sys.stdout.write(f"{line}\n")
    if arguments.json:
        classes = {} if isinstance(names, range) else {"classes": list(names)}
        result = {
            "model": model.name,
            **classes,
            "predictions": [_to_json(row, names) for row in predictions],
        }
        sys.stdout.write(format_json(result))
    if arguments.out is not None:
        if not complete:
            msg = f"{arguments.out}: is not written, as a file could not be read"
            raise DataError(msg)
        rows = ((row[:3], row.predicted, row.probabilities) for row in predictions)
        write_predictions(arguments.out, Prediction._fields[:3], rows, names)
    return 0 if complete else 2


def _parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; run is None if the first positional argument is a FILE."""
    parser = build_network_parser("predict", DESCRIPTION, EPILOG, "%(prog)s [OPTIONS] [RUN] FILE [FILE ...]")
    add = parser.add_argument
    add("files", type=Path, metavar="FILE", nargs="*", help="an image, or a table of samples")
    add("--all", action="store_true", help="print the probability of every class")
    add("--json", action="store_true", help="print JSON, with the probability of every class")
    add("--out", type=path_ending_in(".csv"), metavar="FILE.csv", help="write a CSV file instead of printing")
    # Python 3.11 parses words after -- that begin with a dash as options.
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:end])
    arguments.files += map(Path, words[end + 1 :])
    has_run = bool(arguments.files) and _is_network(arguments.files[0])
    arguments.run = arguments.files.pop(0) if has_run else None
    if not arguments.files:
        parser.error("the following arguments are required: FILE")
    return arguments


def _is_network(path: Path) -> bool:
    """Return whether a path is a RUN: a folder, or a safetensors file by its name or first bytes.

    Raises
    ------
    DataError
        The path does not exist.
    """
    if path.suffix.lower() == ".safetensors" or os.path.isdir(path):  # noqa: PTH112 - false after an error
        return True
    if not os.path.exists(path):  # noqa: PTH110
        files = "a .safetensors file, or an image or table, for which the newest run is used"
        raise DataError.at(path, f"no such file or folder: expected the folder of a run, {files}")
    with suppress(OSError):  # reported when it is read as a FILE
        if path.is_file():
            with path.open("rb") as file:  # the length of a JSON header, and its first character
                return file.read(9)[4:] == b"\0\0\0\0{"
    return False


def _predict_file(model: "LoadedModel", file: Path) -> Iterator[Prediction]:
    """Yield the prediction for each sample of a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.
    """
    from xpnet.data.datasets import Rows, is_table, read_rows

    is_many, columns = is_table(file), model.predictor.model.columns
    rows = read_rows(file, model.features, columns) if is_many else Rows(_read_image(model, file), None)
    _, predicted, probabilities = model.predictor.classify(rows.x, str(file))
    labels: list[int | str | None] = [None] * len(predicted)
    if rows.labels is not None:
        labels = list(map(columns.class_name, rows.labels.tolist()))
    samples = zip(labels, predicted.tolist(), probabilities, strict=True)
    for row, values in enumerate(samples, start=1):
        yield Prediction(str(file), row if is_many else None, *values)


def _read_image(model: "LoadedModel", file: Path) -> "NDArray[np.generic]":
    """Return the digit in an image file as a row of features, (1, features)."""
    from xpnet.data.datasets import FILE_FORMATS
    from xpnet.data.pictures import read_digit

    side = math.isqrt(model.features)
    if side * side != model.features:
        problem = f"the network takes {model.features} features, which make no square image"
        msg = f"{file}: {problem}: predict takes tables for it ({FILE_FORMATS})"
        raise DataError(msg)
    digit, normalization = read_digit(file, side).reshape(1, -1), model.predictor.model.normalization
    scale = normalization.scale
    if normalization.kind != "scale" or scale.ndim or scale in (0.0, 1.0 / 255.0):
        return digit
    largest = 1.0 / float(scale)  # feature of the training data, which represents full ink
    return digit if largest == 255.0 else digit * (largest / 255.0)


def _format_heads(names: "Sequence[str | int]") -> list[str]:
    """Return the headings of the probabilities, each as wide as its column."""
    return [f"  {plain(probability_name(name)):>7}" for name in names]


def _format_predictions(
    predictions: Iterable[Prediction], width: int, names: "Sequence[str | int]", *, all_classes: bool
) -> Iterator[str]:
    """Yield a line for each sample: file, class, probability, and with `all_classes` all probabilities."""
    class_width, p_width = max(map(len, map(plain, names))), 6
    heads = _format_heads(names) if all_classes else []
    if all_classes:
        class_width, p_width = max(5, class_width), 11
    for file, row, _, predicted, probabilities in predictions:
        name = plain(file) if row is None else f"{plain(file)}:{row}"
        shares = [f"{probabilities[predicted]:{p_width}.4f}"]
        shares += [f"{share:{len(head)}.4f}" for head, share in zip(heads, probabilities, strict=False)]
        yield f"{name:{width}}   {plain(names[predicted]):>{class_width}}   {''.join(shares)}"


def _to_json(prediction: Prediction, names: "Sequence[str | int]") -> dict[str, object]:
    values = prediction._asdict()
    probabilities = values.pop("probabilities").tolist()
    predicted = prediction.predicted
    values["predicted"] = names[predicted]
    return {**values, "probability": probabilities[predicted], "probabilities": probabilities}
