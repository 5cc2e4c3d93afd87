"""``xpnet evaluate``: how well a trained network does on labelled samples, class by class."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xpnet._lib.text import json_text
from xpnet.cli.parser import Parser
from xpnet.cli.predictions import (
    add_computation,
    check_csv_name,
    load_network,
    network_parser,
    write_predictions,
)
from xpnet.errors import DataError
from xpnet.inference.evaluation import Evaluation, evaluate
from xpnet.inference.load import Trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def main(words: Sequence[str]) -> int:
    """Print the figures and return the exit code."""
    arguments = _parser().parse_args(words)
    check_csv_name("--predictions", arguments.predictions)
    trained = load_network(arguments)
    samples = _samples(trained, arguments)
    config = trained.config
    loss, smoothing = ("cross-entropy", 0.0) if config is None else (config.loss, config.label_smoothing)
    evaluation = evaluate(
        trained.predictor, samples.x, samples.labels, name=samples.name, loss=loss, label_smoothing=smoothing
    )
    if arguments.predictions is not None:
        labels = enumerate(samples.labels.tolist())
        rows = zip(labels, evaluation.predicted.tolist(), evaluation.probabilities, strict=True)
        write_predictions(arguments.predictions, ("index", "label"), rows, len(evaluation.classes))
    if arguments.json:
        sys.stdout.write(json_text(_as_object(trained, samples, evaluation)))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(trained, samples, evaluation))
    return 0


def _parser() -> Parser:
    parser = network_parser("evaluate", DESCRIPTION, EPILOG)
    add = parser.add_argument
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
    add("--predictions", type=Path, metavar="FILE.csv", help="write what is predicted for each sample")
    add_computation(parser)
    return parser


def _samples(trained: Trained, arguments: argparse.Namespace) -> Samples:
    """Return the samples that the arguments name.

    Raises
    ------
    DataError
        The data cannot be read, have no labels, or are not those of the training as they should be.
    ConfigError
        The arguments do not go together.
    """
    from xpnet.data import datasets
    from xpnet.data.rows import read_rows

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
    x, labels = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
    return Samples(dataset.name, split, x, labels)


def _lines(trained: Trained, samples: Samples, evaluation: Evaluation) -> Iterator[str]:
    from xpnet.nn.architecture import shown

    predictor, classes = trained.predictor, evaluation.classes
    backend, count = predictor.backend, len(samples.labels)
    half = "training" if samples.split == "train" else samples.split
    smoothing = evaluation.label_smoothing
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    yield (
        f"{trained.name}: {shown(predictor.model.sizes)}, {predictor.arithmetic}, {backend.name} "
        f"{backend.version} on {backend.device_name}"
    )
    yield f"{samples.name}: {count} {half} samples"
    yield f"accuracy   {evaluation.accuracy:.4f}"
    yield f"loss       {evaluation.loss:.4f} (mean {evaluation.loss_name}{smoothed})"
    yield ""
    yield "class   precision   recall       F1   support"
    for label, figures in enumerate(classes):
        precision, recall, f1 = map(_share, (figures.precision, figures.recall, figures.f1))
        yield f"{label:>5}   {precision:>9}   {recall:>6}   {f1:>6}   {figures.support:>7}"
    yield ""
    if evaluation.confusion is None:
        yield f"There is no confusion matrix of {len(classes)} classes: 1,000 are the most."
    elif len(classes) > WIDEST:
        yield f"The confusion matrix of {len(classes)} classes is in --json."
    else:
        yield "confusion matrix: a row for each class, a column for each prediction"
        width = max(5, len(str(count)) + 2)
        table: list[tuple[object, Iterable[int]]] = [("class", range(len(classes)))]
        for heading, row in [*table, *enumerate(evaluation.confusion.tolist())]:
            yield f"{heading:>5}" + "".join(f"{number:>{width}}" for number in row)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.4f}"


def _as_object(trained: Trained, samples: Samples, evaluation: Evaluation) -> dict[str, Any]:
    predictor, confusion = trained.predictor, evaluation.confusion
    return {
        "model": trained.name,
        "arithmetic": predictor.arithmetic,
        "backend": predictor.backend.name,
        "device": predictor.backend.device_name,
        "data": samples.name,
        "split": samples.split,
        "samples": len(samples.labels),
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "loss_name": evaluation.loss_name,
        "label_smoothing": evaluation.label_smoothing,
        "classes": [{"class": label, **asdict(figures)} for label, figures in enumerate(evaluation.classes)],
        "confusion": None if confusion is None else confusion.tolist(),
    }
