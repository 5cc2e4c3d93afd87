"""``xpnet evaluate``: metrics of a trained network on labelled samples, in total and by class.

Evaluate a trained network on the test data of its training, or on other data.

The loss is what the training minimised; for a bare model file it is the cross-entropy.

Exit codes: 0 done, 2 bad input or device, 130 interrupted.

Options
-------
--device
    as in xpnet train
--backend
    the array library, as in xpnet train
--arithmetic
    as in xpnet train (default: that of the training)
run
    a run, by its folder or name in runs, or a .safetensors file (default: the newest trained run)
--data
    data as in xpnet train, or one .csv or .npz file of labelled samples (default: the data of the training,
    or the bundled MNIST for a .safetensors file)
--test-data
    the test data, where --data is a CSV file of training data
--split
    the half of the data to evaluate on (default: test)
--json
    print JSON
--predictions
    write what is predicted for each sample
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet._lib.text import announce, format_json, plain
from xpnet._typing import HostArray, Values
from xpnet.cli.predict import build_network_parser, write_predictions
from xpnet.cli.tables import format_metric, make_columns, print_table
from xpnet.config.flags import csv_path
from xpnet.errors import DataError
from xpnet.training.terminal import make_console

if TYPE_CHECKING:
    from xpnet.inference.predictor import Predictor
    from xpnet.storage.folder import RunFolder

# The imports inside the functions load NumPy, which --help does not need.

WIDEST = 30
"""The largest number of classes for which the confusion matrix is printed."""

HEADINGS = ("class", "precision", "recall", "F1", "support")
"""The columns of the table of metrics by class."""


def main(words: Sequence[str]) -> int:
    """Print the metrics of the network. Return the exit code."""
    parser = build_network_parser("evaluate", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--predictions", type=csv_path, metavar="FILE.csv")
    arguments = parser.parse_args(words)
    from xpnet.inference.predictor import MEANS, evaluate_rows, load_for_inference

    place = arguments.device, arguments.backend, arguments.arithmetic
    path, predictor, run = load_for_inference(arguments.run, *place)
    with announce(f"reading {arguments.data or 'the data of the training'}"):
        name, x, labels = _load_samples(predictor, run, arguments)
    loss = {"loss": run.config.loss, "label_smoothing": run.config.label_smoothing} if run else {}
    evaluation = evaluate_rows(predictor, x, labels, name, **loss)
    names = predictor.class_names
    if arguments.predictions:
        labelled = [names[label] for label in labels.tolist()]
        results = labelled, evaluation.predicted.tolist(), evaluation.probabilities
        rows = zip(range(len(labels)), *results, strict=True)
        write_predictions(arguments.predictions, ("index", "label"), rows, names)
    metrics = "accuracy", "majority", *MEANS.values(), "loss", "loss_name", "label_smoothing"
    confusion, classes = evaluation.confusion, zip(names, evaluation.classes, strict=True)
    result = {
        "model": str(path),
        "arithmetic": predictor.arithmetic,
        "backend": predictor.backend.name,
        "device": predictor.backend.device_name,
        "data": name,
        "split": arguments.split,
        "samples": len(evaluation.predicted),
        **{key: getattr(evaluation, key) for key in metrics},
        "classes": [{"class": label, **asdict(each)} for label, each in classes],
        "confusion": None if confusion is None else confusion.tolist(),
    }
    if arguments.json:
        sys.stdout.write(format_json(result))
    else:
        _print_result(result, predictor)
    return 0


def _load_samples(
    predictor: "Predictor", run: "RunFolder | None", arguments: argparse.Namespace
) -> tuple[str, HostArray, HostArray]:
    """Return the name of the data that the arguments select, x (m, features) and labels (m,).

    Raises
    ------
    DataError
        The data cannot be read, have no labels, or have changed since the network was trained on them.
    ConfigError
        The arguments contradict each other.
    """
    from xpnet.data import datasets

    data = arguments.data
    test_data = arguments.test_data
    split = arguments.split
    is_table = data and test_data is None and split == "test" and data.is_file()
    if is_table or (data and datasets.is_csv(data) and not data.is_dir()):
        table = test_data if split == "test" and test_data else data
        x, labels = datasets.read_rows(table, predictor.model.sizes[0], predictor.model.columns)
        if labels is None:
            raise DataError(f"{table}: has no labels to compare with: xpnet predict takes such files")
        return str(table), x, labels
    if not run or data or test_data:
        dataset = datasets.load(data, test_data)
    else:
        run.check_files("name labelled samples with --data")
        dataset = datasets.load_shared(run.config)
        if datasets.digest(dataset) != run.record["data"]["sha256"]:
            remedy = "name it with --data to evaluate on it all the same"
            raise DataError(f"{dataset.name}: is no longer what {run.path} was trained on: {remedy}")
    return dataset.name, getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")


def _print_result(result: Values, predictor: "Predictor") -> None:
    """Print the metrics, a table of those by class, and the confusion matrix."""
    from xpnet.inference.predictor import MEANS
    from xpnet.nn.architecture import format_sizes

    console = make_console()
    classes = result["classes"]
    confusion = result["confusion"]
    network = f"{format_sizes(predictor.model.sizes)}, {result['arithmetic']}"
    library = f"{result['backend']} {predictor.backend.version} on {result['device']}"
    part = "training" if result["split"] == "train" else result["split"]
    smoothed = f", label smoothing {result['label_smoothing']:g}" if result["label_smoothing"] else ""
    console.print(f"{plain(result['model'])}: {network}, {library}")
    console.print(f"{plain(result['data'])}: {result['samples']} {part} samples")
    console.print(f"accuracy   {result['accuracy']:.4f} (largest class {result['majority']:.4f})")
    for name, key in MEANS.items():
        if result[key] is not None:
            console.print(f"{name:<11}{result[key]:.4f}")
    console.print(f"loss       {result['loss']:.4f} (mean {result['loss_name']}{smoothed})\n")
    names = [str(metrics["class"]) for metrics in classes]
    cells = [[format_metric(key, metrics[key.lower()]) for key in HEADINGS[1:]] for metrics in classes]
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    print_table(console, make_columns(HEADINGS, rows))
    if confusion is None or len(classes) > WIDEST:
        console.print("\nThe confusion matrix is in --json, for up to 1,000 classes.")
    else:
        console.print("\nconfusion matrix: a row for each class, a column for each prediction")
        rows = [[name, *map(str, row)] for name, row in zip(names, confusion, strict=True)]
        print_table(console, make_columns(["class", *names], rows))
