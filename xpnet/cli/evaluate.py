"""``xpnet evaluate``: how well a trained network does on labelled samples, class by class."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet._lib.parser import Parser, path_ending_in
from xpnet._lib.text import format_json, plain
from xpnet.cli.predictions import network_parser, write_predictions
from xpnet.cli.tables import columns_of, format_metric, new_console, print_table
from xpnet.errors import DataError
from xpnet.inference.evaluation import Evaluation, evaluate
from xpnet.inference.load import LoadedModel, load_for_inference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = tuple[str, NDArray[np.generic], NDArray[np.int32]]

# What is imported below, inside the functions, loads NumPy; --help does without.

WIDEST = 30
"""Classes up to which the confusion matrix is printed."""

DESCRIPTION = "Evaluate a trained network on the test data of its training, or on other data."
EPILOG = """\
The loss is what the training minimised; for a bare model file it is the cross-entropy.

Exit codes: 0 done, 2 bad input or device, 130 interrupted."""
RUN_HELP = "the folder of a run, or a .safetensors file (default: the newest trained run in runs)"
DATA_HELP = """
data as in xpnet train, or one .csv or .npz file of labelled samples (default: the data of the training, or
the bundled MNIST for a .safetensors file)"""


def main(words: Sequence[str]) -> int:
    """Print the figures and return the exit code."""
    arguments = _parser().parse_args(words)
    trained = load_for_inference(arguments.run, arguments.device, arguments.backend, arguments.arithmetic)
    name, x, labels = _samples(trained, arguments)
    config = trained.config
    loss, smoothing = ("cross-entropy", 0.0) if config is None else (config.loss, config.label_smoothing)
    evaluation = evaluate(trained.predictor, x, labels, name=name, loss=loss, label_smoothing=smoothing)
    if arguments.predictions is not None:
        keys = enumerate(labels.tolist())
        rows = zip(keys, evaluation.predicted.tolist(), evaluation.probabilities, strict=True)
        write_predictions(arguments.predictions, ("index", "label"), rows, len(evaluation.classes))
    value = _as_object(trained, evaluation, name, arguments.split)
    if arguments.json:
        sys.stdout.write(format_json(value))
    else:
        _print(trained, value)
    return 0


def _parser() -> Parser:
    parser = network_parser("evaluate", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", nargs="?", help=RUN_HELP)
    add("--data", type=Path, help=DATA_HELP)
    add("--test-data", type=Path, help="the test data, where --data is a CSV file of training data")
    split = "the half of the data to evaluate on (default: test)"
    add("--split", choices=("test", "train"), default="test", help=split)
    add("--json", action="store_true", help="print JSON")
    written = "write what is predicted for each sample"
    add("--predictions", type=path_ending_in(".csv"), metavar="FILE.csv", help=written)
    return parser


def _samples(trained: LoadedModel, arguments: argparse.Namespace) -> "Samples":
    """Return the samples that the arguments name: their name, x (m, features) and labels (m,).

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
        return str(data), rows.x, rows.labels
    own = data is None and test_data is None
    if own and trained.config is not None:
        data, test_data = trained.config.data, trained.config.test_data
    dataset = datasets.load(data, test_data)
    if own and trained.data_sha256 not in (None, datasets.digest(dataset)):
        remedy = "name it with --data to evaluate on it all the same"
        msg = f"{dataset.name}: is no longer what {trained.name} was trained on: {remedy}"
        raise DataError(msg)
    return dataset.name, getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")


def _as_object(trained: LoadedModel, evaluation: Evaluation, name: str, split: str) -> dict[str, Any]:
    predictor, confusion = trained.predictor, evaluation.confusion
    return {
        "model": trained.name,
        "arithmetic": predictor.arithmetic,
        "backend": predictor.backend.name,
        "device": predictor.backend.device_name,
        "data": name,
        "split": split,
        "samples": len(evaluation.predicted),
        **{key: getattr(evaluation, key) for key in ("accuracy", "loss", "loss_name", "label_smoothing")},
        "classes": [{"class": label, **asdict(figures)} for label, figures in enumerate(evaluation.classes)],
        "confusion": None if confusion is None else confusion.tolist(),
    }


def _print(trained: LoadedModel, value: Mapping[str, Any]) -> None:
    """Print what the JSON object says."""
    from xpnet.nn.architecture import format_sizes

    console, predictor = new_console(), trained.predictor
    classes, confusion, smoothing = value["classes"], value["confusion"], value["label_smoothing"]
    half = "training" if value["split"] == "train" else value["split"]
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    network = f"{format_sizes(predictor.model.sizes)}, {predictor.arithmetic}"
    library = f"{predictor.backend.name} {predictor.backend.version} on {value['device']}"
    console.print(plain(f"{trained.name}: {network}, {library}"))
    console.print(plain(f"{value['data']}: {value['samples']} {half} samples"))
    console.print(f"accuracy   {value['accuracy']:.4f}")
    console.print(f"loss       {value['loss']:.4f} (mean {value['loss_name']}{smoothed})\n")
    keys = ("class", "precision", "recall", "f1", "support")
    rows = [[format_metric(key, figures[key]) for key in keys] for figures in classes]
    print_table(console, columns_of(("class", "precision", "recall", "F1", "support"), rows))
    if confusion is None:
        console.print(f"\nThere is no confusion matrix of {len(classes)} classes: 1,000 are the most.")
    elif len(classes) > WIDEST:
        console.print(f"\nThe confusion matrix of {len(classes)} classes is in --json.")
    else:
        console.print("\nconfusion matrix: a row for each class, a column for each prediction")
        rows = [[str(label), *map(str, row)] for label, row in enumerate(confusion)]
        print_table(console, columns_of(["class", *map(str, range(len(classes)))], rows))
