"""``xpnet predict``: what a trained network sees in images, and in tables of many samples."""

import argparse
import csv
import io
import json
import math
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn

from xpnet.cli import complain, guarded
from xpnet.errors import ConfigError, DataError
from xpnet.files import unwritable, write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.checkpoint import SavedModel
    from xpnet.config import TrainConfig
    from xpnet.predictor import Predictor

# What is imported below, inside the functions, loads NumPy; --help does without.

TABLES = ".csv, .csv.gz, .npy, .npz and IDX files"
DESCRIPTION = "Say which digit each image shows, and how probable the network finds it."
EPILOG = f"""\
FILE is an image (PNG, JPEG, GIF, BMP, WebP, TIFF, PPM) of one digit, dark on light or light on dark, or a
table with a sample a row ({TABLES}).

Exit codes: 0 done, 2 bad input or device, 130 interrupted. Where a file cannot be read, the others are
still printed; --out then writes nothing."""


class Rows(NamedTuple):
    """Samples from a file of many."""

    x: "NDArray[np.generic]"  # (m, features)
    labels: "NDArray[np.int32] | None"  # (m,), if the file has them


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
    arguments = _parser().parse_args(words)
    check_csv_name("--out", arguments.out)
    trained = load_trained(arguments)
    seen, failed = [], False
    width = max(map(len, map(_shown, arguments.files)))
    if arguments.all and arguments.out is None and not arguments.json:
        sys.stdout.write(_heading(width, trained.predictor.classes))
    for file in arguments.files:
        try:
            found = _seen(trained, file)
        except DataError as error:
            complain(_shown(" ".join(str(error).split())))
            failed = True
            continue
        if arguments.out is None and not arguments.json:
            sys.stdout.writelines(_lines(found, width, every=arguments.all))
        else:
            seen.append(found)
    if arguments.json:
        sys.stdout.write(_json(trained, seen))
    if arguments.out is not None:
        if failed:
            msg = f"{arguments.out}: is not written, as a file could not be read"
            raise DataError(msg)
        _write(arguments.out, trained.predictor.classes, seen)
    return 2 if failed else 0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line.

        Raises
        ------
        ConfigError
            Always.
        """
        msg = f"{message} ({self.prog} --help)"
        raise ConfigError(msg)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add what says which network computes, and who computes it."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run, or a .safetensors file")


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
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_network(parser)
    add("files", type=Path, metavar="FILE", nargs="+", help="an image, or a table of samples")
    add("--all", action="store_true", help="print the probability of every class")
    add("--json", action="store_true", help="print JSON, with the probability of every class")
    add("--out", type=Path, metavar="FILE.csv", help="write a CSV file instead of printing")
    add_computation(parser)
    return parser


# The network


def load_trained(arguments: argparse.Namespace) -> Trained:
    """Return the network that `run`, `device`, `backend` and `arithmetic` of the arguments name.

    Raises
    ------
    DataError
        There is no such run or file, it is damaged, or the run has not ended.
    ConfigError
        There is no such device or backend.
    BackendError
        It is not usable here.
    """
    from xpnet.backends.resolve import resolve
    from xpnet.checkpoint import load_model
    from xpnet.predictor import Predictor, model_path

    path: Path = arguments.run
    config, sha256, expected = _training(path) if path.is_dir() else (None, None, None)
    model = load_model(model_path(path))
    if expected is not None:
        _check_fingerprint(path, model, expected)
    selection = resolve(arguments.device, arguments.backend)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    arithmetic = arguments.arithmetic or (None if config is None else config.arithmetic)
    predictor = Predictor(model, selection.backend, arithmetic)
    return Trained(str(path), predictor, config, sha256)


def _training(folder: Path) -> "tuple[TrainConfig, str, str]":
    """Return settings, digest of the data and fingerprint from the record of a run that has ended."""
    from xpnet.config import from_resolved
    from xpnet.tracking import RECORD_FILE, read_run

    record: dict[str, Any] = dict(read_run(folder))
    path = folder / RECORD_FILE
    if record.get("status") == "running":
        msg = (
            f"{folder}: is still running, or was killed: wait until it has ended, "
            f"or go on with xpnet train --resume {folder}"
        )
        raise DataError(msg)
    if record.get("status") not in {"completed", "interrupted"}:
        msg = f"{folder}: holds no trained network, as the training has failed"
        raise DataError(msg)
    data = record.get("data")
    sha256 = data.get("sha256") if isinstance(data, dict) else None
    fingerprint, config = record.get("fingerprint"), record.get("config")
    for key, value in {"data.sha256": sha256, "fingerprint": fingerprint}.items():
        if not isinstance(value, str):
            msg = f"{path}: {key}: expected a string, got {json.dumps(value)[:60]}"
            raise DataError(msg)
    if not isinstance(config, dict):
        msg = f"{path}: config: expected an object, got {json.dumps(config)[:60]}"
        raise DataError(msg)
    return from_resolved(config, str(path)), str(sha256), str(fingerprint)


def _check_fingerprint(folder: Path, model: "SavedModel", expected: str) -> None:
    from xpnet.checkpoint import fingerprint

    found = fingerprint(model.layers, model.norms)
    if found != expected:
        msg = (
            f"{folder}: its model has the fingerprint {found[:16]}…, run.json says {expected[:16]}…: "
            "name the .safetensors file to use it all the same"
        )
        raise DataError(msg)


# From files to classes


def _seen(trained: Trained, file: Path) -> Seen:
    """Return what the network sees in a file.

    Raises
    ------
    DataError
        The file cannot be read, or its samples do not fit the network.
    """
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
    from xpnet.digits import read_digit

    side = math.isqrt(trained.features)
    if side * side != trained.features:
        msg = (
            f"{file}: the network takes {trained.features} features, which make no square image: "
            f"predict takes tables for it ({TABLES})"
        )
        raise DataError(msg)
    digit = read_digit(file, side).reshape(1, -1)
    brightest = _brightest(trained.predictor.model)
    return digit if brightest == 255.0 else digit * (brightest / 255.0)


def _brightest(model: "SavedModel") -> float:
    """Return the feature that stands for full ink: the largest of the training if the file tells it."""
    scale = model.normalization.get("scale")
    if model.normalize != "scale" or scale is None or float(scale) == 1.0 / 255.0:
        return 255.0
    return 1.0 / float(scale)


# Tables


def is_table(path: Path) -> bool:
    """Tell whether a file is read as a table of samples: by its name, or as IDX by its first bytes."""
    from xpnet.datasets.idx import TYPES
    from xpnet.datasets.source import GZIP_MAGIC

    if path.name.lower().endswith((".csv", ".csv.gz", ".npy", ".npz")):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(4) if path.is_file() else b""
    except OSError:
        return False
    return start.startswith(GZIP_MAGIC) or (
        start[:2] == b"\0\0" and start[2:3] in map(_byte, TYPES)
    )


def _byte(number: int) -> bytes:
    return bytes([number])


def read_rows(path: Path, features: int) -> Rows:
    """Return the samples in a table.

    Parameters
    ----------
    path
        A CSV file, gzipped or not, of features, or with labels in front of them; a .npy or IDX file
        of features; or an .npz archive with x_test (and y_test), or x (and y), or a single array.
    features
        How many the network takes: it tells whether a CSV file has labels.

    Raises
    ------
    DataError
        The file is missing, damaged, or none of these.
    """
    from xpnet.datasets.idx import read_idx
    from xpnet.datasets.npy import read_npy
    from xpnet.datasets.table import features as checked

    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return _csv_rows(path, features)
        if name.endswith(".npz"):
            return _npz_rows(path)
        read = read_npy if name.endswith(".npy") else read_idx
        return Rows(checked(*read(path), path), None)
    except MemoryError as error:
        msg = f"{path}: does not fit in this machine's memory: split it"
        raise DataError(msg) from error


def _csv_rows(path: Path, features: int) -> Rows:
    from xpnet.datasets.csv import read_csv
    from xpnet.datasets.source import reading

    with reading(path) as file:
        columns = next(_csv_lines(path, file), (0, b""))[1].count(b",") + 1
        if columns == features:
            file.seek(0)
            return Rows(_unlabelled(path, file, features), None)
    if columns != features + 1:
        msg = (
            f"{path}: has {columns} columns, the network takes {features} features: "
            f"expected {features} columns, or {features + 1} with the label first"
        )
        raise DataError(msg)
    table = read_csv(path)
    return Rows(table.x, table.y)


def _csv_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, and their numbers from 1."""
    from xpnet.datasets.csv import LONGEST_LINE

    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            msg = f"{path}, line {number}: has more than {LONGEST_LINE} bytes"
            raise DataError(msg)
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield number, text


def _unlabelled(path: Path, file: BinaryIO, features: int) -> "NDArray[np.generic]":
    """Return the rows of a CSV file of features: whole numbers from 0 to 255 as pixels, else float64."""
    import numpy as np

    from xpnet.datasets.source import check_memory

    rows: list[NDArray[np.float64]] = []
    for index, (number, line) in enumerate(_csv_lines(path, file)):
        cells = line.replace(b'"', b"").split(b",")
        if index == 0 and _is_header(cells):
            continue
        if len(cells) != features:
            msg = f"{path}, line {number}: has {len(cells)} values, expected {features}"
            raise DataError(msg)
        rows.append(np.asarray([_number(path, number, cells)], np.float64))
        if len(rows) % 1024 == 1:
            check_memory(path, 2 * rows[0].nbytes * (len(rows) + 1023))
    if not rows:
        msg = f"{path}: has a header but no rows"
        raise DataError(msg)
    x = np.concatenate(rows)
    whole = x.min() >= 0 and x.max() <= 255 and bool((x == np.floor(x)).all())
    return x.astype(np.uint8) if whole else x


def _is_header(cells: list[bytes]) -> bool:
    """Tell column names from a row: names are no numbers, or they count up."""
    names = [cell.strip() for cell in cells]
    counted = [[b"%d" % (first + index) for index in range(len(names))] for first in (0, 1)]
    return names in counted or not any(map(_is_number, names))


def _is_number(cell: bytes) -> bool:
    try:
        return math.isfinite(float(cell)) and b"_" not in cell
    except ValueError:
        return False


def _number(path: Path, line: int, cells: list[bytes]) -> list[float]:
    """Return the cells as finite numbers; raise DataError over the first that is none."""
    try:
        values = list(map(float, cells))
    except ValueError:
        values = [math.nan]
    if not math.isfinite(sum(map(abs, values))) or any(b"_" in cell for cell in cells):
        for column, cell in enumerate(cells, start=1):
            if not _is_number(cell):
                shown = _shown(cell.strip()[:40].decode(errors="backslashreplace"))
                msg = f"{path}, line {line}, column {column}: {shown!r} is not a finite number"
                raise DataError(msg)
    return values


def _npz_rows(path: Path) -> Rows:
    from xpnet.datasets.npz import _read_member
    from xpnet.datasets.source import reading
    from xpnet.datasets.table import Table, labels
    from xpnet.datasets.table import features as checked

    with reading(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                pairs = {
                    "x_test": "y_test",
                    "x": "y",
                    **({names[0]: ""} if len(names) == 1 else {}),
                }
                key = next((key for key in pairs if key in names), None)
                if key is None:
                    found = ", ".join(sorted(names)[:8])
                    msg = (
                        f"{path}: expected x, or x_test, or a single array (found: {_shown(found)})"
                    )
                    raise DataError(msg)
                x = checked(*_read_member(path, archive, key), f"{path}, {key}")
                if pairs[key] not in names:
                    return Rows(x, None)
                y = labels(*_read_member(path, archive, pairs[key]), f"{path}, {pairs[key]}")
        except zipfile.BadZipFile as error:
            msg = f"{path}: is not an intact .npz archive ({error})"
            raise DataError(msg) from error
    table = Table(x, y, f"{path}, {key}", f"{path}, {pairs[key]}")
    return Rows(table.x, table.y)


# What is printed and written


def _shown(text: object) -> str:
    """Return text for a terminal: control characters as escapes."""
    from xpnet.runs.text import plain

    return plain(text)


def _heading(width: int, classes: int) -> str:
    names = "".join(f"{f'p{label}':>9}" for label in range(classes))
    return f"{'':{width}}   class   probability{names}\n"


def _lines(seen: Seen, width: int, *, every: bool) -> Iterator[str]:
    """Yield a line for each sample: the file, the class, its probability, or those of all classes."""
    name = _shown(seen.file)
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
