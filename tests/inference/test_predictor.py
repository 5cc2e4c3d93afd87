"""A network at work: the same numbers as its formula, its training and every backend give."""

from dataclasses import replace

import numpy as np
import pytest
from activations import ORACLES
from networks import BASE, image_data, pixels
from saved_models import saved_model

from xpnet.backends.resolve import make
from xpnet.inference import predictor as module
from xpnet.inference.predictor import Predictor, evaluate_rows
from xpnet.storage.model_file import TENSORS
from xpnet.training.trainer import Trainer

FEATURES, HIDDEN, CLASSES = 12, 7, 5


def model(dtype=np.float64, **settings):
    """A network 12-7-5 with random parameters."""
    normal = np.random.default_rng(0).normal
    shapes = [{"weight": (m, n), "bias": m} for m, n in ((HIDDEN, FEATURES), (CLASSES, HIDDEN))]
    layers = [{name: normal(size=size).astype(dtype) for name, size in shape.items()} for shape in shapes]
    return saved_model(layers, **settings)


def numpy_predictor(saved, arithmetic=None):
    return Predictor(saved, make("numpy", "cpu"), arithmetic)


def formula(saved, x):
    """The logits as float64 formulas give them, samples as rows."""
    inputs = (x - saved.normalization.shift) * saved.normalization.scale
    first, second = saved.layers
    z = inputs @ first["weight"].T + first["bias"]
    for tensors in saved.norms:
        deviation = np.sqrt(tensors["running_var"] + 1e-5)
        z = tensors["weight"] * (z - tensors["running_mean"]) / deviation + tensors["bias"]
    return ORACLES[saved.activation].formula(z) @ second["weight"].T + second["bias"]


NORM = dict(zip(TENSORS["norms"], np.random.default_rng(1).uniform(0.5, 1.5, (4, HIDDEN)), strict=True))
SHIFTS, SCALES = np.linspace(100, 150, FEATURES), np.linspace(0.01, 0.02, FEATURES)
VARIANTS = {
    **{name: {"activation": name} for name in ORACLES},
    "batch norm": {"norms": [NORM]},
    "scale of its own": {"normalization": {"scale": 0.25}},
    "standardized": {"normalize": "standardize", "normalization": {"shift": SHIFTS, "scale": SCALES}},
    "raw": {"normalize": "none"},
}
# Of the largest logit. The reproducible arithmetic rounds what it multiplies to a grid.
TOLERANCE = {"native": 1e-13, "reproducible": 1e-6}


@pytest.mark.parametrize("arithmetic", TOLERANCE)
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_outputs_are_those_of_the_formula(settings, arithmetic):
    saved = model(**settings)
    pixel_rows, _ = pixels(30, FEATURES, CLASSES)
    for x in (pixel_rows, np.random.default_rng(2).normal(size=(30, FEATURES))):
        logits, probabilities = numpy_predictor(saved, arithmetic).outputs(x)
        expected = formula(saved, x)
        assert logits.dtype == probabilities.dtype == np.float64
        tolerance = TOLERANCE[arithmetic] * np.abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, shares, atol=1e-12)


def test_every_backend_gives_the_same_bits_or_natively_agrees_within_rounding(backend):
    x, _ = pixels(30, FEATURES, CLASSES)
    saved = model(norms=[NORM], activation="tanh")
    expected = numpy_predictor(saved, "reproducible").outputs(x)
    actual = Predictor(saved, backend, "reproducible").outputs(x)
    np.testing.assert_array_equal(actual, expected, strict=True)
    saved = model(np.float32)
    native = Predictor(saved, backend)
    logits, _ = native.outputs(x)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, formula(saved, x), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(native.predict(x), logits.argmax(axis=1), strict=True)


@pytest.mark.needs("array-api-strict")
@pytest.mark.parametrize("device", ["no_float64", "no_x64"])
def test_native_predictions_and_losses_need_no_64_bit_numbers(device):
    x, labels = pixels(30, FEATURES, CLASSES)
    saved = model(np.float32, norms=[NORM], normalize="standardize", normalization={"scale": SCALES})
    expected, actual = (
        evaluate_rows(Predictor(saved, make("array-api-strict", name)), x / 255.0, labels, "the data")
        for name in ("device1", device)
    )
    assert (actual.loss, actual.predicted.tolist()) == (expected.loss, expected.predicted.tolist())
    predictor = Predictor(saved, make("array-api-strict", device))
    np.testing.assert_array_equal(predictor.predict(x / 255.0), expected.predicted, strict=True)


def test_a_sample_has_the_same_outputs_alone_and_among_thousands_of_another_dtype():
    predictor = numpy_predictor(model())
    x, _ = pixels(2500, FEATURES, CLASSES)
    logits, _ = predictor.outputs(x)
    rows = x.astype(np.float32)
    np.testing.assert_array_equal(predictor.outputs(rows), numpy_predictor(model()).outputs(rows))
    for row in (0, 1023, 1024, 2499):
        np.testing.assert_array_equal(predictor.outputs(x[row : row + 1])[0][0], logits[row])
    assert predictor.predict(x[:0]).shape == (0,)


SIZES = [5, 7, 6, 12, 3, 9, 5, 16, 2, 11, 13, 7, 1]
PADDED = {5, 7, 1, 2, 4, 8, 16}
"""The first two of these numbers of rows, and powers of two."""


def by_shape(backend):
    """A backend that is said to compile a function for each shape."""
    backend.compiles_shapes = True
    return backend


@pytest.mark.parametrize("arithmetic", TOLERANCE)
@pytest.mark.parametrize("padding", [np.nan, -0.0, np.inf, 1e300])
def test_few_numbers_of_rows_are_compiled_and_others_are_padded(monkeypatch, arithmetic, padding):
    saved, x = model(norms=[NORM], activation="tanh"), np.random.default_rng(2).normal(size=(16, FEATURES))
    plain, padded = (
        Predictor(saved, each, arithmetic) for each in (make("numpy", "cpu"), by_shape(make("numpy", "cpu")))
    )
    pad, original, shapes = np.pad, padded._outputs, set()
    monkeypatch.setattr(np, "pad", lambda *args: pad(*args, constant_values=padding))
    padded._outputs = lambda *args: shapes.add(len(args[-1])) or original(*args)
    with np.errstate(all="ignore"):
        for size in SIZES:
            np.testing.assert_array_equal(padded.outputs(x[:size]), plain.outputs(x[:size]), strict=True)
            np.testing.assert_array_equal(padded.predict(x[:size]), plain.predict(x[:size]), strict=True)
    assert shapes == (PADDED if arithmetic == "reproducible" else set(SIZES))
    monkeypatch.setattr(module, "ROWS", 11)  # the most
    shapes.clear()
    padded.outputs(x)
    assert shapes == {11, 5}


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
@pytest.mark.parametrize("padding", [np.nan, -0.0])
def test_an_evaluation_adds_nothing_for_rows_that_only_make_it_longer(monkeypatch, loss, padding):
    data, config = image_data(), replace(BASE, loss=loss, batch_norm=True, epochs=1)
    data = replace(data, x_train=data.x_train / 255.0)
    results = []
    for backend in (make("numpy", "cpu"), by_shape(make("numpy", "cpu"))):
        shapes, full = [], backend.xp.full

        def lengthen(shape, value, *, full=full, shapes=shapes, **keywords):
            shapes.append(shape)
            return full(shape, padding if len(shape) == 2 else value, **keywords)

        monkeypatch.setattr(backend.xp, "full", lengthen)
        with Trainer.open(config, data, backend) as trainer, np.errstate(all="ignore"):
            state = trainer.fit().state
            losses = [
                (each.loss.hex(), each.accuracy) for size in SIZES if (each := trainer.estimate(state, size))
            ]
        results.append([trainer.fingerprint(state), losses])
        assert len(shapes) == (
            2 * sum(size not in PADDED for size in SIZES) if backend.compiles_shapes else 0
        )
    assert results[0] == results[1]
