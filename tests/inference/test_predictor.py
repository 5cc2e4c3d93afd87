"""A network at work: the same numbers as its formula, its training and every backend give."""

import numpy as np
import pytest
from activations import ORACLES
from networks import pixels
from saved_models import saved_model

from xpnet.backends.resolve import make
from xpnet.inference.predictor import Predictor, evaluate_rows
from xpnet.storage.model_file import TENSORS

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
