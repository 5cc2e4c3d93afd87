"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.config import TrainConfig
from xpnet.config.keywords import ARGUMENTS, COMMAND_LINE_ONLY
from xpnet.config.training import read_recipe

pytestmark = pytest.mark.needs("sklearn")

CHECKS = """
from sklearn.utils import estimator_checks as checks
from xpnet import XPNetClassifier

repeated = "check_sample_weight_equivalence_on_dense_data"
reason = "standardisation has no weights, and rounding and mini-batches differ from those of repeated rows"
results = checks.check_estimator(
    XPNetClassifier(), expected_failed_checks={repeated: reason}, on_skip=None, on_fail="raise"
)
print(len(results), *(each["check_name"] for each in results if each["status"] != "passed"))
exact = XPNetClassifier(normalize="none", arithmetic="native", dtype="float64", batch_size="full")
getattr(checks, repeated)("XPNetClassifier", exact)
"""
GENERATOR = np.random.default_rng(0)
CENTRES = GENERATOR.normal(scale=4, size=(3, 4))
Y = np.arange(90) % 3
X = CENTRES[Y] + GENERATOR.normal(size=(90, 4))
FLOWERS = np.array(["setosa", "versicolor", "virginica"])[Y]


def quick(**settings):
    return xpnet.XPNetClassifier(**{"hidden": (8,), "epochs": 3, "device": "cpu", **settings})


def fingerprint(classifier, rows=slice(None), **weights):
    """Fit a classifier, and return the fingerprint of its network."""
    return classifier.fit(X[rows], Y[rows], **weights).model_.fingerprint


@pytest.mark.slow
def test_every_check_of_scikit_learn_passes():
    # One of them looks at an environment variable that must be set before SciPy is loaded.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    words = [sys.executable, "-W", "error", "-c", CHECKS]
    count, *failed = subprocess.check_output(words, env=environment, text=True).split()
    assert int(count) >= 60
    assert failed == ["check_sample_weight_equivalence_on_dense_data"]  # which full batches pass


def test_the_defaults_learn_from_a_table():
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    test = np.arange(len(y)) % 4 == 0
    model = xpnet.XPNetClassifier(arithmetic="native", log_every=50).fit(x[~test], y[~test])
    assert model.score(x[test], y[test]) >= 0.97


def test_the_parameters_are_the_settings_of_the_command():
    left_out = COMMAND_LINE_ONLY | ARGUMENTS | {"seed", "init_from", "drop", "encode", "unknown"}
    settings = {field.name: field.default for field in fields(TrainConfig) if field.name not in left_out}
    own = {"class_weight": None, "verbose": False, "random_state": 0, "callbacks": None, "log_every": 1}
    own |= {"run": None, "track": ()}
    own |= read_recipe("tabular") | {"schedule_factor": None}  # as in the recipe, for its schedule alone
    assert xpnet.XPNetClassifier().get_params() == {**settings, **own}


def test_a_clone_is_untrained_and_trains_as_the_interface_does():
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    settings = {"hidden": 7, "activation": "tanh", "init": "glorot", "schedule": "exponential"}
    settings |= {"epochs": 4, "dropout": 0.1, "validation": 0.3, "patience": 2, "device": "cpu"}
    classifier = clone(xpnet.XPNetClassifier(random_state=3, **settings).fit(X, Y))
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    classifier.fit(X, Y)
    settings["schedule_factor"] = None  # of this schedule, in place of the recipe's
    model = xpnet.fit(X, Y, seed=3, recipe="tabular", **settings)
    assert classifier.model_.fingerprint == model.fingerprint
    assert classifier.model_.history == model.history
    assert np.array_equal(classifier.predict_proba(X), model.predict_proba(X))


def test_weights_are_those_of_the_interface():
    weights, by_name = np.arange(90), {"setosa": 2, "virginica": 3}
    classifier = quick(class_weight=by_name).fit(X, FLOWERS, sample_weight=weights)
    settings = {"recipe": "tabular", "hidden": (8,), "epochs": 3}
    model = xpnet.fit(X, Y, sample_weight=weights * np.array([2, 1, 3])[Y], **settings)
    assert classifier.model_.fingerprint == model.fingerprint
    balanced = xpnet.fit(X[7:], Y[7:], class_weight="balanced", **settings)
    assert fingerprint(quick(class_weight="balanced"), slice(7, None)) == balanced.fingerprint


def test_missing_values_become_the_means_of_the_first_rows():
    x = X.copy()
    x[::7, 1] = np.nan
    settings = {"recipe": "tabular", "hidden": (8,), "epochs": 3, "missing": "mean", "device": "cpu"}
    expected = xpnet.fit(x, Y, **settings)
    classifier = quick(missing="mean").fit(x, Y)
    assert classifier.model_.fingerprint == expected.fingerprint
    assert np.array_equal(classifier.predict_proba(x), expected.predict_proba(x))
    pieces = quick(missing="mean")
    for _ in range(3):
        pieces.partial_fit(x, Y, classes=[0, 1, 2])
    assert pieces.model_.fingerprint == expected.fingerprint
    means = pieces.model_.network.columns.means
    assert means == pieces.partial_fit(10 * x, Y).model_.network.columns.means
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(x, Y)


def test_probabilities_of_a_data_frame_are_one_with_the_names_of_the_classes():
    import pandas as pd

    frame = pd.DataFrame(X, index=range(100, 190)).add_prefix("x")
    classifier = quick().fit(frame, FLOWERS)
    model = classifier.model_
    for each, names in ((classifier, classifier.classes_), (model, model.class_names)):
        shares = each.predict_proba(frame, as_frame=True)
        assert (list(shares.columns), list(shares.index)) == (list(names), list(frame.index))
        assert np.array_equal(shares.to_numpy(), classifier.predict_proba(frame))
    assert quick().fit(X, Y).predict_proba(X, as_frame=True).columns.tolist() == [0, 1, 2]
    assert model.score(frame, FLOWERS) == classifier.score(frame, FLOWERS)


def test_a_classifier_is_recorded_and_has_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorded = quick(run="runs/mine").fit(X, FLOWERS)
    assert xpnet.load("runs/mine").fingerprint == quick().fit(X, FLOWERS).model_.fingerprint
    for classifier in (recorded, quick().fit(X, Y), quick().partial_fit(X, Y, classes=[0, 1, 2])):
        classifier.model_.report()
        assert b"training accuracy" in Path("report.html").read_bytes()
    with pytest.raises(xpnet.ConfigError, match=r"^runs/mine: "):
        recorded.fit(X, FLOWERS)


def test_a_random_state_fixes_the_network():
    state = np.random.RandomState
    seeds = [1, np.int64(1), 2, state(1), state(1), None, None]
    prints = [fingerprint(quick(random_state=seed, epochs=0)) for seed in seeds]
    assert prints[0] == prints[1] != prints[2]
    assert prints[3] == prints[4] != prints[0]
    assert prints[5] != prints[6]


@pytest.mark.parametrize(("rows", "size", "same", "norm"), [(20, 32, 20, False), (31, 5, 7, True)])
def test_a_batch_is_at_most_all_rows_and_beside_batch_norm_none_is_a_single_row(rows, size, same, norm):
    capped, expected = (quick(batch_size=number, batch_norm=norm) for number in (size, same))
    assert fingerprint(capped, slice(rows)) == fingerprint(expected, slice(rows))


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, ()), (np.float64, (4,))])
def test_uint8_features_are_pixels(dtype, shape):
    x = (10 * X + 128).clip(0, 255).astype(dtype)
    assert quick(epochs=1).fit(x, Y).model_.network.normalization.shift.shape == shape


PIECES = {
    "full batch": {"batch_size": "full"},
    "batch norm": {"batch_norm": True, "dropout": 0.2, "schedule": "cosine", "warmup_epochs": 2},
    "class weights": {"class_weight": {0: 2, 2: 0}},
}


@pytest.mark.parametrize("settings", PIECES.values(), ids=PIECES)
def test_as_many_calls_as_epochs_come_to_the_same_as_fit(settings):
    classifier, expected = quick(**settings), quick(**settings)
    weights = {"sample_weight": np.arange(90)} if "class_weight" in settings else {}
    for _ in range(3):
        classifier.partial_fit(X, Y, classes=[0, 1, 2], **weights)
    assert classifier.model_.fingerprint == fingerprint(expected, **weights)
    assert classifier.n_iter_ == expected.n_iter_ == 3
    assert fingerprint(classifier, **weights) == expected.model_.fingerprint  # fit begins anew


def test_pieces_may_lack_classes_and_differ_in_size_and_labels_may_be_text():
    classifier = quick(epochs=1, learning_rate=0.04, schedule="constant", arithmetic="native")
    order = np.argsort(Y, kind="stable")
    for begin, end in [(0, 40), (40, 75), (75, 90), (0, 1)] * 4:
        classifier.partial_fit(X[order[begin:end]], FLOWERS[order[begin:end]], classes=np.unique(FLOWERS))
    assert (classifier.n_iter_, classifier.classes_.tolist()) == (16, ["setosa", "versicolor", "virginica"])
    predicted = classifier.predict(X)
    assert np.array_equal(classifier.classes_[classifier.predict_proba(X).argmax(axis=1)], predicted)
    assert classifier.score(X, FLOWERS) == np.mean(predicted == FLOWERS) > 0.6


ROWS, LABELS = [[0.0], [1.0]], [0, 1]
UNKNOWN, WRONG = "^XPNetClassifier: unknown setting ", xpnet.ConfigError


def fitted(**settings):
    return quick(**settings).fit(X, Y)


def first_piece(y=LABELS, classes=LABELS, **settings):
    return quick(**settings).partial_fit(ROWS, y, classes=classes)


def other_piece(**settings):
    return first_piece().set_params(**settings).partial_fit(ROWS, LABELS)


CALLS = [
    (WRONG, "^XPNetClassifier: epochs: expected a whole number", lambda: fitted(epochs=-1)),
    (WRONG, f"{UNKNOWN}'hiden': did you mean hidden\\?$", lambda: fitted(hiden=3)),
    (WRONG, f"{UNKNOWN}'early_stopping': did you mean patience \\(", lambda: fitted(early_stopping=True)),
    (WRONG, f"{UNKNOWN}'warm_start': xpnet.fit has init_from \\(", lambda: fitted(warm_start=True)),
    (WRONG, f"{UNKNOWN}'seed': did you mean random_state\\?$", lambda: fitted(seed=3)),
    (WRONG, "^patience: needs validation, the", lambda: fitted(patience=3)),
    (xpnet.DivergedError, "smaller learning_rate, or", lambda: fitted(learning_rate=1e300, optimizer="sgd")),
    (ValueError, "classes: expected all labels in the first", lambda: first_piece(classes=None)),
    (ValueError, r"labels in \[0, 1\], got \[3\]", lambda: first_piece([0, 3])),
    (ValueError, "those of the first call", lambda: first_piece().partial_fit(ROWS, [0, 1], classes=[0, 2])),
    (ValueError, "^y: expected values without a mask", lambda: first_piece(np.ma.array(LABELS))),
    (ValueError, "^X: expected values without a mask", lambda: first_piece().predict(np.ma.array(ROWS))),
    (WRONG, f"{UNKNOWN}'batch': did you mean batch_size", lambda: other_piece(batch=3)),
    (WRONG, "expected those that the training began with", lambda: other_piece(hidden=(9,))),
    (WRONG, "validation: expected 0 for", lambda: first_piece(validation=10)),
    (WRONG, "class_weight: expected a dict", lambda: first_piece(class_weight="balanced")),
    (WRONG, "^run: expected None for partial_fit", lambda: first_piece(run="runs/mine")),
    (WRONG, "^fit: track: expected run too", lambda: fitted(track=["mlflow"])),
]


@pytest.mark.parametrize(("error", "message", "call"), CALLS)
def test_calls_that_cannot_be(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "--" not in str(caught.value)


def test_a_further_piece_keeps_the_normalisation_and_leaves_the_earlier_model_alone():
    classifier = quick().partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    first, before = classifier.model_, classifier.model_.fingerprint
    classifier.partial_fit(X[50:] * 100, Y[50:])
    assert first.fingerprint == before != classifier.model_.fingerprint
    for name, statistic in vars(first.network.normalization).items():
        assert np.array_equal(getattr(classifier.model_.network.normalization, name), statistic)
