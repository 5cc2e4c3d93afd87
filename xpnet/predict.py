"""``xpnet predict``: what a trained network sees in images, and in tables of many samples."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet.cli import Parser, complain, guarded
from xpnet.errors import ConfigError, DataError
from xpnet.files import unwritable, write_atomic
from xpnet.runs.text import plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.checkpoint import SavedModel
    from xpnet.config import TrainConfig
    from xpnet.predictor import Predictor

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


@dataclass(frozen=True)
class Trained:
    """A network, and what is known of its training.

    Attributes
    ----------
    name
        What the user calls it: the folder of a run, or a file.
    predictor
        The network at work.
    config
        The settings of the training; None for a bare model file.
    data_sha256
        The digest of the data of the training; None for a bare model file.
    """

    name: str
    predictor: "Predictor"
    config: "TrainConfig | None" = None
    data_sha256: str | None = None

    @property
    def features(self) -> int:
        """Number of values in a sample."""
        return self.predictor.model.sizes[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the network sees and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(words), debug="--debug" in words)


def _command(words: list[str]) -> int:
    arguments = _arguments(words)
    check_csv_name("--out", arguments.out)
    trained = load_trained(arguments)
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


def _arguments(words: list[str]) -> argparse.Namespace:
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


def load_trained(arguments: argparse.Namespace) -> Trained:
    """Return the network that `run`, `device`, `backend` and `arithmetic` of the arguments name.

    Without `run` it is that of the newest trained run in ``runs``.

    Raises
    ------
    DataError
        There is no such run or file, or none at all, it is damaged, or the run has not ended.
    ConfigError
        There is no such device or backend.
    BackendError
        It is not usable here.
    """
    from xpnet.backends.resolve import resolve
    from xpnet.checkpoint import load_model
    from xpnet.predictor import Predictor, model_path
    from xpnet.runs.command import newest

    path: Path = newest().folder if arguments.run is None else arguments.run
    record = _ended(path) if path.is_dir() else None
    model = load_model(model_path(path))
    config = sha256 = None
    if record is not None:
        config, sha256 = _training(path, record, model)
    selection = resolve(arguments.device, arguments.backend)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    arithmetic = arguments.arithmetic or (None if config is None else config.arithmetic)
    predictor = Predictor(model, selection.backend, arithmetic)
    return Trained(str(path), predictor, config, sha256)


def _ended(folder: Path) -> dict[str, Any]:
    """Return the record of a run that has ended with a network."""
    from xpnet.tracking import read_run

    record: dict[str, Any] = dict(read_run(folder))
    if record.get("status") == "running":
        msg = (
            f"{folder}: is still running, or was killed: wait until it has ended, "
            f"or go on with xpnet train --resume {folder}"
        )
        raise DataError(msg)
    if record.get("status") not in ("completed", "interrupted"):
        msg = f"{folder}: holds no trained network, as the training has failed"
        raise DataError(msg)
    return record


def _training(
    folder: Path, record: dict[str, Any], model: "SavedModel"
) -> "tuple[TrainConfig, str]":
    """Return settings and digest of the data from a record, which must be that of the model."""
    from xpnet.checkpoint import fingerprint
    from xpnet.config import from_resolved
    from xpnet.tracking import RECORD_FILE

    path = folder / RECORD_FILE
    config: Any = record.get("config")
    data: Any = record.get("data")
    expected: Any = record.get("fingerprint")
    sha256: Any = data.get("sha256") if isinstance(data, dict) else None
    for key, value, kind in (
        ("config", config, dict),
        ("data.sha256", sha256, str),
        ("fingerprint", expected, str),
    ):
        if not isinstance(value, kind):
            wanted = "an object" if kind is dict else "a string"
            msg = f"{path}: {key}: expected {wanted}, got {type(value).__name__}"
            raise DataError(msg)
    found = fingerprint(model.layers, model.norms)
    if found != expected:
        msg = (
            f"{folder}: its model has the fingerprint {found[:16]}…, run.json says {expected[:16]}…: "
            "name the .safetensors file to use it all the same"
        )
        raise DataError(msg)
    return from_resolved(config, str(path)), sha256


# From files to classes


def _seen(trained: Trained, file: Path) -> Seen:
    """Return what the network sees in a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.
    """
    from xpnet.datasets.rows import Rows, is_table, read_rows

    many = is_table(file)
    rows = read_rows(file, trained.features) if many else Rows(_image(trained, file), None)
    predicted, probabilities = classes_of(trained.predictor, rows.x, str(file))[1:]
    return Seen(str(file), many, rows.labels, predicted, probabilities)


def classes_of(
    predictor: "Predictor", x: "NDArray[np.generic]", name: str
) -> "tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.floating]]":
    """Return logits (m, classes), predicted classes (m,) and probabilities (m, classes) of raw rows.

    Raises
    ------
    DataError
        `name`, where the rows are from, has another number of features, or numbers so large that an
        output is not finite.
    """
    import numpy as np

    features = predictor.model.sizes[0]
    if x.shape[1] != features:
        msg = f"{name}: has {x.shape[1]} features a sample, the network takes {features}"
        raise DataError(msg)
    logits, probabilities = predictor.outputs(x)
    if not (np.isfinite(logits).all() and np.isfinite(probabilities).all()):
        msg = f"{name}: the network's outputs are not all finite: are its numbers far too large?"
        raise DataError(msg)
    return logits, np.argmax(logits, axis=1), probabilities


def _image(trained: Trained, file: Path) -> "NDArray[np.generic]":
    """Return the digit in an image file as a row of features, (1, features)."""
    from xpnet.datasets.rows import FORMS
    from xpnet.digits import read_digit

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


if __name__ == "__main__":
    sys.exit(main())
