"""``xpnet evaluate``: how well a trained network does on labelled samples, class by class."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xpnet.cli import Parser, guarded
from xpnet.errors import DataError
from xpnet.predict import (
    Trained,
    add_computation,
    add_network,
    check_csv_name,
    classes_of,
    load_trained,
    write_predictions,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xpnet.metrics import ClassFigures
    from xpnet.predictor import Predictor

# What is imported below, inside the functions, loads NumPy; --help does without.

WIDEST = 30
"""Classes up to which the confusion matrix is printed."""

DESCRIPTION = "Evaluate a trained network on the test data of its training, or on other data."
EPILOG = """\
The loss is what the training minimised; for a bare model file it is the cross-entropy.

Exit codes: 0 done, 2 bad input or device, 130 interrupted."""


class Samples(NamedTuple):
    """Labelled samples."""

    name: str
    split: str  # test or train
    x: "NDArray[np.generic]"  # (m, features)
    labels: "NDArray[np.int32]"  # (m,)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a network does on labelled samples.

    Attributes
    ----------
    accuracy
        Share of right predictions.
    loss
        The mean of `loss_name` with `label_smoothing`.
    confusion
        (classes, classes): how often each class (row) is predicted to be each class (column). None
        with more than 1,000 classes.
    classes
        Precision, recall, F1 and support of each class.
    predicted, probabilities
        (m,) and (m, classes).
    """

    accuracy: float
    loss: float
    loss_name: str
    label_smoothing: float
    confusion: "NDArray[np.int64] | None"
    classes: "list[ClassFigures]"
    predicted: "NDArray[np.int64]"
    probabilities: "NDArray[np.floating]"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(words), debug="--debug" in words)


def _command(words: list[str]) -> int:
    arguments = _parser().parse_args(words)
    check_csv_name("--predictions", arguments.predictions)
    trained = load_trained(arguments)
    samples = _samples(trained, arguments)
    config = trained.config
    loss, smoothing = (
        ("cross-entropy", 0.0) if config is None else (config.loss, config.label_smoothing)
    )
    found = evaluate(
        trained.predictor,
        samples.x,
        samples.labels,
        name=samples.name,
        loss=loss,
        label_smoothing=smoothing,
    )
    if arguments.predictions is not None:
        _write(arguments.predictions, samples, found)
    if arguments.json:
        sys.stdout.write(_json(trained, samples, found))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(trained, samples, found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="xpnet evaluate",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_network(parser)
    add(
        "--data",
        type=Path,
        help="data as in xpnet train, or one .csv or .npz file of labelled samples (default: the data of "
        "the training, or the bundled MNIST for a .safetensors file)",
    )
    add("--test-data", type=Path, help="the test data, where --data is a CSV file of training data")
    add(
        "--split",
        choices=("test", "train"),
        default="test",
        help="the half of the data to evaluate on (default: test)",
    )
    add("--json", action="store_true", help="print JSON")
    add(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="write what is predicted for each sample",
    )
    add_computation(parser)
    return parser


# The samples


def _samples(trained: Trained, arguments: argparse.Namespace) -> Samples:
    """Return the samples that the arguments name.

    Raises
    ------
    DataError
        The data cannot be read, have no labels, or are not those of the training as they should be.
    ConfigError
        The arguments do not go together.
    """
    from xpnet import datasets
    from xpnet.datasets.rows import read_rows

    data, test_data, split = arguments.data, arguments.test_data, arguments.split
    if data is not None and test_data is None and split == "test" and data.is_file():
        rows = read_rows(data, trained.features)
        if rows.labels is None:
            msg = f"{data}: has no labels to compare with: xpnet predict takes such files"
            raise DataError(msg)
        return Samples(str(data), split, rows.x, rows.labels)
    own = data is None and test_data is None
    if own and trained.config is not None:
        data, test_data = trained.config.data, trained.config.test_data
    dataset = datasets.load(data, test_data)
    if own and trained.data_sha256 not in (None, datasets.digest(dataset)):
        msg = (
            f"{dataset.name}: is no longer what {trained.name} was trained on: name it with --data to "
            "evaluate on it all the same"
        )
        raise DataError(msg)
    if split == "train":
        return Samples(dataset.name, split, dataset.x_train, dataset.y_train)
    return Samples(dataset.name, split, dataset.x_test, dataset.y_test)


# The figures


def evaluate(
    predictor: "Predictor",
    x: "NDArray[np.generic]",
    labels: "NDArray[np.int32]",
    *,
    name: str = "the data",
    loss: str = "cross-entropy",
    label_smoothing: float = 0.0,
) -> Evaluation:
    """Return how well a network does on raw rows (m, features) with labels (m,).

    Parameters
    ----------
    name
        What messages call the rows.
    loss, label_smoothing
        The loss, as in `xpnet.model.Network`.

    Raises
    ------
    DataError
        The rows do not have the network's features, an output is not finite, or there is a label that
        the network has no class for.
    """
    from xpnet.metrics import class_figures, confusion_matrix

    classes = predictor.classes
    if int(labels.max()) >= classes:
        row = int((labels >= classes).argmax())
        msg = (
            f"{name}, row {row + 1}: label {labels[row]}: the network tells {classes} classes, "
            f"0 to {classes - 1}"
        )
        raise DataError(msg)
    logits, predicted, probabilities = classes_of(predictor, x, name)
    return Evaluation(
        int((predicted == labels).sum()) / len(labels),
        _mean_loss(predictor, logits, labels, loss, label_smoothing),
        loss,
        label_smoothing,
        confusion_matrix(predicted, labels, classes),
        class_figures(predicted, labels, classes),
        predicted,
        probabilities,
    )


def _mean_loss(
    predictor: "Predictor",
    logits: "NDArray[np.floating]",
    labels: "NDArray[np.int32]",
    loss: str,
    label_smoothing: float,
) -> float:
    """Return the mean loss, summed as training does: the same bits in the reproducible arithmetic."""
    from xpnet.arithmetic import ARITHMETICS
    from xpnet.backends.resolve import make
    from xpnet.blocks import block_bounds, tree_sum
    from xpnet.model import sample_losses

    network = replace(predictor.model.network, loss=loss, label_smoothing=label_smoothing)
    backend = make("numpy", "cpu")
    xp = backend.xp
    ops = ARITHMETICS[predictor.arithmetic](xp, backend.device, getattr(xp, logits.dtype.name))

    def sums() -> "Iterator[list[NDArray[np.floating]]]":
        for begin, end in block_bounds(len(labels)):
            losses = sample_losses(ops, logits[begin:end].T.copy(), labels[begin:end], network)
            yield [ops.sum(losses, axis=-1)]

    with backend.scope():
        (total,) = tree_sum(sums())
    return float(total.item()) * (1.0 / len(labels))


# What is printed and written


def _lines(trained: Trained, samples: Samples, found: Evaluation) -> Iterator[str]:
    from xpnet.experiment import shown

    predictor = trained.predictor
    backend, count = predictor.backend, len(samples.labels)
    yield (
        f"{trained.name}: {shown(predictor.model.sizes)}, {predictor.arithmetic}, {backend.name} "
        f"{backend.version} on {backend.device_name}"
    )
    yield f"{samples.name}: {count} {_HALVES[samples.split]} samples"
    yield f"accuracy   {found.accuracy:.4f}"
    yield f"loss       {found.loss:.4f} ({_described(found)})"
    yield ""
    yield "class   precision   recall       F1   support"
    for label, figures in enumerate(found.classes):
        precision, recall, f1 = map(_share, (figures.precision, figures.recall, figures.f1))
        yield f"{label:>5}   {precision:>9}   {recall:>6}   {f1:>6}   {figures.support:>7}"
    yield ""
    if found.confusion is None:
        yield f"There is no confusion matrix of {len(found.classes)} classes: 1,000 are the most."
        return
    if len(found.classes) > WIDEST:
        yield f"The confusion matrix of {len(found.classes)} classes is in --json."
        return
    yield "confusion matrix: a row for each class, a column for each prediction"
    width = max(5, len(str(count)) + 2)
    yield "class" + "".join(f"{label:>{width}}" for label in range(len(found.classes)))
    for label, row in enumerate(found.confusion.tolist()):
        yield f"{label:>5}" + "".join(f"{number:>{width}}" for number in row)


_HALVES = {"test": "test", "train": "training"}


def _described(found: Evaluation) -> str:
    smoothed = f", label smoothing {found.label_smoothing:g}" if found.label_smoothing else ""
    return f"mean {found.loss_name}{smoothed}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.4f}"


def _json(trained: Trained, samples: Samples, found: Evaluation) -> str:
    predictor = trained.predictor
    figures = {
        "model": trained.name,
        "arithmetic": predictor.arithmetic,
        "backend": predictor.backend.name,
        "device": predictor.backend.device_name,
        "data": samples.name,
        "split": samples.split,
        "samples": len(samples.labels),
        "accuracy": found.accuracy,
        "loss": found.loss,
        "loss_name": found.loss_name,
        "label_smoothing": found.label_smoothing,
        "classes": [
            {"class": label, **asdict(figures)} for label, figures in enumerate(found.classes)
        ],
        "confusion": None if found.confusion is None else found.confusion.tolist(),
    }
    return json.dumps(figures, indent=2, allow_nan=False) + "\n"


def _write(path: Path, samples: Samples, found: Evaluation) -> None:
    rows = enumerate(samples.labels.tolist())
    write_predictions(
        path,
        ["index", "label"],
        rows,
        found.predicted.tolist(),
        found.probabilities,
        len(found.classes),
    )


if __name__ == "__main__":
    sys.exit(main())
