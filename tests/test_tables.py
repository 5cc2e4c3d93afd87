"""Tables of several libraries: the names of their columns, text, and integers of which some are missing."""

import warnings
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import xpnet

pytestmark = pytest.mark.usefixtures("empty_folder")

Y = np.arange(60) % 2
X = np.stack([4.0 * Y, np.sin(np.arange(60)), np.cos(7.0 * np.arange(60))], axis=1)
FRAME = pd.DataFrame(X, columns=[*"abc"])
BACKWARDS = FRAME[[*"cba"]]
QUICK = {"recipe": "tabular", "epochs": 1, "device": "cpu"}


def numbered(frame):
    return frame.rename(columns={"a": 0, "b": 1, "c": 2})


def interchanged(frame):
    return SimpleNamespace(columns=(*"cba",), __dataframe__=arrow(frame).__dataframe__)


def polars(frame):
    return import_module("polars").from_pandas(frame)


def arrow(frame):
    return import_module("pyarrow").table(frame)


ARROW = pytest.mark.needs("pyarrow")
LIBRARIES = [
    pytest.param(polars, marks=pytest.mark.needs("polars", "pyarrow"), id="polars"),
    pytest.param(arrow, marks=ARROW, id="pyarrow"),
]


@pytest.mark.parametrize("form", [numbered, *LIBRARIES, pytest.param(interchanged, marks=ARROW)])
def test_columns_are_found_by_their_names(form):
    model = xpnet.fit(form(FRAME), Y, **QUICK, validation_data=(form(BACKWARDS), Y))
    expected = xpnet.fit(X, Y, **QUICK, validation_data=(X, Y))
    names = (*"012",) if form is numbered else (*"abc",)
    assert (model.feature_names, model.history) == (names, expected.history)
    assert np.array_equal(model.predict_proba(form(BACKWARDS)), expected.predict_proba(X))
    with pytest.raises(xpnet.DataError, match=r"^X: its columns are not those .*, with x, y, z$"):
        model.predict(FRAME.set_axis([*"xyz"], axis=1))


TEXTS = [lambda frame: frame.astype({"zip": "category"}), *LIBRARIES]


@pytest.mark.parametrize("make", TEXTS)
def test_text_is_no_number(make):
    rows = make(FRAME.assign(zip="nan"))
    model = xpnet.fit(FRAME.assign(zip=1.0), Y, epochs=0, normalize="none")
    for call in (lambda rows: xpnet.fit(rows, Y, missing="mean"), model.predict):
        with pytest.raises(
            xpnet.DataError, match=r"^X(: columns that are no numbers: zip |, column 'zip': exp)"
        ):
            call(rows)


@pytest.mark.parametrize("make", TEXTS)
def test_text_is_encoded_as_pandas_does_and_found_by_name_in_every_table(make):
    zips = np.array(["é", "00501", "b"], object)[np.arange(60) % 3]
    frame = pd.DataFrame({"id": range(60), "zip": zips, "b": X[:, 0], "c": [None, *X[1:, 1]]})
    dummies = pd.get_dummies(frame[["b", "c", "zip"]], prefix_sep="=")
    rows, validation = make(frame), make(frame.iloc[::-1][["c", "zip", "id", "b"]])
    settings = {**QUICK, "missing": "mean"}
    data = {"encode": "onehot", "drop": ["id"], "validation_data": (validation, Y[::-1])}
    model = xpnet.fit(rows, Y, **settings, **data)
    expected = xpnet.fit(dummies, Y, **settings, validation_data=(dummies[::-1], Y[::-1]))
    assert model.history == expected.history
    assert model.network.columns.inputs == expected.feature_names == ("b", "c", "zip=00501", "zip=b", "zip=é")
    assert np.array_equal(model.predict_proba(validation), expected.predict_proba(dummies[::-1]))
    with pytest.raises(xpnet.DataError, match=r"^X, row 2, column zip: '7' is none of the categories 00501"):
        model.predict(make(frame.assign(zip=["b", "7"] * 30)))


DAYS = FRAME.assign(day=pd.to_datetime(["2026-01-01"] * 60), town="a")


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({}, DAYS, r"are no numbers: day \(dates, of .*, town \(1 value, as 'a'\).*drop=\['day'\] leaves"),
        ({"drop": ["b"]}, X, "X: has no column named b"),
    ],
)
def test_columns_that_cannot_be_are_named_at_once(settings, rows, message):
    with pytest.raises(xpnet.DataError, match=f"^X: .*{message.removeprefix('X: ')}"):
        xpnet.fit(rows, Y, **settings)


WHOLE = pd.DataFrame({"a": [1, 200, 7], "b": [3, 4, 9]})
GAP = pd.DataFrame({"a": [1, None, 7], "b": [300, 400, 900]}, dtype="Int64")
PIXELS = "X: its nullable integers are taken for pixels"
FLOATS = "X: its integers are taken for floats, not for pixels"
OF_THREE = [0, 1, 1]


@pytest.mark.needs("polars", "pyarrow")
@pytest.mark.parametrize(
    ("frame", "dtype", "note"),
    [
        (WHOLE, "uint8", None),
        (WHOLE.astype({"a": "Int64"}), "uint8", PIXELS),
        (WHOLE.astype({"a": "Int64", "b": float}), "float64", None),
        (GAP, "float64", f"{FLOATS}, as some are missing"),
    ],
)
def test_a_table_of_integers_is_one_of_floats_if_one_is_missing_and_a_line_says_so(frame, dtype, note):
    expected = xpnet.fit(frame.to_numpy(dtype, na_value=np.nan), OF_THREE, **QUICK, missing="mean")
    for rows in (frame, polars(frame), arrow(frame)):
        with warnings.catch_warnings(record=True, action="always") as caught:
            model = xpnet.fit(rows, OF_THREE, **QUICK, missing="mean")
        assert model.fingerprint == expected.fingerprint
        lines = [(str(warning.message), warning.filename) for warning in caught]
        assert lines == ([(note, __file__)] if note and (rows is frame or note != PIXELS) else [])


@pytest.mark.needs("polars", "pyarrow")
def test_a_model_predicts_integers_as_it_does_floats():
    rows, model = WHOLE * 9, xpnet.fit(WHOLE * 3.0, OF_THREE, **QUICK)
    for given in (rows, rows.astype("Int64"), polars(rows), arrow(rows)):
        assert np.array_equal(model.predict_proba(given), model.predict_proba(rows.astype(float)))


@pytest.mark.parametrize("make", [pd.DataFrame.to_numpy, *LIBRARIES])
def test_integers_that_float64_does_not_hold_are_refused(make):
    rows = make(pd.DataFrame({"a": [1, 2, -(2**53) - 1], "b": [2**53 - 1, 1, 2]}))
    with pytest.raises(xpnet.DataError, match=r"^X, row 3, column ('a'|1): -900719925474099"):
        xpnet.fit(WHOLE, OF_THREE, **QUICK).predict(rows)


def test_a_record_that_took_nullable_integers_for_floats_is_verified_as_such():
    """As an xpnet before 0.4 did, which read no names that are numbers."""
    xpnet.fit(WHOLE.to_numpy(float), OF_THREE, **QUICK, run="older", report=False)
    rows = WHOLE.astype("Int64").set_axis([0, 1], axis=1)
    with pytest.warns(UserWarning, match=f"^{FLOATS}, as in older$") as caught:
        assert xpnet.verify("older", rows, OF_THREE)
    assert caught[0].filename == __file__
