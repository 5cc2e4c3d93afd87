"""Arrays of a library go in, and arrays of that library on the same device come out."""

import numpy as np
import pytest
from assertions import assert_on_backend, assert_same
from networks import pixels

import xpnet
from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make

X, Y = pixels(120, 12, 4)
NAMES = np.array(["east", "north", "south", "west"])
QUICK = {"epochs": 1, "hidden": []}
RESULTS = ("predict", "predict_proba", "logits")


class WhereItComputes(xpnet.Callback):
    def on_train_begin(self, state):
        self.parameters = [array + 0.0 for array in leaves(state.variables.parameters)]


@pytest.fixture(scope="module")
def model():
    return xpnet.fit(X, Y, **QUICK, device="cpu")


def test_the_library_of_the_rows_trains_and_predicts_on_their_device_unless_told_otherwise(backend, model):
    put, where = backend.from_host, WhereItComputes()
    trained = xpnet.fit(put(X), put(Y), **QUICK, callbacks=[where])
    for array in where.parameters:
        assert_on_backend(array, backend)
    assert trained.fingerprint == model.fingerprint
    for name in RESULTS:
        assert_same(getattr(trained, name)(put(X)), getattr(model, name)(X), backend)
    explicit = xpnet.fit(put(X), NAMES[Y], **QUICK, backend="numpy", callbacks=[where])
    assert {type(array) for array in where.parameters} == {np.ndarray}
    assert explicit.fingerprint == model.fingerprint
    np.testing.assert_array_equal(explicit.predict(put(X)), NAMES[model.predict(X)], strict=True)


@pytest.mark.needs("sklearn")
def test_the_estimator_computes_and_returns_labels_in_the_library_of_the_rows(backend):
    put, settings = backend.from_host, {"epochs": 1, "batch_size": "full", "optimizer": "sgd", "hidden": ()}
    labels, where = (10 * Y).astype(np.int32), WhereItComputes()
    expected = xpnet.XPNetClassifier(**settings, device="cpu").fit(X, labels)
    classifier = xpnet.XPNetClassifier(**settings, callbacks=[where]).fit(put(X), put(labels))
    assert classifier.model_.fingerprint == expected.model_.fingerprint
    assert_same(classifier.predict(put(X)), expected.predict(X), backend)
    classifier.partial_fit(put(X), put(labels), classes=put(labels))
    for array in where.parameters:
        assert_on_backend(array, backend)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("name", RESULTS)
def test_results_in_jax_have_32_bits_unless_64_are_enabled(model, name):
    import jax

    function, rows = getattr(model, name), jax.numpy.asarray(X)
    expected = function(X)
    narrow = expected.astype({"i": np.int32, "f": np.float32}[expected.dtype.kind])
    np.testing.assert_array_equal(np.asarray(function(rows)), narrow, strict=True)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(np.asarray(function(rows)), expected, strict=True)


@pytest.mark.needs("torch")
def test_tensors_of_every_kind_are_taken_and_the_results_have_no_gradient():
    import torch

    rows = torch.asarray(X // 128).to(torch.float32)  # values that 16 bits hold
    expected = xpnet.fit((X // 128).astype(np.float32), Y, **QUICK, device="cpu").fingerprint
    for tensor in (rows.bfloat16(), torch.nn.Parameter(rows)):
        model = xpnet.fit(tensor, torch.asarray(Y), **QUICK)
        assert (model.fingerprint, model.predict_proba(tensor).requires_grad) == (expected, False)


@pytest.mark.needs("array-api-strict")
def test_a_device_that_cannot_hold_the_results_is_refused_in_one_line():
    model, rows = xpnet.fit(X, Y, **QUICK), make("array-api-strict", "no_float64").from_host(X)
    with pytest.raises(xpnet.BackendError, match=r"^array-api-strict has no float64 on no_float64: [^\n]*$"):
        model.predict(rows)
