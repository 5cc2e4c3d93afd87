"""A network at work: the same numbers as its formula, its training and every backend give."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from networks import BASE, image_data, pixels

import xpnet
from xpnet.backends.resolve import make
from xpnet.inference.predictor import Predictor
from xpnet.training.trainer import Trainer

X, Y = pixels(2500, 12, 5)
FLOATS = np.random.default_rng(2).normal(size=(16, 12))


def network(x=X, **settings):
    """A trained network 12-7-5 with batch normalisation."""
    settings = {
        "hidden": 7,
        "epochs": 3,
        "batch_norm": True,
        "activation": "tanh",
        "learning_rate": 0.5,
    } | settings
    return xpnet.fit(x[:300], Y[:300], device="cpu", **settings).network


def outputs(saved, x, arithmetic="reproducible", backend=None):
    return Predictor(saved, backend or make("numpy", "cpu"), arithmetic).outputs(x)


def formula(saved, x):
    """The logits as float64 formulas give them, samples as rows."""
    first, norm, second = saved.parameters
    z = first.weight @ ((x - saved.normalization.shift) * saved.normalization.scale).T + first.bias
    z = (z - saved.statistics[0].mean) / np.sqrt(saved.statistics[0].variance + 1e-5)
    return (second.weight @ np.tanh(norm.gamma * z + norm.beta) + second.bias).T


@pytest.mark.parametrize(("arithmetic", "tolerance"), [("native", 1e-13), ("reproducible", 1e-6)])
@pytest.mark.parametrize("normalize", ["scale", "standardize", "none"])
@pytest.mark.parametrize("x", [X, X / 255.0 - 0.5], ids=["pixels", "floats"])
def test_outputs_are_those_of_the_formula(x, normalize, arithmetic, tolerance):
    saved = network(x, normalize=normalize)
    logits, probabilities = outputs(saved, x, arithmetic)
    expected = formula(saved, x)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, shares / shares.sum(axis=1, keepdims=True), atol=1e-12)


def test_every_backend_gives_the_same_bits_or_natively_agrees_within_rounding(backend):
    saved = network()
    np.testing.assert_array_equal(outputs(saved, X, backend=backend), outputs(saved, X), strict=True)
    saved = network(arithmetic="native")
    native = Predictor(saved, backend)
    logits, _ = native.outputs(X)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, formula(saved, X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(native.predict(X), logits.argmax(axis=1), strict=True)


def test_a_sample_has_the_same_outputs_alone_and_among_thousands_of_another_dtype():
    predictor, rows = Predictor(network(), make("numpy", "cpu")), X.astype(np.float32)
    predictor.outputs(X)
    logits, _ = predictor.outputs(rows)
    for row in (0, 1023, 1024, 2499):
        np.testing.assert_array_equal(predictor.outputs(rows[row : row + 1])[0][0], logits[row])
    assert predictor.predict(X[:0]).shape == (0,)


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
    saved, pad, shapes = network(), np.pad, set()
    padded = Predictor(saved, by_shape(), arithmetic)
    original = padded._outputs
    monkeypatch.setattr(np, "pad", lambda *args: pad(*args, constant_values=padding))
    padded._outputs = lambda *args: shapes.add(len(args[-1])) or original(*args)
    for size in SIZES:
        expected = outputs(saved, FLOATS[:size], arithmetic)
        np.testing.assert_array_equal(padded.outputs(FLOATS[:size]), expected, strict=True)
    assert shapes == lengths


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_an_evaluation_adds_nothing_for_rows_that_only_make_it_longer(monkeypatch, loss):
    config, results = replace(BASE, loss=loss, epochs=1), []
    for backend in (make("numpy", "cpu"), by_shape()):
        fill = backend.xp.full

        def full(shape, value, *, fill=fill, **options):
            return fill(shape, value if len(shape) == 1 else np.nan, **options)

        monkeypatch.setattr(backend.xp, "full", full)
        with Trainer.open(config, image_data(), backend) as trainer, np.errstate(all="ignore"):
            evaluations = map(partial(trainer.estimate, trainer.fit().state), SIZES)
            results.append([(each.loss, each.accuracy) for each in evaluations])
    assert results[0] == results[1]
