"""Wrong arguments of every public function: the error is one of xpnet's, in one line."""

import inspect
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import public_names
import pytest

import xpnet
from xpnet import reproducible
from xpnet.config.keywords import FitSettings
from xpnet.data import datasets

WRONG = [None, True, -1, 1.5, float("nan"), 10**400, "x", b"\0", [0], (1,), {}, object()]
"""Values that are wrong for most parameters. Any other is a right one: nothing else may be raised for it."""
X, Y, MATRIX = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2, np.arange(6.0).reshape(2, 3)
TINY = {"X": X, "y": Y, "epochs": 0, "hidden": 2, "normalize": "none"}
RUN, FILE = Path("runs/a"), Path("data.npz")
NOT_CALLED = (
    "xpnet.Callback",
    "xpnet.Epoch",
    "xpnet.Evaluation",
    "xpnet.Verification",
    "xpnet.reproducible.random",
    "xpnet.reproducible.Array",
    "xpnet.reproducible.conversions",
    "xpnet.reproducible.einsum",
)
NOT_CALLED += ("xpnet.Model", "xpnet.XPNetClassifier.set_params")
"""Classes whose instances, or the arguments of whose methods, xpnet makes; one of names; a context."""
CALLS = {
    "xpnet.fit": TINY,
    "xpnet.load": {"path": RUN},
    "xpnet.verify": {"run": RUN, "X": X, "y": Y},
    "xpnet.data.datasets.load": {"data": FILE},
    "xpnet.storage.find.survey": {"root": RUN.parent},
    "xpnet.storage.record.read_run": {"folder": RUN},
    "xpnet.storage.record.read_metrics": {"path": RUN / "metrics.jsonl"},
    "xpnet.report.write_report": {"folder": RUN, "data": "loaded"},
    "xpnet.backends.resolve.resolve": {},
    "xpnet.parity.assert_parity": {"function": lambda x: x, "tier": "bitwise", "backends": ["numpy"]},
    "xpnet.parity.first_difference": {"left": None, "right": None},
    "xpnet.XPNetClassifier": {"epochs": 0},
    "xpnet.XPNetClassifier.fit": {"X": X, "y": Y},
    "xpnet.XPNetClassifier.partial_fit": {"X": X, "y": Y, "classes": [0, 1]},
    **{f"xpnet.XPNetClassifier.{name}": {"X": X} for name in ("predict", "predict_proba")},
    "xpnet.XPNetClassifier.score": {"X": X, "y": Y},
    **{f"xpnet.Model.{name}": {"X": X} for name in ("predict", "predict_proba", "logits")},
    "xpnet.Model.evaluate": {"X": X, "y": Y},
    **{f"xpnet.Model.{name}": {"path": "a"} for name in ("save", "report")},
    **{f"xpnet.reproducible.{name}": {"x": MATRIX[0]} for name in reproducible.__all__},
    "xpnet.reproducible.namespace": {"library": "numpy"},
    **{f"xpnet.reproducible.{name}": {"x": MATRIX} for name in ("cov", "corrcoef")},
    "xpnet.reproducible.quantile": {"x": MATRIX, "q": 0.5},
    "xpnet.reproducible.matmul": {"x1": MATRIX, "x2": MATRIX.T},
    "xpnet.reproducible.vecdot": {"x1": MATRIX, "x2": MATRIX},
    "xpnet.reproducible.one_hot": {"indices": Y, "num_classes": 2},
    "xpnet.reproducible.random.uniform": {"seed": 1, "shape": (2,)},
    "xpnet.reproducible.random.permutation": {"seed": 1, "n": 3},
    **{f"xpnet.reproducible.random.{name}": {"seed": 1, "shape": (2,)} for name in ("normal", "exponential")},
    "xpnet.reproducible.random.integers": {"seed": 1, "low": 0, "high": 3, "shape": 2},
    "xpnet.reproducible.random.choice": {"seed": 1, "n": 3, "size": 2},
}
CALLS = {name: right for name, right in CALLS.items() if name not in NOT_CALLED}
"""Arguments that are right, by the name of the function."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        xpnet.fit(**TINY, run=RUN, report=False)
        np.savez(FILE, x_train=X, y_train=Y, x_test=X, y_test=Y)
    return folder


def bind(name):
    """The function of that name, of an estimator or a model that is trained, and its parameters."""
    owner, _, method = name.rpartition(".")
    function = resolve_name(name)
    if owner == "xpnet.XPNetClassifier":
        estimator = xpnet.XPNetClassifier(epochs=1)
        function = getattr(estimator if method.endswith("fit") else estimator.fit(X, Y), method)
    elif owner == "xpnet.Model":
        function = getattr(xpnet.fit(**TINY), method)
    elif name == "xpnet.XPNetClassifier":
        return (lambda **settings: function(**settings).fit(X, Y)), inspect.signature(function).parameters
    return function, inspect.signature(function).parameters


def call(function, parameters, values):
    """Call a function by position where it takes no names."""
    names = [
        name for name, each in parameters.items() if each.kind is each.POSITIONAL_ONLY and name in values
    ]
    return function(*map(values.get, names), **{name: values[name] for name in values.keys() - {*names}})


@pytest.mark.needs("sklearn")
def test_every_public_function_is_in_the_table():
    names, lines = [f"xpnet.reproducible.{name}" for name in reproducible.__all__], set()
    for name in (*public_names.NAMES.split(), *names):
        describe = public_names.of_class if inspect.isclass(resolve_name(name)) else public_names.of_function
        lines |= describe(name, resolve_name(name))
    names = {line.partition(":")[0] for line in lines if not line.startswith("attribute")}
    assert {name for name in names - CALLS.keys() if not name.startswith(NOT_CALLED)} == set()


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_an_error_in_one_line(work, monkeypatch, name):  # noqa: C901
    monkeypatch.chdir(work)
    (function, parameters), right, errors = bind(name), CALLS[name], (xpnet.XPNetError,)
    if "XPNetClassifier" in name:
        errors += (ValueError, TypeError, OverflowError)  # as scikit-learn's own estimators
    elif name.endswith(("asarray", "quantile", "median", "cov", "corrcoef")):
        errors += (TypeError, ValueError, OverflowError)  # as the standard's functions
    elif name.endswith("assert_parity"):
        errors += (AssertionError,)
        function = partial(function, right["function"], MATRIX)
    if right.get("data") == "loaded":
        right = {**right, "data": datasets.load(FILE)}
    names = parameters.keys() | (FitSettings.__annotations__.keys() if name == "xpnet.fit" else set())
    refused = []
    for parameter in sorted(names - {"settings", "arrays", "keywords", "verbose", "options"}):
        for value in WRONG:
            values = {key: each for key, each in {**right, parameter: value}.items() if key != "function"}
            if name == "xpnet.fit" and parameter in ("overwrite", "report", "tags", "track"):
                values |= {"run": RUN}
            try:
                if parameter == "function":
                    xpnet.parity.assert_parity(value, MATRIX, **values)
                else:
                    call(function, parameters, values)
            except errors as error:
                refused.append(str(error))
            except Exception as error:
                error.add_note(f"{name}({parameter}={value!r})")
                raise
    assert len(refused) >= len(WRONG) // 2
    assert "XPNetClassifier" in name or not any("\n" in text for text in refused)
