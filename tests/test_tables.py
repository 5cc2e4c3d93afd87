"""Tables of several libraries: the names of their columns, text, and integers of which some are missing."""

import json
import warnings
from importlib import import_module
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest

import xpnet
from xpnet.storage.record import read_run

pytestmark = pytest.mark.usefixtures("empty_folder")

Y = np.arange(60) % 2
X = np.stack([4.0 * Y, np.sin(np.arange(60)), np.cos(7.0 * np.arange(60))], axis=1)
FRAME = pd.DataFrame(X, columns=[*"abc"])
BACKWARDS = FRAME[[*"cba"]]
QUICK = {"recipe": "tabular", "epochs": 1, "device": "cpu"}


class Foreign:
    """A table of another library, which has some methods of a data frame alone."""

    columns = ("c", "b", "a")

    def __init__(self, frame, *methods):
        for name in methods:
            setattr(self, name, getattr(frame, name))


class Nameless:
    """A table whose names cannot be read, but the numbers can."""

    columns = None

    def __array__(self, dtype=None, copy=None):
        return BACKWARDS.to_numpy()


def levels(frame):
    return frame.set_axis(pd.MultiIndex.from_tuples([(name, 1) for name in frame]), axis=1)


def numbered(frame):
    return frame.rename(columns={"a": 0, "b": 1, "c": 2})


def made_by(library, function):
    """Return a function that makes a table of a library from one of pandas."""

    def make(frame):
        return getattr(import_module(library), function)(frame)

    return make


polars, arrow = made_by("polars", "from_pandas"), made_by("pyarrow", "table")


NEED_ARROW, NEED_POLARS = pytest.mark.needs("pyarrow"), pytest.mark.needs("polars", "pyarrow")
FORMS = {
    "pandas": (lambda frame: frame, ()),
    "MultiIndex": (levels, ()),
    "integer names": (numbered, ()),
    "polars": (polars, NEED_POLARS),
    "pyarrow": (arrow, NEED_ARROW),
    "record batch": (made_by("pyarrow", "record_batch"), NEED_ARROW),
    "stream": (lambda frame: Foreign(frame, "__arrow_c_stream__"), NEED_ARROW),
    "interchange": (lambda frame: Foreign(arrow(frame), "__dataframe__"), NEED_ARROW),
}
NAMES = {"MultiIndex": ("a_1", "b_1", "c_1"), "integer names": ("0", "1", "2")}
CASES = [
    pytest.param(form, NAMES.get(name, (*"abc",)), marks=marks, id=name)
    for name, (form, marks) in FORMS.items()
]


@pytest.mark.parametrize(("form", "names"), CASES)
def test_columns_are_found_by_their_names(form, names):
    model = xpnet.fit(form(FRAME), Y, **QUICK, validation_data=(form(BACKWARDS), Y))
    expected = xpnet.fit(X, Y, **QUICK, validation_data=(X, Y))
    assert (model.feature_names, model.history) == (names, expected.history)
    assert np.array_equal(model.predict_proba(form(BACKWARDS)), expected.predict_proba(X))
    assert model.evaluate(form(BACKWARDS), Y).loss == expected.evaluate(X, Y).loss


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize(("form", "names"), CASES)
def test_the_classifier_finds_columns_by_their_names_or_refuses_their_order(form, names):
    classifier = xpnet.XPNetClassifier(epochs=3).partial_fit(form(FRAME), Y, classes=[0, 1])
    expected = xpnet.XPNetClassifier(epochs=3).partial_fit(X, Y, classes=[0, 1])
    assert classifier.model_.feature_names == names
    if names == (*"abc",):
        for call in (classifier.predict, lambda rows: classifier.partial_fit(rows, Y)):
            with pytest.raises(ValueError, match="must be in the same order"):
                call(form(BACKWARDS))
    else:  # scikit-learn looks at names that are text alone
        assert np.array_equal(classifier.predict_proba(form(BACKWARDS)), expected.predict_proba(X))
        classifier.partial_fit(form(BACKWARDS), Y)
        assert classifier.model_.fingerprint == expected.partial_fit(X, Y).model_.fingerprint
    with warnings.catch_warnings(action="ignore"):  # of scikit-learn, for rows without names
        assert classifier.partial_fit(X, Y).model_.feature_names == names


@pytest.mark.needs("sklearn")
def test_a_table_whose_names_cannot_be_read_is_refused_where_the_model_has_names():
    named, nameless = (xpnet.fit(rows, Y, **QUICK) for rows in (FRAME, BACKWARDS.to_numpy()))
    problem = "^X: the names of its columns cannot be read"
    for call in (named.predict, named.logits, lambda rows: named.evaluate(rows, Y)):
        with pytest.raises(xpnet.DataError, match=problem):
            call(Nameless())
    assert np.array_equal(nameless.predict_proba(Nameless()), nameless.predict_proba(BACKWARDS.to_numpy()))
    classifier = xpnet.XPNetClassifier(epochs=1).fit(numbered(FRAME), Y)
    with pytest.raises(ValueError, match=problem):
        classifier.predict(Nameless())
    with pytest.raises(
        xpnet.DataError, match=r"^X: its columns are not those .* without a, b, c, with 0, 1, 2$"
    ):
        named.predict(pd.DataFrame(X))


LABELS = {
    "text": (np.array(["no", "yes"])[Y], ("no", "yes")),
    "numbers as text": (np.array(["1", "2"], object)[Y], ("1", "2")),
    "numbers": (Y, None),
}


@pytest.mark.needs("sklearn", "onnx")
@pytest.mark.parametrize(("labels", "classes"), LABELS.values(), ids=LABELS)
def test_the_model_of_the_classifier_and_its_files_keep_the_names(capsys, labels, classes):
    import onnx

    classifier = xpnet.XPNetClassifier(epochs=3).fit(FRAME, labels)
    model, predicted = classifier.model_, classifier.predict(FRAME)
    model.save("model.safetensors")
    assert (model.feature_names, model.class_names) == (("a", "b", "c"), classes)
    for each in (model, xpnet.load("model.safetensors")):
        assert each.predict(BACKWARDS).tolist() == predicted.tolist()
        assert each.evaluate(BACKWARDS, labels).accuracy == classifier.score(FRAME, labels) > 0.9
    BACKWARDS.assign(label=labels).to_csv("rows.csv", index=False)
    assert commands.printed(capsys, "export", "model.safetensors", "--to", "onnx", "--out", "model.onnx")
    properties = {
        each.key: json.loads(each.value)
        for each in onnx.load("model.onnx").metadata_props
        if "_names" in each.key
    }
    names = {"feature_names": [*"abc"], "class_names": classes and [*classes]}
    assert properties == {name: value for name, value in names.items() if value}
    rows = commands.printed_json(capsys, "predict", "model.safetensors", "rows.csv")["predictions"]
    assert [row["predicted"] for row in rows] == predicted.tolist()
    result = commands.printed_json(capsys, "evaluate", "model.safetensors", "--data", "rows.csv")
    assert result["accuracy"] == classifier.score(FRAME, labels)


@pytest.mark.parametrize("names", [[2, 0, 1], [2020, 2019, 2021]])
def test_predict_reads_names_that_are_numbers_in_any_order(capsys, names):
    frame = pd.DataFrame(X, columns=names)
    model = xpnet.fit(frame, Y, **QUICK)
    model.save("model.safetensors")
    frame[sorted(names, reverse=True)].to_csv("rows.csv", index=False)
    rows = commands.printed_json(capsys, "predict", "model.safetensors", "rows.csv")["predictions"]
    assert [row["predicted"] for row in rows] == model.predict(frame).tolist()


def encoded(frame):
    table = arrow(frame)
    return table.set_column(0, "zip", table["zip"].dictionary_encode())


def of_polars(dtype):
    def make(frame):
        import polars as pl

        return polars(frame).with_columns(pl.col("zip").cast(getattr(pl, dtype)))

    return make


TEXTS = {
    **{
        dtype: (lambda frame, dtype=dtype: frame.astype({"zip": dtype}), ())
        for dtype in (object, "string", "category")
    },
    "str": (lambda frame: frame, ()),
    "bytes": (lambda frame: frame.assign(zip=[text.encode() for text in frame["zip"]]), ()),
    "pyarrow in pandas": (lambda frame: frame.astype({"zip": "string[pyarrow]"}), NEED_ARROW),
    "polars": (of_polars("String"), NEED_POLARS),
    "category of polars": (of_polars("Categorical"), NEED_POLARS),
    "pyarrow": (arrow, NEED_ARROW),
    "dictionary of pyarrow": (encoded, NEED_ARROW),
}


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize(
    "make", [pytest.param(make, marks=marks, id=str(name)) for name, (make, marks) in TEXTS.items()]
)
@pytest.mark.parametrize("text", ["00501", "nan"])
def test_text_is_no_number(make, text):
    rows, y = make(pd.DataFrame({"zip": ["1", text], "b": [1.5, 2.5]})), [0, 1]
    numbers = pd.DataFrame({"zip": [1.0, 2.0], "b": [1.5, 2.5]})
    model, classifier = xpnet.fit(numbers, y, epochs=0), xpnet.XPNetClassifier(epochs=1).fit(numbers, y)
    training, other = "X: columns that are no numbers: zip \\(", ", column 'zip': expected numbers, got text"
    own = "X: zip hold text or dates: leave them out, or encode"
    calls = [
        (training, lambda: xpnet.fit(rows, y, epochs=0, missing="mean")),
        (f"X in validation_data{other}", lambda: xpnet.fit(numbers, y, epochs=0, validation_data=(rows, y))),
        (f"X{other}", lambda: model.evaluate(rows, y)),
        (own, lambda: classifier.fit(rows, y)),
        (own, lambda: classifier.partial_fit(rows, y)),
        (own, lambda: classifier.score(rows, y)),
        *((f"X{other}", getattr(model, name)) for name in ("predict", "predict_proba", "logits")),
        *((own, getattr(classifier, name)) for name in ("predict", "predict_proba")),
    ]
    for problem, call in calls:
        with pytest.raises((xpnet.DataError, ValueError), match=f"^{problem}"):
            call(*([rows] if hasattr(call, "__self__") else []))


ENCODED = {**QUICK, "encode": "onehot", "missing": "mean"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, marks=marks, id=str(name))
        for name, (make, marks) in TEXTS.items()
        if name not in ("bytes", "dictionary of pyarrow")
    ],
)
def test_text_is_encoded_as_pandas_does_and_found_by_name_in_every_table(make):
    zips = np.array(["é", "00501", "b"], object)[np.arange(60) % 3]
    frame = pd.DataFrame({"id": range(60), "zip": zips, "b": X[:, 0], "c": [None, *X[1:, 1]]})
    dummies = pd.get_dummies(frame[["b", "c", "zip"]], prefix_sep="=")
    rows, validation = make(frame), make(frame.iloc[::-1][["c", "zip", "id", "b"]])
    model = xpnet.fit(rows, Y, **ENCODED, drop=["id"], validation_data=(validation, Y[::-1]))
    expected = xpnet.fit(dummies, Y, **QUICK, missing="mean", validation_data=(dummies[::-1], Y[::-1]))
    assert model.history == expected.history
    assert model.network.columns.inputs == expected.feature_names == ("b", "c", "zip=00501", "zip=b", "zip=é")
    assert model.feature_names == ("b", "c", "zip")
    assert np.array_equal(model.predict_proba(validation), expected.predict_proba(dummies[::-1]))
    assert model.evaluate(rows, Y).loss == expected.evaluate(dummies, Y).loss
    with pytest.raises(
        xpnet.DataError, match=r"^X, row 2, column zip: '7' is none of the categories 00501, b, é: trai"
    ):
        model.predict(make(frame.assign(zip=["b", "7"] * 30)))
    with pytest.raises(xpnet.DataError, match=r"^X: its columns are not those of the training: without zip$"):
        model.predict(frame.drop(columns="zip"))
    with pytest.raises(xpnet.DataError, match=r"^X: the names of its columns cannot be read"):
        model.predict(X)


def test_columns_that_are_no_numbers_are_named_at_once():
    days = pd.to_datetime(["2026-01-01"] * 60)
    frame = pd.DataFrame({f"t{i}": [f"{i}, {j % 3}" for j in range(60)] for i in range(12)}).assign(day=days)
    listed = ", ".join(f"t{i} (3 values, as '{i}, 0')" for i in range(12))
    with pytest.raises(xpnet.DataError) as caught:
        xpnet.fit(frame, Y)
    line = str(caught.value)
    assert line.startswith(
        f"X: columns that are no numbers: {listed}, day (dates, of which (pandas.to_datetime("
    )
    assert line.endswith(
        """ makes numbers): encode="onehot" takes up to 50 texts a column, drop=['day'] leaves columns out"""
        ', missing="category" takes missing values'
    )
    wrong = [
        ({"drop": ["b"]}, FRAME[["a"]], "X: has no column named b"),
        ({"drop": ["b"]}, X, "X: has no column named b"),
    ]
    twice = frame[["t0", "t1"]].set_axis(["t", "t"], axis=1)
    wrong += [({"encode": "onehot"}, twice, "X: columns of text need names, all different")]
    for settings, rows, message in wrong:
        with pytest.raises(xpnet.DataError, match=f"^{message}"):
            xpnet.fit(rows, Y, **settings)


@pytest.mark.needs("polars")
def test_dates_are_no_numbers():
    frame = pd.DataFrame({"day": pd.to_datetime(["2026-01-01", "2026-01-02"]), "b": [1.5, 2.5]})
    for rows in (frame, frame.assign(day=frame["day"].dt.tz_localize("UTC")), polars(frame)):
        with pytest.raises(xpnet.DataError, match=r"^X: columns that are no numbers: day \(dates, of which"):
            xpnet.fit(rows, [0, 1], epochs=0)


WHOLE = pd.DataFrame({"a": [1, 200, 7], "b": [3, 4, 9]})
GAP = pd.DataFrame({"a": [1, None, 7], "b": [300, 400, 900]}, dtype="Int64")
PIXELS, FLOATS = (
    "X: its nullable integers are taken for pixels",
    "X: its integers are taken for floats, not for pixels",
)
MISSING = f"{FLOATS}, as some are missing"
INTEGERS = [
    (WHOLE, "uint8", []),
    (WHOLE.astype("UInt8"), "uint8", [PIXELS]),
    (WHOLE.astype({"a": "Int64"}), "uint8", [PIXELS]),
    (WHOLE.astype({"a": "uint64"}), "uint8", []),
    (WHOLE.astype({"a": "Int64", "b": float}), "float64", []),
    (GAP, "float64", [MISSING]),
]


@pytest.mark.needs("polars", "pyarrow")
@pytest.mark.parametrize(("frame", "dtype", "notes"), INTEGERS)
def test_a_table_of_integers_is_one_of_floats_if_one_is_missing_and_a_line_says_so(frame, dtype, notes):
    expected = xpnet.fit(frame.to_numpy(dtype, na_value=np.nan), [0, 1, 1], **QUICK, missing="mean")
    for rows in (frame, polars(frame), arrow(frame)):
        with warnings.catch_warnings(record=True, action="always") as caught:
            model = xpnet.fit(rows, [0, 1, 1], **QUICK, missing="mean")
        assert model.fingerprint == expected.fingerprint
        lines = [str(warning.message) for warning in caught]
        assert lines == [note for note in notes if rows is frame or note != PIXELS]
        assert [warning.filename for warning in caught] == [__file__] * len(lines)


@pytest.mark.parametrize(
    "halves", [(GAP, WHOLE), (WHOLE, GAP), (GAP, WHOLE + 300), (WHOLE.astype("Int64"), GAP)]
)
def test_training_and_validation_rows_are_taken_for_the_same(halves):
    y, options = [0, 1, 1], {**QUICK, "missing": "mean"}
    with pytest.warns(
        UserWarning, match="^X in validation_data: its integers are taken for floats, not for pixels|^X: "
    ):
        model = xpnet.fit(halves[0], y, **options, validation_data=(halves[1], y))
    first, second = (half.astype("Float64") for half in halves)
    assert model.history == xpnet.fit(first, y, **options, validation_data=(second, y)).history


@pytest.mark.needs("sklearn", "polars", "pyarrow")
@pytest.mark.parametrize("trained", [WHOLE, WHOLE * 3.0], ids=["pixels", "floats"])
def test_a_model_predicts_integers_as_it_does_floats(trained):
    y, rows = [0, 1, 1], WHOLE * 9
    model, classifier = xpnet.fit(trained, y, **QUICK), xpnet.XPNetClassifier(epochs=3).fit(trained, y)
    expected, loss = model.predict_proba(rows.astype(float)), model.evaluate(rows.astype(float), y).loss
    for each in (rows, rows.astype("Int64"), rows.to_numpy(), polars(rows), arrow(rows)):
        assert np.array_equal(model.predict_proba(each), expected)
        assert model.evaluate(each, y).loss == loss
    proba = classifier.predict_proba(rows.astype(float))
    for each in (rows, rows.astype("Int64"), polars(rows), arrow(rows)):
        assert np.array_equal(classifier.predict_proba(each), proba)


@pytest.mark.needs("sklearn", "polars", "pyarrow")
@pytest.mark.parametrize("large", [2**53 + 1, -(2**53) - 1])
def test_integers_that_float64_does_not_hold_are_refused(large):
    model, classifier = (
        xpnet.fit(WHOLE, [0, 1, 1], **QUICK),
        xpnet.XPNetClassifier(epochs=1).fit(WHOLE, [0, 1, 1]),
    )
    whole = pd.DataFrame({"a": [1, 2, large], "b": 3})
    gap = whole.astype("Int64").assign(b=pd.array([None, 1, 2], "Int64"))
    refused = pytest.raises(
        (xpnet.DataError, ValueError), match=r"^X, row 3, column ('a'|1): -?9007199254740"
    )
    for rows in (gap, polars(gap), arrow(gap), whole.assign(b=1.5)):
        with refused:
            xpnet.fit(rows, [0, 1, 1], **QUICK, missing="mean")
    for rows in (whole, whole.astype("Int64"), whole.to_numpy(), polars(whole), arrow(whole)):
        for call in (model.predict, classifier.predict, lambda rows: model.evaluate(rows, [0, 1, 1])):
            with refused:
                call(rows)
    assert model.predict(pd.DataFrame({"a": [2**53 - 1], "b": [1 - 2**53]}, dtype="Int64")).shape == (1,)


@pytest.mark.parametrize("rows", [WHOLE, WHOLE + 300], ids=["pixels", "others"])
def test_a_record_that_took_nullable_integers_for_floats_is_verified_and_extended_as_such(rows):
    """As an xpnet before 0.4 did, which read no names that are numbers."""
    y = [0, 1, 1]
    xpnet.fit(rows.to_numpy(float), y, **QUICK, run="older", report=False)
    nullable = rows.astype("Int64").set_axis([0, 1], axis=1)
    for call in (
        xpnet.verify,
        lambda run, *data: xpnet.fit(*data, epochs=1, extend=run, run="longer", report=False),
    ):
        with pytest.warns(UserWarning, match=f"^{FLOATS}, as in older$") as caught:
            assert call("older", nullable, y)
        assert [warning.filename for warning in caught] == [__file__]
    assert read_run(Path("longer"))["data"]["sha256"] == read_run(Path("older"))["data"]["sha256"]
    with pytest.raises(xpnet.ConfigError, match=r"^older: was trained on other data"):
        xpnet.verify("older", rows.iloc[::-1].astype(float), y)
