"""Agreement is not correctness: the network against PyTorch's autograd, the notebook, and MNIST."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from backend_enum import BackendCase, usable_backend
from networks import engine_for, pixels, train

from xpnet import datasets
from xpnet.backends.numpy import make
from xpnet.loop import Samples, evaluate
from xpnet.model import gradients, initialize, loss

NUMPY = make("cpu")
NOTEBOOK = Path(__file__).resolve().parents[1] / "scripts" / "notebook_baseline.py"


@pytest.fixture(scope="module")
def mnist():
    return datasets.load()


@pytest.mark.parametrize("hidden", [(), (10,), (9, 8, 7)], ids=str)
def test_gradients_are_those_of_autograd(hidden):
    usable_backend(BackendCase.TORCH)
    import torch

    x, labels = pixels(500, 20, 5)
    layers = initialize((20, *hidden, 5), 0)
    tensors = [[torch.tensor(array, requires_grad=True) for array in layer] for layer in layers]
    a = torch.tensor(x.T / 255.0)
    for index, (weight, bias) in enumerate(tensors):
        z = weight @ a + bias
        a = torch.relu(z) if index < len(tensors) - 1 else z
    expected_loss = torch.nn.functional.cross_entropy(
        a.T, torch.tensor(labels, dtype=torch.int64), reduction="sum"
    )
    expected_loss.backward()

    engine = engine_for(NUMPY, x)
    found = loss(engine.ops, layers, engine.inputs(x), labels)
    np.testing.assert_allclose(found.item(), expected_loss.item(), rtol=1e-13)
    found = gradients(engine.ops, layers, engine.inputs(x), labels)
    for layer, expected in zip(found, tensors, strict=True):
        for gradient, tensor in zip(layer, expected, strict=True):
            np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_a_hundred_epochs_are_those_of_the_notebook(mnist):
    spec = importlib.util.spec_from_file_location("notebook_baseline", NOTEBOOK)
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)

    x, labels = mnist.x_train[:10_000], mnist.y_train[:10_000]
    start = [array for layer in initialize((784, 10, 10), 0) for array in layer]
    expected = notebook.gradient_descent(x.T / 255, labels, 100, 0.1, start)
    layers, history = train(NUMPY, x, labels, (784, 10, 10), epochs=100)
    for array, expected_array in zip((a for layer in layers for a in layer), expected, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=1e-10)
    assert history[-1][1] > 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_run_learns_mnist(mnist, seed):
    with NUMPY.scope(), NUMPY.workers(2):
        layers, _ = train(
            NUMPY,
            mnist.x_train,
            mnist.y_train,
            (784, 10, 10),
            epochs=100,
            dtype="float32",
            seed=seed,
            log_every=100,
        )
        test = evaluate(
            engine_for(NUMPY, mnist.x_train, "float32"), layers, Samples(mnist.x_test, mnist.y_test)
        )
    assert test.accuracy >= 0.55
