"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xpnet

pytestmark = [pytest.mark.needs("sklearn"), pytest.mark.usefixtures("empty_folder")]

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
Y = np.arange(90) % 3
X = GENERATOR.normal(scale=4, size=(3, 4))[Y] + GENERATOR.normal(size=(90, 4))
FLOWERS = np.array(["setosa", "versicolor", "virginica"])[Y]


def quick(**settings):
    return xpnet.XPNetClassifier(**{"hidden": (8,), "epochs": 3, "device": "cpu", **settings})


def fingerprint(classifier, rows=slice(None), **weights):
    return classifier.fit(X[rows], Y[rows], **weights).model_.fingerprint


@pytest.mark.slow
def test_every_check_of_scikit_learn_passes():
    # One of them looks at an environment variable that must be set before SciPy is loaded.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    words = [sys.executable, "-W", "error", "-c", CHECKS]
    count, *failed = subprocess.check_output(words, env=environment, text=True).split()
    assert int(count) >= 60
    assert failed == ["check_sample_weight_equivalence_on_dense_data"]  # which full batches pass


def test_a_clone_trains_as_the_interface_does():
    from sklearn.base import clone

    settings = {"hidden": 7, "activation": "tanh", "init": "glorot", "schedule": "exponential"}
    settings |= {"epochs": 4, "dropout": 0.1, "validation": 0.3, "patience": 2, "device": "cpu"}
    classifier = clone(xpnet.XPNetClassifier(random_state=3, **settings).fit(X, Y)).fit(X, FLOWERS)
    settings["schedule_factor"] = None  # of this schedule, in place of the recipe's
    model = xpnet.fit(X, Y, seed=3, recipe="tabular", **settings)
    assert (classifier.model_.fingerprint, classifier.model_.history) == (model.fingerprint, model.history)
    assert np.array_equal(classifier.predict_proba(X), model.predict_proba(X))
    assert classifier.score(X, FLOWERS) == np.mean(classifier.predict(X) == FLOWERS)


def test_probabilities_of_a_data_frame_are_one_with_the_names_of_the_classes():
    frame = pd.DataFrame(X, index=range(100, 190)).add_prefix("x")
    classifier = quick().fit(frame, FLOWERS)
    shares = classifier.predict_proba(frame, as_frame=True)
    assert (list(shares.columns), list(shares.index)) == (list(np.unique(FLOWERS)), list(frame.index))
    assert np.array_equal(shares.to_numpy(), classifier.predict_proba(frame))


def test_a_classifier_is_recorded_and_has_a_report():
    recorded = quick(run="runs/mine").fit(X, FLOWERS)
    assert xpnet.load("runs/mine").fingerprint == quick().fit(X, FLOWERS).model_.fingerprint
    recorded.model_.report()
    assert b"training accuracy" in Path("report.html").read_bytes()
    with pytest.raises(xpnet.ConfigError, match=r"^runs/mine: "):
        recorded.fit(X, FLOWERS)


def test_a_random_state_fixes_the_network():
    states = (1, 1, 2, np.random.RandomState(1), None)
    first, *others = [fingerprint(quick(random_state=state, epochs=0)) for state in states]
    assert [each == first for each in others] == [True, False, False, False]


@pytest.mark.parametrize(("rows", "size", "same"), [(20, 32, 20), (31, 5, 7)])
def test_a_batch_is_at_most_all_rows_and_beside_batch_norm_none_is_a_single_row(rows, size, same):
    prints = [fingerprint(quick(batch_size=each, batch_norm=True), slice(rows)) for each in (size, same)]
    assert prints[0] == prints[1]


def test_uint8_features_alone_are_pixels():
    x = (10 * X + 128).clip(0, 255)
    models = [quick(epochs=1).fit(x.astype(dtype), Y).model_ for dtype in (np.uint8, int)]
    of_pixels, of_floats = (model.network.normalization for model in models)
    assert (of_pixels.shift.shape, of_floats.shift.shape) == ((), (4,))


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"batch_norm": True, "dropout": 0.2, "schedule": "cosine", "warmup_epochs": 2}, {}),
        ({"batch_size": "full", "class_weight": {0: 2, 2: 0}}, {"sample_weight": np.arange(90)}),
    ],
)
def test_as_many_calls_as_epochs_come_to_the_same_as_fit(settings, weights):
    classifier, expected = quick(**settings), quick(**settings)
    for _ in range(3):
        classifier.partial_fit(X, Y, classes=[0, 1, 2], **weights)
    assert classifier.model_.fingerprint == fingerprint(expected, **weights)
    assert fingerprint(classifier, **weights) == expected.model_.fingerprint  # fit begins anew


def piece(classifier=None, x=X, y=Y, classes=(0, 1, 2), **settings):
    return (classifier or quick()).set_params(**settings).partial_fit(x, y, classes=classes)


UNKNOWN, WRONG = "^XPNetClassifier: unknown setting ", xpnet.ConfigError


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (WRONG, "^XPNetClassifier: epochs: expected a whole number", lambda: quick(epochs=-1).fit(X, Y)),
        (WRONG, f"{UNKNOWN}'seed': did you mean random_state\\?$", lambda: quick(seed=3).fit(X, Y)),
        (ValueError, r"labels in \[0, 1\], got \[2\]", lambda: piece(classes=[0, 1])),
        (ValueError, "those of the first call", lambda: piece(piece(), classes=[0, 1])),
        (ValueError, "^X: expected values without a mask", lambda: piece().predict(np.ma.array(X))),
        (WRONG, "expected those that the training began with", lambda: piece(piece(), hidden=(9,))),
        (WRONG, "^run: expected None for partial_fit", lambda: piece(run="runs/mine")),
    ],
)
def test_calls_that_cannot_be(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "--" not in str(caught.value)


def test_a_further_piece_leaves_the_earlier_model_alone_and_keeps_its_normalisation():
    classifier = piece(x=X[:50], y=Y[:50])
    first, before = classifier.model_, classifier.model_.fingerprint
    second = piece(classifier, X[50:] * 100, Y[50:]).model_
    assert first.fingerprint == before != second.fingerprint
    assert np.array_equal(first.network.normalization.shift, second.network.normalization.shift)
