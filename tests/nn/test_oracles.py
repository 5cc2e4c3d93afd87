"""Agreement is not correctness: the network against PyTorch's autograd, the notebook, and MNIST."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from networks import context_for, pixels, train

from xpnet.arithmetic import Reproducible
from xpnet.backends.numpy import make
from xpnet.data import datasets
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.layers import BatchNorm, Linear, mean_and_variance_factors, update_running_statistics
from xpnet.nn.network import forward, gradients, gradients_and_moments, loss, prepare
from xpnet.training.batches import Samples
from xpnet.training.evaluation import evaluate

NUMPY = make("cpu")
NOTEBOOK = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "notebook.py"


@pytest.fixture(scope="module")
def mnist():
    return datasets.load()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("hidden", [(), (10,), (9, 8, 7)], ids=str)
def test_gradients_are_those_of_autograd(hidden):
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

    context = context_for(NUMPY, x)
    found = loss(context.ops, layers, context.inputs(x), labels)
    np.testing.assert_allclose(found.item(), expected_loss.item(), rtol=1e-13)
    found = gradients(context.ops, layers, context.inputs(x), labels)
    for layer, expected in zip(found, tensors, strict=True):
        for gradient, tensor in zip(layer, expected, strict=True):
            np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


ACTIVATIONS = {
    "relu": lambda torch, z: torch.relu(z),
    "leaky-relu": lambda torch, z: torch.nn.functional.leaky_relu(z, 0.01),
    "tanh": lambda torch, z: torch.tanh(z),
    "sigmoid": lambda torch, z: torch.sigmoid(z),
}


def torch_loss(torch, network, logits, labels):
    """The summed loss, by PyTorch's own functions."""
    if network.loss == "cross-entropy":
        return torch.nn.functional.cross_entropy(
            logits, labels, reduction="sum", label_smoothing=network.label_smoothing
        )
    classes = network.sizes[-1]
    y = torch.nn.functional.one_hot(labels, classes).double() * (1.0 - network.label_smoothing)
    y = y + network.label_smoothing / classes
    error = torch.nn.functional.mse_loss(torch.softmax(logits, dim=1), y, reduction="sum")
    return 0.5 * error


class TorchNetwork:
    """The same network out of PyTorch's functions; samples are rows."""

    def __init__(self, torch, network, layers):
        self.torch, self.network = torch, network
        self.tensors = [
            [torch.tensor(p if p.shape[1] > 1 else p[:, 0], requires_grad=True) for p in layer]
            for layer in layers
        ]
        self.kinds = [type(layer) for layer in layers]
        self.running = [[torch.tensor(s[:, 0]) for s in pair] for pair in initial_running_statistics(network)]

    def logits(self, x, masks=(), training=True):
        activate = ACTIVATIONS[self.network.activation]
        scale = 1.0 / (1.0 - self.network.hidden_dropout)
        a, masks, running = self.torch.tensor(x), list(masks), list(self.running)
        for index, (kind, tensors) in enumerate(zip(self.kinds, self.tensors, strict=True)):
            if kind is BatchNorm:
                a = self.torch.nn.functional.batch_norm(
                    a, *running.pop(0), *tensors, training=training, momentum=0.1, eps=1e-5
                )
                continue
            if index > 0:
                a = activate(self.torch, a)
                a = a * self.torch.tensor(masks.pop(0)) * scale if masks else a
            a = self.torch.nn.functional.linear(a, *tensors)
        return a


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arithmetic", ["native", "reproducible"])
@pytest.mark.parametrize(
    "settings",
    [
        *({"activation": name} for name in ACTIVATIONS),
        {"label_smoothing": 0.1},
        {"loss": "squared-error"},
        {"loss": "squared-error", "label_smoothing": 0.2},
        {"batch_norm": True},
        {"hidden_dropout": 0.5},
        {"input_dropout": 0.25},
        {
            "activation": "tanh",
            "batch_norm": True,
            "input_dropout": 0.25,
            "hidden_dropout": 0.5,
            "label_smoothing": 0.1,
        },
    ],
    ids=str,
)
def test_networks_of_every_kind_are_those_of_autograd(settings, arithmetic):
    import torch

    network = Network((20, 9, 8, 5), **settings)
    x, labels = pixels(500, 20, 5)
    layers = initialize(network.sizes, 0, "glorot", batch_norm=network.batch_norm)
    masks = dropout_masks(network, 0, 1, 0, 500)
    factor, kept = dropout_scale(network.input_dropout) / 255.0, x
    if masks.inputs is not None:
        kept = x * masks.inputs
    theirs = TorchNetwork(torch, network, layers)
    expected = torch_loss(
        torch, network, theirs.logits(kept * factor, masks.hidden), torch.tensor(labels).long()
    )
    expected.backward()

    ops = context_for(NUMPY, x).ops
    tolerance = 1e-12
    if arithmetic == "reproducible":
        ops, tolerance = Reproducible(NUMPY.xp, NUMPY.device, np.float64), 1e-6
    operand, ours = ops.integers(kept.T, factor), prepare(ops, layers)
    found = loss(ops, ours, operand, labels, network, masks=masks.hidden)
    np.testing.assert_allclose(found.item(), expected.item(), rtol=tolerance)
    found, sums = gradients_and_moments(ops, ours, operand, labels, network, masks=masks.hidden)
    for layer, tensors in zip(found, theirs.tensors, strict=True):
        for gradient, tensor in zip(layer, tensors, strict=True):
            right = tensor.grad.numpy().reshape(gradient.shape)
            np.testing.assert_allclose(gradient, right, rtol=0, atol=tolerance * 100)

    running = [
        update_running_statistics(statistics, *batch, *mean_and_variance_factors(500))
        for statistics, *batch in zip(initial_running_statistics(network), sums, strict=True)
    ]
    for statistics, tensors in zip(running, theirs.running, strict=True):
        for statistic, tensor in zip(statistics, tensors, strict=True):
            np.testing.assert_allclose(statistic[:, 0], tensor.numpy(), rtol=tolerance, atol=tolerance)
    logits, _ = forward(ops, ours, ops.integers(x.T, 1.0 / 255.0), network, running=running)
    evaluated = theirs.logits(x / 255.0, training=False).detach().numpy().T
    np.testing.assert_allclose(logits, evaluated, rtol=0, atol=tolerance * 100)


def test_a_deep_network_learns_with_batch_norm_and_dropout():
    network = Network((20, 64, 64, 64, 5), activation="tanh", batch_norm=True, hidden_dropout=0.2)
    x, labels = pixels(2000, 20, 5)
    ops = Reproducible(NUMPY.xp, NUMPY.device, np.float64)
    parameters = initialize(network.sizes, 0, "glorot", batch_norm=True)
    running = initial_running_statistics(network)

    def evaluated(rows):
        operand = ops.integers(x[rows].T, 1.0 / 255.0)
        return forward(ops, prepare(ops, parameters), operand, network, running=running)[0]

    step = NUMPY.compile(
        lambda parameters, x, labels, masks: gradients_and_moments(
            ops, prepare(ops, parameters), ops.integers(x, 1 / 255), labels, network, masks=masks
        ),
        exact=True,
    )
    for epoch in range(1, 11):
        for start in range(0, 1500, 100):
            masks = dropout_masks(network, 0, epoch, start, start + 100).hidden
            rows = slice(start, start + 100)
            found, sums = step(parameters, x[rows].T, labels[rows], masks)
            parameters = [
                type(p)(*(a - 0.002 * b for a, b in zip(p, g, strict=True)))
                for p, g in zip(parameters, found, strict=True)
            ]
            running = [
                update_running_statistics(*pair, *mean_and_variance_factors(100))
                for pair in zip(running, sums, strict=True)
            ]
    right = np.argmax(evaluated(slice(1500, 2000)), axis=0) == labels[1500:]
    assert isinstance(parameters[-1], Linear)
    assert np.mean(right) > 0.75


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
            context_for(NUMPY, mnist.x_train, "float32"), layers, Samples(mnist.x_test, mnist.y_test)
        )
    assert test.accuracy >= 0.55
