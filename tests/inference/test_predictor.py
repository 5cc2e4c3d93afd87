"""A network at work: the same numbers as its formula, its training and every backend give."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from networks import BASE, image_data, pixels
from saved_models import saved_model

from xpnet.backends.resolve import make
from xpnet.inference import predictor as module
from xpnet.inference.predictor import Predictor, evaluate_rows
from xpnet.storage.model_file import TENSORS
from xpnet.training.trainer import Trainer

FEATURES, HIDDEN, CLASSES = 12, 7, 5
X, LABELS = pixels(30, FEATURES, CLASSES)


def model(dtype=np.float64, **settings):
    """A network 12-7-5 with random parameters."""
    normal = np.random.default_rng(0).normal
    shapes = [{"weight": (m, n), "bias": m} for m, n in ((HIDDEN, FEATURES), (CLASSES, HIDDEN))]
    layers = [{name: normal(size=size).astype(dtype) for name, size in shape.items()} for shape in shapes]
    return saved_model(layers, **settings)


def outputs(saved, x, *, arithmetic="reproducible", backend=None):
    return Predictor(saved, backend or make("numpy", "cpu"), arithmetic).outputs(x)


def formula(saved, x):
    """The logits as float64 formulas give them, samples as rows."""
    inputs = (x - saved.normalization.shift) * saved.normalization.scale
    first, second = saved.layers
    z = inputs @ first["weight"].T + first["bias"]
    for tensors in saved.norms:
        deviation = np.sqrt(tensors["running_var"] + 1e-5)
        z = tensors["weight"] * (z - tensors["running_mean"]) / deviation + tensors["bias"]
    return (np.tanh(z) if saved.activation == "tanh" else np.maximum(z, 0.0)) @ second["weight"].T + second[
        "bias"
    ]


NORM = dict(zip(TENSORS["norms"], np.random.default_rng(1).uniform(0.5, 1.5, (4, HIDDEN)), strict=True))
SHIFTS, SCALES = np.linspace(100, 150, FEATURES), np.linspace(0.01, 0.02, FEATURES)
STANDARDIZED = {"normalize": "standardize", "normalization": {"shift": SHIFTS, "scale": SCALES}}
VARIANTS = [{"normalize": "none", "norms": [NORM]}, {"activation": "tanh"}, STANDARDIZED]


@pytest.mark.parametrize(("arithmetic", "tolerance"), [("native", 1e-13), ("reproducible", 1e-6)])
@pytest.mark.parametrize("settings", VARIANTS, ids="-".join)
@pytest.mark.parametrize("x", [X, X / 7.0], ids=["pixels", "floats"])
def test_outputs_are_those_of_the_formula(settings, x, arithmetic, tolerance):
    """To within the tolerance of the largest logit: reproducible products are of numbers on a grid."""
    saved = model(**settings)
    logits, probabilities = outputs(saved, x, arithmetic=arithmetic)
    expected = formula(saved, x)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, shares, atol=1e-12)


def test_every_backend_gives_the_same_bits_or_natively_agrees_within_rounding(backend):
    saved = model(norms=[NORM], activation="tanh")
    np.testing.assert_array_equal(outputs(saved, X, backend=backend), outputs(saved, X), strict=True)
    saved = model(np.float32)
    native = Predictor(saved, backend)
    logits, _ = native.outputs(X)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, formula(saved, X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(native.predict(X), logits.argmax(axis=1), strict=True)


@pytest.mark.needs("array-api-strict")
@pytest.mark.parametrize("device", ["no_float64", "no_x64"])
def test_native_predictions_and_losses_need_no_64_bit_numbers(device):
    saved = model(np.float32, norms=[NORM], **STANDARDIZED)
    expected, actual = (
        evaluate_rows(Predictor(saved, make("array-api-strict", name)), X / 255.0, LABELS, "the data")
        for name in ("device1", device)
    )
    assert (actual.loss, actual.predicted.tolist()) == (expected.loss, expected.predicted.tolist())


def test_a_sample_has_the_same_outputs_alone_and_among_thousands_of_another_dtype():
    predictor, (x, _) = Predictor(model(), make("numpy", "cpu")), pixels(2500, FEATURES, CLASSES)
    predictor.outputs(x)
    rows = x.astype(np.float32)
    logits, _ = predictor.outputs(rows)
    for row in (0, 1023, 1024, 2499):
        np.testing.assert_array_equal(predictor.outputs(rows[row : row + 1])[0][0], logits[row])
    assert predictor.predict(x[:0]).shape == (0,)


SIZES = [5, 7, 6, 12, 3, 9, 5, 16, 2, 11, 13, 7, 1]
PADDED = {5, 7, 1, 2, 4, 8, 16}
"""The first two of these numbers of rows, and powers of two."""


def by_shape():
    """A backend that is said to compile a function for each shape."""
    backend = make("numpy", "cpu")
    backend.compiles_shapes = True
    return backend


@pytest.mark.parametrize(("arithmetic", "lengths"), [("native", set(SIZES)), ("reproducible", PADDED)])
@pytest.mark.parametrize("padding", [np.nan, -0.0])
def test_few_numbers_of_rows_are_compiled_and_others_are_padded(monkeypatch, arithmetic, lengths, padding):
    saved, x = model(norms=[NORM], activation="tanh"), np.random.default_rng(2).normal(size=(16, FEATURES))
    padded = Predictor(saved, by_shape(), arithmetic)
    pad, original, shapes = np.pad, padded._outputs, set()
    monkeypatch.setattr(np, "pad", lambda *args: pad(*args, constant_values=padding))
    padded._outputs = lambda *args: shapes.add(len(args[-1])) or original(*args)
    with np.errstate(all="ignore"):
        for size in SIZES:
            expected = outputs(saved, x[:size], arithmetic=arithmetic)
            np.testing.assert_array_equal(padded.outputs(x[:size]), expected, strict=True)
    assert shapes == lengths
    monkeypatch.setattr(module, "ROWS", 11)  # the most
    shapes.clear()
    padded.outputs(x)
    assert shapes == {11, 5}


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_an_evaluation_adds_nothing_for_rows_that_only_make_it_longer(monkeypatch, loss):
    data, results = image_data(), []
    for backend in (make("numpy", "cpu"), by_shape()):
        full = backend.xp.full
        with monkeypatch.context() as patch, np.errstate(all="ignore"):
            patch.setattr(
                backend.xp,
                "full",
                lambda shape, value, full=full, **words: full(
                    shape, value if len(shape) == 1 else np.nan, **words
                ),
            )
            with Trainer.open(replace(BASE, loss=loss, epochs=1), data, backend) as trainer:
                state = trainer.fit().state
                results.append(
                    [(each.loss, each.accuracy) for each in map(partial(trainer.estimate, state), SIZES)]
                )
    assert results[0] == results[1]
