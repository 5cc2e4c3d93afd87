"""Arrays of a library go in, and arrays of that library on the same device come out."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from backend_enum import BackendCase
from networks import pixels

import xpnet
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import backend_of, make

X, Y = pixels(120, 12, 4)
NAMES = np.array(["east", "north", "south", "west"])
QUICK = {"epochs": 1, "hidden": []}
RESULTS = ("predict", "predict_proba", "logits")


class WhereItComputes(xpnet.Callback):
    """Keeps copies of the parameters before the first step, as the library has them."""

    def on_train_begin(self, state):
        self.parameters = [array + 0.0 for array in leaves(state.variables.parameters)]


@pytest.fixture(scope="module")
def model():
    return xpnet.fit(X, Y, **QUICK, device="cpu")


@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_results_are_those_of_numpy_on_the_library_and_device_of_the_rows(backend, arithmetic):
    settings, near = {"backend": "numpy", "device": "cpu"}, {}
    if arithmetic == "native":
        settings, near = {"arithmetic": "native", "dtype": "float32"}, {"rtol": 1e-5, "atol": 1e-5}
    model = xpnet.fit(X, Y, **QUICK, **settings)
    for name in RESULTS:
        assert_same(getattr(model, name)(backend.from_host(X)), getattr(model, name)(X), backend, **near)


def test_the_library_of_the_rows_trains_and_predicts_on_their_device_unless_a_setting_says_otherwise(
    backend, model
):
    put, where = backend.from_host, WhereItComputes()
    trained = xpnet.fit(put(X), put(Y), **QUICK, callbacks=[where])
    for array in where.parameters:
        assert_on_backend(array, backend)
    assert trained.fingerprint == model.fingerprint
    assert trained.select_predictor(backend_of(put(X))).backend.name == backend.name
    for settings in ({"backend": "numpy"}, {"device": "cpu"}):
        explicit = xpnet.fit(put(X), NAMES[Y], **QUICK, **settings, callbacks=[where])
        assert {type(array) for array in where.parameters} == {np.ndarray}
        assert explicit.select_predictor(backend_of(put(X))).backend.name == "numpy"
        assert explicit.fingerprint == model.fingerprint
    names = explicit.predict(put(X))
    assert type(names) is np.ndarray
    np.testing.assert_array_equal(names, NAMES[model.predict(X)])


@pytest.mark.needs("torch", "array-api-strict")
def test_rows_labels_weights_and_validation_data_may_be_of_several_libraries():
    torch, strict = (case.make().from_host for case in (BackendCase.TORCH, BackendCase.STRICT))
    weights = np.linspace(0.5, 1.5, len(Y))
    expected = xpnet.fit(X, Y, **QUICK, sample_weight=weights, validation_data=(X, Y), device="cpu")
    data = {"sample_weight": torch(weights), "validation_data": (strict(X), torch(Y))}
    model = xpnet.fit(torch(X), strict(Y), **QUICK, **data, backend="array-api-strict", device="device1")
    assert (model.fingerprint, model.history) == (expected.fingerprint, expected.history)
    evaluation, of_numpy = model.evaluate(torch(X), strict(Y)), expected.evaluate(X, Y)
    assert (evaluation.accuracy, evaluation.loss) == (of_numpy.accuracy, of_numpy.loss)
    assert type(evaluation.predicted) is type(evaluation.probabilities) is np.ndarray
    assert type(model.predict(torch(X))) is type(torch(X))


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


@pytest.mark.needs("jax")
def test_results_in_jax_have_32_bits_unless_64_are_enabled(model):
    import jax

    rows = jax.numpy.asarray(X)
    for name in RESULTS:
        expected = getattr(model, name)(X)
        narrow = expected.astype({"i": np.int32, "f": np.float32}[expected.dtype.kind])
        np.testing.assert_array_equal(np.asarray(getattr(model, name)(rows)), narrow, strict=True)
        with jax.enable_x64(True):
            np.testing.assert_array_equal(np.asarray(getattr(model, name)(rows)), expected, strict=True)
    with pytest.raises(xpnet.DataError) as caught:
        jax.jit(model.predict)(X)
    assert re.fullmatch(r"X: expected an array of numbers, got a \w*Tracer: .*", str(caught.value))


SECOND_DEVICE = """
import jax, xpnet
from networks import pixels

(first, second), (x, y) = jax.devices(), pixels(40, 6, 3)
both = jax.device_put(x, jax.NamedSharding(jax.make_mesh((2,), ("rows",)), jax.P("rows")))
model = xpnet.fit(jax.device_put(x, second), y, hidden=[], epochs=1)
print(model.fingerprint == xpnet.fit(x, y, hidden=[], epochs=1, device="cpu").fingerprint)
print(model.predict(jax.device_put(x, second)).device == second, model.logits(both).device == first)
"""


@pytest.mark.slow
@pytest.mark.needs("jax")
def test_a_second_device_computes_and_keeps_the_results():
    """Two devices on the host take the place of two GPUs."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    variables["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, "-c", SECOND_DEVICE]
    run = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["True"] * 3, run.stderr


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


@pytest.mark.needs("torch")
def test_tensors_without_rows_or_values_are_refused_in_one_line(model):
    import torch

    no_tensor = "expected an array of numbers, got a Tensor: "
    refused = [
        (torch.zeros((0, 12)), r"holds no values \(its shape is 0x12\)"),
        (torch.zeros((5, 12), device="meta"), no_tensor),
        (torch.zeros((5, 12)).to_sparse(), no_tensor),
        (torch.zeros((5, 12)) * 1j, "expected an array of numbers, got complex"),
    ]
    for rows, message in refused:
        for call in (model.predict, model.predict_proba, lambda x: model.evaluate(x, Y)):
            with pytest.raises(xpnet.DataError, match=rf"^X[:,] {message}[^\n]*$"):
                call(rows)


@pytest.mark.needs("array-api-strict")
def test_a_device_that_cannot_hold_the_results_is_refused_in_one_line():
    model, rows = xpnet.fit(X, Y, **QUICK), make("array-api-strict", "no_float64").from_host(X)
    with pytest.raises(xpnet.BackendError, match=r"^array-api-strict has no float64 on no_float64: [^\n]*$"):
        model.predict(rows)
    problem = (
        "array-api-strict cannot hold float64 results on its device no_float64: [^\n]*: move X to the CPU"
    )
    with pytest.raises(xpnet.DataError, match=f"^X: {problem}$"):
        xpnet.Model(model.network, backend="numpy").predict_proba(rows)
