"""Wrong arguments of every public function: the error is one of xpnet's, in one line."""

import inspect
from contextlib import chdir
from itertools import product
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest

import xpnet
from xpnet import reproducible
from xpnet.config.keywords import FitSettings

pytestmark = pytest.mark.needs("sklearn")

WRONG = [None, True, -1, 1.5, float("nan"), 10**400, "x", b"\0", [0], (1,), {}, object()]
"""Values that are wrong for most parameters. Any other is a right one: nothing else may be raised for it."""
X, Y, MATRIX = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2, np.arange(4.0).reshape(2, 2)
TINY = {"epochs": 0, "hidden": 2, "normalize": "none"}
RUN, FILE = Path("runs/a"), Path("data.npz")
NOT_CALLED = """Callback Epoch Evaluation Verification Model XPNetClassifier.set_params
reproducible.random reproducible.Array reproducible.conversions reproducible.einsum"""
"""Classes whose instances, or the arguments of whose methods, xpnet makes; one of names; a context."""
NAMED = """fit load verify data.datasets.load storage.find.survey storage.record.read_run
storage.record.read_metrics report.write_report backends.resolve.resolve parity.assert_parity
parity.first_difference XPNetClassifier XPNetClassifier.fit XPNetClassifier.partial_fit XPNetClassifier.score
XPNetClassifier.predict XPNetClassifier.predict_proba Model.predict Model.predict_proba Model.logits
Model.evaluate Model.save Model.report reproducible.random.uniform reproducible.random.normal
reproducible.random.exponential reproducible.random.permutation reproducible.random.integers
reproducible.random.choice"""
OF_ARRAYS = {f"reproducible.{name}" for name in reproducible.__all__}
CALLED = [*NAMED.split(), *sorted(OF_ARRAYS.difference(NOT_CALLED.split()))]
RIGHT = {"X": X, "y": Y, "x": MATRIX, "x1": MATRIX, "x2": MATRIX, "indices": Y, "num_classes": 2, "q": 0.5}
RIGHT |= {"seed": 1, "shape": (2,), "n": 3, "low": 0, "high": 3, "size": 2, "library": "numpy"}
RIGHT |= {"run": RUN, "folder": RUN, "root": RUN.parent, "data": FILE, "left": None, "right": None}
"""Right values of the parameters that have no default."""
MORE = {"fit": TINY, "XPNetClassifier": {"epochs": 0}, "XPNetClassifier.partial_fit": {"classes": [0, 1]}}
MORE |= {"load": {"path": RUN}, "storage.record.read_metrics": {"path": RUN / "metrics.jsonl"}}
MORE |= {"Model.save": {"path": "a"}, "parity.assert_parity": {"tier": "bitwise", "backends": ["numpy"]}}
PYTHON_S = ("XPNetClassifier", "asarray", "quantile", "median", "cov", "corrcoef", "assert_parity")
"""Parts of the names of functions that raise what scikit-learn's, the standard's or tests' do, too."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    with chdir(tmp_path_factory.mktemp("arguments")):
        xpnet.fit(X, Y, **TINY, run=RUN, report=False)
        np.savez(FILE, x_train=X, y_train=Y, x_test=X, y_test=Y)
        yield


def bind(name):
    owner, _, method = name.rpartition(".")
    if name == "XPNetClassifier":
        return lambda **settings: xpnet.XPNetClassifier(**settings).fit(X, Y)
    if owner == "XPNetClassifier":
        estimator = xpnet.XPNetClassifier(epochs=1)
        return getattr(estimator if method.endswith("fit") else estimator.fit(X, Y), method)
    return getattr(xpnet.fit(X, Y, **TINY), method) if owner == "Model" else resolve_name(f"xpnet.{name}")


@pytest.mark.parametrize("name", CALLED)
def test_a_wrong_argument_is_an_error_in_one_line(work, name):
    function, errors, refused = bind(name), (xpnet.XPNetError,), []
    signature = inspect.signature(resolve_name(f"xpnet.{name}") if name == "XPNetClassifier" else function)
    required = {key for key, each in signature.parameters.items() if each.default is each.empty}
    right = {key: RIGHT[key] for key in required & RIGHT.keys()} | MORE.get(name, {})
    if any(part in name for part in PYTHON_S):
        errors += (ValueError, TypeError, OverflowError, AssertionError)
    names = signature.parameters.keys() | (FitSettings.__annotations__.keys() if name == "fit" else set())
    first = [key for key, each in signature.parameters.items() if each.kind is each.POSITIONAL_ONLY]
    before = [abs, MATRIX] if name == "parity.assert_parity" else []
    names -= {"settings", "function", "arrays", "keywords", "verbose", "options"}
    for parameter, value in product(sorted(names), WRONG):
        values = {**right, parameter: value}
        try:
            function(*before, *(values.pop(key) for key in first if key in values), **values)
        except errors as error:
            refused.append(str(error))
        except Exception as error:
            error.add_note(f"{name}({parameter}={value!r})")
            raise
    assert len(refused) >= len(WRONG) // 2
    assert "XPNetClassifier" in name or not any("\n" in text for text in refused)
