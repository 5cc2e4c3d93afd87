"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

import inspect
import os
import pickle
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from backend_enum import BackendCase
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import xpnet
from xpnet import XPNetClassifier
from xpnet.api import COMMAND_LINE_ONLY
from xpnet.config import TrainConfig

FOR_TABLES = {
    "hidden": (100,),
    "init": "he",
    "normalize": "standardize",
    "epochs": 50,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 0.005,
}
"""The defaults that differ from those of the command."""

CHECKS = """
from sklearn.utils.estimator_checks import check_estimator
from xpnet import XPNetClassifier

found = check_estimator(XPNetClassifier(), on_skip=None, on_fail="raise")
print(len(found), {each["status"] for each in found})
"""


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def named(iris):
    """Iris with the names of the flowers as labels."""
    x, y = iris
    return x, load_iris().target_names[y]


def quick(**settings):
    return XPNetClassifier(**{"hidden": (8,), "epochs": 3, "device": "cpu", **settings})


def test_every_check_of_scikit_learn_passes():
    # One of them looks at an environment variable that must be set before SciPy is loaded.
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECKS],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    count, statuses = outcome.stdout.strip().split(" ", 1)
    assert int(count) >= 50
    assert statuses == "{'passed'}"


@pytest.mark.parametrize(("load", "least"), [(load_iris, 0.93), (load_digits, 0.96)])
def test_the_defaults_learn_from_tables(load, least):
    x, y = load(return_X_y=True)
    test = np.arange(len(y)) % 4 == 0
    model = XPNetClassifier(arithmetic="native").fit(x[~test], y[~test])
    assert model.score(x[test], y[test]) >= least


# Settings


def test_the_parameters_are_the_settings_of_the_command():
    settings = {
        field.name: field.default
        for field in fields(TrainConfig)
        if field.name not in COMMAND_LINE_ONLY | {"seed", "init_from"}
    }
    assert XPNetClassifier().get_params() == {**settings, **FOR_TABLES, "random_state": 0}


def test_a_parameter_is_kept_as_it_is_given():
    parameters = inspect.signature(XPNetClassifier).parameters
    given = {name: object() for name in parameters}
    assert vars(XPNetClassifier(**given)) == given


def test_it_trains_as_the_interface_does(iris):
    x, y = iris
    settings = {"hidden": [7], "activation": "tanh", "init": "glorot", "schedule": "cosine"}
    settings |= {"epochs": 4, "dropout": 0.1, "validation": 30, "patience": 2, "device": "cpu"}
    found = XPNetClassifier(random_state=3, **settings).fit(x, y)
    model = xpnet.fit(x, y, seed=3, **{**FOR_TABLES, **settings})
    assert found.model_.fingerprint == model.fingerprint
    assert found.model_.history == model.history
    assert np.array_equal(found.predict_proba(x), model.predict_proba(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "XPNetClassifier: epochs: expected a whole number, 0 or more, got -1"),
        ({"optimizer": "adm"}, "did you mean adam?"),
        ({"patience": 3}, "--patience: needs --validation N"),
        ({"random_state": -1}, "XPNetClassifier: seed: expected a whole number from 0"),
    ],
)
def test_settings_that_cannot_be(iris, settings, message):
    with pytest.raises(xpnet.ConfigError) as caught:
        XPNetClassifier(**settings).fit(*iris)
    assert message in str(caught.value)


def test_a_random_state_fixes_the_network(iris):
    def fingerprint(state):
        return quick(random_state=state).fit(*iris).model_.fingerprint

    assert fingerprint(1) == fingerprint(np.int64(1)) != fingerprint(2)
    state = np.random.RandomState
    assert fingerprint(state(1)) == fingerprint(state(1)) != fingerprint(state(2))
    assert fingerprint(None) != fingerprint(None)


@pytest.mark.parametrize(("rows", "size"), [(20, 20), (1, 1)])
def test_a_batch_is_at_most_all_rows(iris, rows, size):
    x, y = (array[:rows] for array in iris)
    found = quick(batch_size=32).fit(x, y)
    assert found.model_.fingerprint == quick(batch_size=size).fit(x, y).model_.fingerprint


def test_beside_batch_norm_no_batch_is_a_single_row(iris):
    x, y = iris[0][:31], iris[1][:31]
    found = quick(batch_norm=True, batch_size=5).fit(x, y)
    assert found.model_.fingerprint == (quick(batch_norm=True, batch_size=7).fit(x, y).model_.fingerprint)


# Labels and arrays


def test_labels_may_be_text(named):
    x, y = named
    found = quick(epochs=20, learning_rate=0.02).fit(x, y)
    assert found.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    predicted = found.predict(x)
    assert set(predicted.tolist()) <= set(found.classes_.tolist())
    assert found.score(x, y) == np.mean(predicted == y) > 0.8
    assert np.array_equal(found.classes_[found.predict_proba(x).argmax(axis=1)], predicted)


def test_probabilities_are_float64(iris):
    x, y = iris
    found = quick().fit(x, y).predict_proba(x)
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    assert found.shape == (150, 3)
    assert quick(arithmetic="native").fit(x, y).predict_proba(x).dtype == np.float32


def test_data_frames_have_names(iris):
    x, y = load_iris(return_X_y=True, as_frame=True)
    found = quick().fit(x, y)
    assert found.feature_names_in_.tolist() == x.columns.tolist()
    assert np.array_equal(found.predict(x), quick().fit(*iris).predict(iris[0]))
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(x.rename(columns={x.columns[0]: "other"}))


@pytest.mark.parametrize("case", [BackendCase.TORCH, BackendCase.JAX, BackendCase.STRICT])
def test_arrays_of_the_backend_are_taken(iris, case):
    put = case.make().from_host
    x, y = iris
    settings = {"epochs": 1, "batch_size": "full", "optimizer": "sgd"}
    expected = quick(**settings).fit(x, y)
    found = quick(backend=case.backend_name, **{**settings, "device": case.device})
    found.fit(put(x), put(y))
    assert found.model_.fingerprint == expected.model_.fingerprint
    predicted, probable = found.predict(put(x)), found.predict_proba(put(x))
    assert type(predicted) is type(probable) is np.ndarray
    assert np.array_equal(predicted, expected.predict(x))
    assert np.array_equal(probable, expected.predict_proba(x))
    assert found.score(put(x), put(y)) == expected.score(x, y)


def test_uint8_features_are_pixels():
    x, y = load_digits(return_X_y=True)
    pixels = (x * 15).astype(np.uint8)[:200]
    found = quick(epochs=1).fit(pixels, y[:200])
    assert found.model_.network.normalization.shift.shape == ()
    assert quick(epochs=1).fit(x[:200], y[:200]).model_.network.normalization.shift.shape == (64,)


# In scikit-learn's hands


def test_a_pipeline_a_search_and_a_cross_validation(named):
    x, y = named
    pipeline = make_pipeline(MinMaxScaler(), quick(epochs=20))
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.7
    grid = {"xpnetclassifier__hidden": [(), (8,)], "xpnetclassifier__learning_rate": [0.0001, 0.02]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
    assert search.best_params_["xpnetclassifier__learning_rate"] == 0.02
    assert search.score(x, y) > 0.9


def test_a_search_may_use_processes(iris):
    search = GridSearchCV(quick(), {"epochs": np.array([1, 20])}, cv=2, n_jobs=2).fit(*iris)
    assert search.best_params_ == {"epochs": 20}


def test_a_clone_is_untrained_and_trains_the_same(iris):
    found = quick(random_state=5).fit(*iris)
    other = clone(found)
    with pytest.raises(NotFittedError):
        other.predict(iris[0])
    assert other.fit(*iris).model_.fingerprint == found.model_.fingerprint


def test_a_pickled_one_predicts_and_goes_on_the_same(iris):
    x, y = iris
    found = quick().fit(x, y)
    other = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert np.array_equal(other.predict_proba(x), found.predict_proba(x))
    expected = found.partial_fit(x, y).model_.fingerprint
    assert other.partial_fit(x, y).model_.fingerprint == expected


def test_its_network_can_be_saved(named, tmp_path):
    x, y = named
    found = quick().fit(x, y)
    found.model_.save(tmp_path / "model.safetensors")
    loaded = xpnet.load(tmp_path / "model.safetensors")
    assert np.array_equal(found.classes_[loaded.predict(x)], found.predict(x))


# Piece by piece


PIECES = {
    "small batches": {},
    "full batch": {"batch_size": "full"},
    "a falling rate": {"schedule": "cosine", "warmup_epochs": 2},
    "batch norm and dropout": {"batch_norm": True, "dropout": 0.2},
    "native": {"arithmetic": "native", "optimizer": "momentum", "learning_rate": 0.05},
}


@pytest.mark.parametrize("settings", PIECES.values(), ids=PIECES)
def test_as_many_calls_as_epochs_come_to_the_same_as_fit(named, settings):
    x, y = named
    found = quick(epochs=4, **settings)
    for _ in range(4):
        found.partial_fit(x, y, classes=np.unique(y))
    expected = quick(epochs=4, **settings).fit(x, y)
    assert found.n_iter_ == expected.n_iter_ == 4
    assert found.model_.fingerprint == expected.model_.fingerprint


def test_pieces_may_lack_classes_and_differ_in_size(named):
    x, y = named
    found = quick(epochs=1, learning_rate=0.02)
    for begin, end in [(0, 40), (40, 75), (75, 150), (0, 1)] * 10:
        found.partial_fit(x[begin:end], y[begin:end], classes=np.unique(y))
    assert found.predict_proba(x).shape == (150, 3)
    assert found.score(x, y) > 0.6
    assert found.n_iter_ == 40


def test_inputs_are_normalised_by_the_first_piece(iris):
    x, y = iris
    found = quick().partial_fit(x[:50], y[:50], classes=[0, 1, 2])
    first = found.model_
    found.partial_fit(x[50:] * 100, y[50:])
    for name, statistic in vars(first.network.normalization).items():
        assert np.array_equal(getattr(found.model_.network.normalization, name), statistic)


def test_a_further_piece_leaves_the_earlier_model_alone(iris):
    x, y = iris
    found = quick().partial_fit(x, y, classes=[0, 1, 2])
    earlier, before = found.model_, found.model_.fingerprint
    found.partial_fit(x, y)
    assert earlier.fingerprint == before != found.model_.fingerprint


def test_fit_begins_anew(iris):
    x, y = iris
    found = quick().fit(x, y)
    fingerprint = found.model_.fingerprint
    assert found.partial_fit(x, y).fit(x, y).model_.fingerprint == fingerprint


BAD_PIECES = {
    "no classes": ({}, [0, 1], None, "classes: expected all labels in the first call"),
    "strangers": ({}, [0, 3], [0, 1], r"y: expected labels in \[0, 1\], got \[3\]"),
}


@pytest.mark.parametrize(("settings", "y", "classes", "message"), BAD_PIECES.values(), ids=BAD_PIECES)
def test_first_pieces_that_cannot_be(settings, y, classes, message):
    with pytest.raises(ValueError, match=message):
        quick(**settings).partial_fit([[0.0], [1.0]], y, classes=classes)


def test_later_pieces_must_go_with_the_first():
    x, y = [[0.0], [1.0]], [0, 1]
    found = quick().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        found.partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="1 features"):
        found.partial_fit([[0.0, 1.0]], [0])
    with pytest.raises(xpnet.ConfigError, match="expected those that the training began with"):
        found.set_params(hidden=(9,)).partial_fit(x, y)


def test_pieces_are_not_held_out(iris):
    with pytest.raises(xpnet.ConfigError, match="validation: expected 0 for partial_fit"):
        quick(validation=10, patience=1).partial_fit(*iris, classes=[0, 1, 2])
