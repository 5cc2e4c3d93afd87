"""Arrays of a library go in, and arrays of that library on the same device come out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from backend_enum import BackendCase
from networks import pixels

import xpnet
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import backend_of, make

X, Y = pixels(120, 12, 4)
NAMES = np.array(["north", "east", "south", "west"])
QUICK = {"epochs": 1, "hidden": []}
NATIVE = {**QUICK, "arithmetic": "native", "dtype": "float32"}
RESULTS = ("predict", "predict_proba", "logits")
ROOT = Path(__file__).resolve().parents[1]


class WhereItComputes(xpnet.Callback):
    """Keeps copies of the parameters before the first step, as the library has them."""

    def on_train_begin(self, state):
        self.parameters = [array + 0.0 for array in leaves(state.variables.parameters)]


@pytest.mark.parametrize("settings", [{}, {"backend": "numpy", "device": "cpu"}], ids=["auto", "explicit"])
def test_results_are_those_of_numpy_on_the_library_and_device_of_the_rows(backend, settings):
    model = xpnet.fit(X, Y, **QUICK, **settings)
    for name in RESULTS:
        assert_same(getattr(model, name)(backend.from_host(X)), getattr(model, name)(X), backend)


def test_the_dtypes_of_native_arithmetic_are_kept(backend):
    model = xpnet.fit(X, Y, **NATIVE, device="cpu")
    for name in RESULTS:
        expected = getattr(model, name)(X)
        assert expected.dtype == (np.int64 if name == "predict" else np.float32)
        assert_same(getattr(model, name)(backend.from_host(X)), expected, backend, rtol=1e-5, atol=1e-5)


def test_the_library_of_the_rows_trains_and_predicts_on_their_device_unless_a_setting_says_otherwise(backend):
    put, where = backend.from_host, WhereItComputes()
    expected = xpnet.fit(X, Y, **QUICK, device="cpu").fingerprint
    model = xpnet.fit(put(X), put(Y), **QUICK, callbacks=[where])
    for array in where.parameters:
        assert_on_backend(array, backend)
    assert model.fingerprint == expected
    assert model.select_predictor(backend_of(put(X))).backend.name == backend.name
    for settings in ({"backend": "numpy"}, {"device": "cpu"}):
        explicit = xpnet.fit(put(X), put(Y), **QUICK, **settings, callbacks=[where])
        assert {type(array) for array in where.parameters} == {np.ndarray}
        assert explicit.select_predictor(backend_of(put(X))).backend.name == "numpy"
        assert explicit.fingerprint == expected


@pytest.mark.parametrize(
    "case", [BackendCase.TORCH, BackendCase.STRICT, pytest.param(BackendCase.JAX, marks=pytest.mark.slow)]
)
def test_a_backend_takes_the_arrays_of_another_library(backend, case):
    settings = {"backend": case.backend_name, "device": case.device}
    model = xpnet.fit(backend.from_host(X), Y, **QUICK, **settings)
    assert model.fingerprint == xpnet.fit(X, Y, **QUICK, device="cpu").fingerprint
    assert_on_backend(model.predict(backend.from_host(X)), backend)


@pytest.mark.needs("torch", "array-api-strict")
def test_rows_labels_weights_and_validation_data_may_be_of_several_libraries():
    torch, strict = (case.make().from_host for case in (BackendCase.TORCH, BackendCase.STRICT))
    weights = np.linspace(0.5, 1.5, len(Y))
    expected = xpnet.fit(X, Y, **QUICK, sample_weight=weights, validation_data=(X, Y), device="cpu")
    data = {"sample_weight": torch(weights), "validation_data": (strict(X), torch(Y))}
    model = xpnet.fit(torch(X), strict(Y), **QUICK, **data)
    assert (model.fingerprint, model.history) == (expected.fingerprint, expected.history)
    evaluation = model.evaluate(torch(X), strict(Y))
    assert (evaluation.accuracy, evaluation.loss) == (
        expected.evaluate(X, Y).accuracy,
        expected.evaluate(X, Y).loss,
    )
    assert type(evaluation.predicted) is type(evaluation.probabilities) is np.ndarray


def test_names_of_classes_are_a_numpy_array(backend):
    model = xpnet.fit(backend.from_host(X), NAMES[Y], **QUICK)
    names = model.predict(backend.from_host(X))
    assert (type(names), names.dtype.kind) == (np.ndarray, "U")
    np.testing.assert_array_equal(names, model.predict(X))


@pytest.mark.needs("sklearn")
def test_the_estimator_computes_and_returns_labels_in_the_library_of_the_rows(backend):
    put, settings = backend.from_host, {"epochs": 1, "batch_size": "full", "optimizer": "sgd", "hidden": ()}
    labels, where = (10 * Y).astype(np.int32), WhereItComputes()
    expected = xpnet.XPNetClassifier(**settings, device="cpu").fit(X, labels)
    classifier = xpnet.XPNetClassifier(**settings, callbacks=[where]).fit(put(X), put(labels))
    for array in where.parameters:
        assert_on_backend(array, backend)
    assert classifier.model_.fingerprint == expected.model_.fingerprint
    for name in ("predict", "predict_proba"):
        assert_same(getattr(classifier, name)(put(X)), getattr(expected, name)(X), backend)
    assert classifier.score(put(X), put(labels)) == expected.score(X, labels)
    classifier.partial_fit(put(X), put(labels), classes=put(labels))
    for array in where.parameters:
        assert_on_backend(array, backend)
    names = xpnet.XPNetClassifier(**settings).fit(put(X), NAMES[Y]).predict(put(X))
    assert (type(names), set(names)) == (np.ndarray, set(names) & set(NAMES))


@pytest.mark.needs("jax")
def test_results_in_jax_have_32_bits_unless_64_are_enabled():
    import jax

    model, rows = xpnet.fit(X, Y, **QUICK, device="cpu"), jax.numpy.asarray(X)
    for name in RESULTS:
        expected = getattr(model, name)(X)
        narrow = expected.astype({"i": np.int32, "f": np.float32}[expected.dtype.kind])
        np.testing.assert_array_equal(np.asarray(getattr(model, name)(rows)), narrow, strict=True)
        with jax.enable_x64(True):
            np.testing.assert_array_equal(np.asarray(getattr(model, name)(rows)), expected, strict=True)


SECOND_DEVICE = """
import jax, numpy as np, xpnet
from networks import pixels

x, y = pixels(40, 6, 3)
second, used = jax.devices()[1], set()
class Note(xpnet.Callback):
    def on_train_begin(self, state):
        arrays = jax.tree.leaves(state.variables.parameters)
        used.update(device.id for array in arrays for device in array.devices())
expected = xpnet.fit(x, y, hidden=[], epochs=1, device="cpu")
model = xpnet.fit(jax.device_put(x, second), y, hidden=[], epochs=1, callbacks=[Note()])
both = jax.device_put(x, jax.NamedSharding(jax.make_mesh((2,), ("rows",)), jax.P("rows")))
for rows, where in ((jax.device_put(x, second), second), (both, jax.devices()[0])):
    for model in (model, expected):
        for result in (model.predict(rows), model.predict_proba(rows), model.logits(rows)):
            assert result.device == where, (result.device, where)
print(used, model.fingerprint == expected.fingerprint)
"""


@pytest.mark.slow
@pytest.mark.needs("jax")
def test_a_second_device_computes_and_keeps_the_results():
    """Two devices on the host take the place of two GPUs."""
    variables = {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "helpers"), str(ROOT)]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-c", SECOND_DEVICE]
    run = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == ("{1} True\n", 0), run.stderr


TENSORS = {
    "with a gradient": lambda torch, rows: rows.requires_grad_(),
    "a parameter": lambda torch, rows: torch.nn.Parameter(rows),
    "transposed": lambda torch, rows: rows.T.contiguous().T,
    "a broken stride": lambda torch, rows: torch.repeat_interleave(rows, 2, dim=1)[:, ::2],
    "float16": lambda torch, rows: rows.half(),
    "bfloat16": lambda torch, rows: rows.bfloat16(),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("form", TENSORS.values(), ids=TENSORS)
def test_tensors_of_every_kind_are_taken_and_the_results_have_no_gradient(form):
    import torch

    rows = form(torch, torch.asarray(X // 128).to(torch.float32))  # values that 16 bits hold
    model = xpnet.fit(rows, torch.asarray(Y), **QUICK)
    assert model.fingerprint == xpnet.fit((X // 128).astype(np.float32), Y, **QUICK, device="cpu").fingerprint
    probabilities = model.predict_proba(rows)
    assert (type(probabilities), probabilities.dtype) == (torch.Tensor, torch.float64)
    assert (probabilities.requires_grad, tuple(probabilities.shape)) == (False, (len(X), 4))


@pytest.mark.slow
@pytest.mark.needs("jax")
def test_jax_rows_in_bfloat16_are_taken():
    import jax

    rows = jax.numpy.asarray(X // 128, dtype=jax.numpy.bfloat16)
    model = xpnet.fit(rows, Y, **QUICK)
    assert model.fingerprint == xpnet.fit((X // 128).astype(np.float32), Y, **QUICK, device="cpu").fingerprint


@pytest.fixture(scope="module")
def model():
    return xpnet.fit(X, Y, **QUICK)


def check_refusal(model, rows, message):
    for call in (model.predict, model.predict_proba, lambda x: model.evaluate(x, Y)):
        with pytest.raises(xpnet.DataError, match=rf"^X[:,] {message}[^\n]*$"):
            call(rows)


@pytest.mark.needs("torch")
def test_tensors_without_rows_or_values_are_refused_in_one_line(model):
    import torch

    check_refusal(model, torch.zeros((0, 12)), re.escape("holds no values (its shape is 0x12)"))
    for rows in (torch.zeros((5, 12), device="meta"), torch.zeros((5, 12)).to_sparse()):
        check_refusal(model, rows, "expected an array of numbers, got a Tensor: ")
    check_refusal(
        model, torch.zeros((5, 12), dtype=torch.complex64), "expected an array of numbers, got complex"
    )


@pytest.mark.needs("jax")
def test_a_function_that_jax_compiles_cannot_call_the_model(model):
    import jax

    with pytest.raises(xpnet.DataError) as caught:
        jax.jit(model.predict)(X)
    assert re.fullmatch(r"X: expected an array of numbers, got a \w*Tracer: .*", str(caught.value))


@pytest.mark.needs("array-api-strict")
def test_a_device_that_cannot_hold_the_results_is_refused_in_one_line(model):
    rows = make("array-api-strict", "no_float64").from_host(X)
    explicit = xpnet.Model(model.network, backend="numpy")
    problem = (
        "array-api-strict cannot hold float64 results on its device no_float64: [^\n]*: move X to the CPU"
    )
    with pytest.raises(xpnet.DataError, match=f"^X: {problem}$"):
        explicit.predict_proba(rows)
    with pytest.raises(xpnet.BackendError, match=r"^array-api-strict has no float64 on no_float64: [^\n]*$"):
        model.predict(rows)
