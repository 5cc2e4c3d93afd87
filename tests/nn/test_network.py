"""Networks of every kind: their settings, starts and masks, and the same bits however they are computed."""

import itertools
import math

import numpy as np
import pytest
import reference
from backend_enum import BackendCase
from networks import arithmetic, pixels

from xpnet.arithmetic import Reproducible, random
from xpnet.backends.numpy import make
from xpnet.errors import ConfigError
from xpnet.nn import functional as F
from xpnet.nn.architecture import NOTEBOOK, Network
from xpnet.nn.dropout import Masks, dropout_masks, dropout_scale
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.layers import (
    BatchMoments,
    BatchNorm,
    Linear,
    RunningStatistics,
    mean_and_variance_factors,
    update_running_statistics,
)
from xpnet.nn.network import (
    backward,
    forward,
    gradients,
    gradients_and_moments,
    loss,
    prepare,
    sample_losses,
)

SIZES = (20, 9, 8, 5)
NETWORKS = {
    "plain": Network(SIZES),
    **{name: Network(SIZES, activation=name) for name in F.ACTIVATIONS if name != "relu"},
    "batch norm": Network(SIZES, batch_norm=True),
    "dropout": Network(SIZES, input_dropout=0.2, hidden_dropout=0.5),
    "dropout of inputs": Network(SIZES, input_dropout=0.3),
    "smoothing": Network(SIZES, label_smoothing=0.1),
    "squared error": Network(SIZES, loss="squared-error"),
    "no hidden layer": Network((20, 5), batch_norm=True, hidden_dropout=0.5, loss="squared-error"),
    "everything": Network(
        SIZES,
        activation="tanh",
        batch_norm=True,
        input_dropout=0.2,
        hidden_dropout=0.5,
        loss="squared-error",
        label_smoothing=0.1,
    ),
    "everything else": Network(
        SIZES,
        activation="sigmoid",
        batch_norm=True,
        input_dropout=0.2,
        hidden_dropout=0.5,
        label_smoothing=0.1,
    ),
}


def network_id(network):
    return next(name for name, other in NETWORKS.items() if other is network)


every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=network_id)


# What a network is


def test_networks_are_values():
    assert hash(Network(SIZES)) == hash(Network(SIZES))
    assert len({Network(SIZES), Network(SIZES), Network(SIZES, batch_norm=True)}) == 2
    assert Network((784, 10, 10)) == NOTEBOOK


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"activation": "gelu"},
            "activation: expected one of relu, leaky-relu, tanh, sigmoid, got 'gelu'",
        ),
        ({"loss": "hinge"}, "loss: expected one of cross-entropy, squared-error, got 'hinge'"),
        ({"input_dropout": 1.0}, "input_dropout: expected a number from 0 to below 1, got 1.0"),
        ({"hidden_dropout": -0.1}, "hidden_dropout: expected a number from 0 to below 1, got -0.1"),
        (
            {"label_smoothing": math.nan},
            "label_smoothing: expected a number from 0 to below 1, got nan",
        ),
        (
            {"sizes": (784,)},
            r"sizes: expected at least features and classes, each positive, got \(784,\)",
        ),
        ({"sizes": (784, 0, 10)}, r"each positive, got \(784, 0, 10\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Network(**{"sizes": SIZES, **settings})


# Starts


def test_the_notebooks_start():
    for layer, (inputs, units) in zip(initialize(SIZES, 3), itertools.pairwise(SIZES), strict=True):
        assert layer.weight.shape == (units, inputs)
        assert -0.5 <= np.min(layer.weight) < np.max(layer.weight) < 0.5
        assert np.any(layer.bias != 0.0)


@pytest.mark.parametrize("kind", ["he", "glorot"])
def test_weights_are_uniform_up_to_the_limit_and_biases_zero(kind):
    sizes = (300, 200, 50)
    uniform = initialize(sizes, 3)
    for layer, plain, (inputs, units) in zip(
        initialize(sizes, 3, kind), uniform, itertools.pairwise(sizes), strict=True
    ):
        limit = (6.0 / (inputs if kind == "he" else inputs + units)) ** 0.5
        np.testing.assert_allclose(layer.weight, plain.weight * 2.0 * limit, rtol=1e-15)
        assert np.max(np.abs(layer.weight)) == pytest.approx(limit, rel=1e-3)
        assert np.std(layer.weight) == pytest.approx(limit / 3**0.5, rel=0.02)
        assert np.array_equal(layer.bias, np.zeros((units, 1)))


def test_he_keeps_the_size_of_activations_in_deep_relu_networks():
    ops, sizes = arithmetic(make("cpu")), (200, *[200] * 10, 10)
    x = np.random.default_rng(0).normal(size=(200, 500))
    kept = {}
    for kind in ("uniform", "he", "glorot"):
        _, cache = forward(ops, initialize(sizes, 0, kind), x)
        kept[kind] = np.mean(cache[-1][0] ** 2) / np.mean(cache[1][0] ** 2)
    assert 0.5 < kept["he"] < 2.0
    assert kept["glorot"] < 0.01
    assert kept["uniform"] > 100.0


def test_hidden_layers_are_followed_by_their_batch_norm():
    layers = initialize(SIZES, 0, "he", batch_norm=True)
    assert [type(layer) for layer in layers] == [Linear, BatchNorm] * 2 + [Linear]
    plain = initialize(SIZES, 0, "he")
    for layer, expected in zip(layers[::2], plain, strict=True):
        assert np.array_equal(layer.weight, expected.weight)
    for layer, units in zip(layers[1::2], SIZES[1:-1], strict=True):
        assert np.array_equal(layer.gamma, np.ones((units, 1)))
        assert np.array_equal(layer.beta, np.zeros((units, 1)))
    statistics = initial_running_statistics(NETWORKS["batch norm"])
    assert [s.mean.shape for s in statistics] == [(9, 1), (8, 1)]
    assert initial_running_statistics(NETWORKS["plain"]) == []


# Masks


def specified_mask(probability, units, layer, seed, epoch, position):
    """What docs/reproducibility.md says, one number at a time."""
    fours = math.ceil(units / 16)
    words = [
        word
        for use in range(position * fours + 1, (position + 1) * fours + 1)
        for word in reference.philox((use, layer, epoch, 4), (seed, 0))
    ]
    bits = [(words[unit // 4] >> (16 * (unit % 4))) % 65536 for unit in range(units)]
    return [b >= round(probability * 65536) for b in bits]


def test_masks_are_those_of_the_specification():
    network = Network((20, 16, 33, 5), input_dropout=0.25, hidden_dropout=0.6)
    masks = dropout_masks(network, 7, 3, 5, 9)
    for layer, (mask, p) in enumerate([(masks.inputs, 0.25), *((mask, 0.6) for mask in masks.hidden)]):
        units = network.sizes[layer]
        expected = [specified_mask(p, units, layer, 7, 3, position) for position in range(5, 9)]
        assert mask.dtype == np.bool_
        assert mask.tolist() == expected


def test_masks_do_not_depend_on_where_batches_begin_and_end():
    network = NETWORKS["dropout"]
    whole = dropout_masks(network, 0, 1, 0, 100)
    bounds = [0, 1, 33, 97, 100]
    parts = [dropout_masks(network, 0, 1, a, b) for a, b in itertools.pairwise(bounds)]
    assert np.array_equal(whole.inputs, np.concatenate([part.inputs for part in parts]))
    for layer, mask in enumerate(whole.hidden):
        assert mask.shape == (100, SIZES[layer + 1])
        assert np.array_equal(mask, np.concatenate([part.hidden[layer] for part in parts]))


def test_masks_differ_by_seed_epoch_and_layer():
    network = Network((40, 40, 40, 5), input_dropout=0.5, hidden_dropout=0.5)
    drawn = [
        mask.tobytes()
        for seed, epoch in [(0, 1), (1, 1), (0, 2)]
        for masks in [dropout_masks(network, seed, epoch, 0, 10)]
        for mask in (masks.inputs, *masks.hidden)
    ]
    assert len(set(drawn)) == 9


def test_units_are_dropped_independently_at_the_rate_asked_for():
    network = Network((64, 50, 5), input_dropout=0.2, hidden_dropout=0.7)
    masks = dropout_masks(network, 0, 1, 0, 40_000)
    for mask, p in ((masks.inputs, 0.2), (masks.hidden[0], 0.7)):
        deviation = (p * (1.0 - p) / mask.shape[0]) ** 0.5
        assert np.max(np.abs(mask.mean(axis=0) - (1.0 - p))) < 5.0 * deviation
        correlations = np.corrcoef(mask.T) - np.eye(mask.shape[1])
        assert np.max(np.abs(correlations)) < 5.0 / mask.shape[0] ** 0.5
        apart = np.corrcoef(mask[:-1].ravel(), mask[1:].ravel())[0, 1]
        assert abs(apart) < 5.0 / mask.size**0.5


def test_there_are_no_masks_without_dropout():
    assert dropout_masks(NETWORKS["plain"], 0, 1, 0, 10) == Masks(None, [])
    assert dropout_masks(NETWORKS["dropout of inputs"], 0, 1, 0, 10).hidden == []
    assert dropout_masks(Network(SIZES, hidden_dropout=0.5), 0, 1, 0, 10).inputs is None


@pytest.mark.parametrize(
    ("probability", "steps"), [(0.5, 32768), (0.2, 13107), (1e-9, 0), (1.0 - 1e-9, 65535)]
)
def test_the_scale_is_that_of_the_probability_that_the_masks_have(probability, steps):
    assert dropout_scale(probability) == 65536 / (65536 - steps)
    network = Network((1, 1, 1), input_dropout=probability)
    bits = random.words(0, random.Purpose.DROPOUT, 40_000, epoch=1)[::4] & np.uint64(0xFFFF)
    mask = dropout_masks(network, 0, 1, 0, 10_000).inputs
    assert np.array_equal(mask[:, 0], bits >= steps)


# However it is computed


def arrays(tree):
    """The arrays in lists and tuples, in order."""
    if isinstance(tree, list | tuple):
        return [array for part in tree for array in arrays(part)]
    return [] if tree is None else [tree]


def mapped(function, tree):
    """Lists and tuples with every array changed."""
    if isinstance(tree, list | tuple):
        parts = [mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return None if tree is None else function(tree)


def inputs(ops, network, x, mask):
    """Pixels by rows (..., samples, features) as the operand of the first layer, after dropout."""
    kept = x if mask is None else x * ops.xp.astype(mask, ops.xp.uint8)
    scale = dropout_scale(network.input_dropout)
    return ops.integers(ops.xp.matrix_transpose(kept), scale / 255.0)


def training(ops, network):
    """The function from parameters, pixels, labels and masks to loss, gradients and sums of a block."""

    def of_block(parameters, x, labels, masks):
        layers, operand = prepare(ops, parameters), inputs(ops, network, x, masks.inputs)
        found = gradients_and_moments(ops, layers, operand, labels, network, masks=masks.hidden)
        return loss(ops, layers, operand, labels, network, masks=masks.hidden), *found

    return of_block


def evaluation(ops, network):
    """The function from parameters, pixels, labels and statistics to losses and logits."""

    def of_block(parameters, x, labels, running):
        operand = inputs(ops, network, x, None)
        logits, _ = forward(ops, prepare(ops, parameters), operand, network, running=running)
        return sample_losses(ops, logits, labels, network), logits

    return of_block


def host_data(network, samples=64):
    """Parameters, pixels, labels, masks and statistics, as NumPy arrays."""
    generator = np.random.default_rng(1)
    parameters = mapped(
        lambda p: p + 0.1 * generator.normal(size=p.shape),
        initialize(network.sizes, 0, "he", batch_norm=network.batch_norm),
    )
    x, labels = pixels(samples, network.sizes[0], network.sizes[-1])
    running = [
        RunningStatistics(generator.normal(size=s.mean.shape), generator.uniform(0.5, 2.0, s.mean.shape))
        for s in initial_running_statistics(network)
    ]
    return parameters, x, labels, dropout_masks(network, 0, 1, 0, samples), running


def results(ops, network, data, put, wrap=lambda f: f):
    """Everything that is computed from host data."""
    parameters, x, labels, masks, running = (mapped(put, part) for part in data)
    trained = wrap(training(ops, network))(parameters, x, labels, masks)
    updated = [
        update_running_statistics(statistics, sums, *mean_and_variance_factors(x.shape[-2]))
        for statistics, sums in zip(running, trained[2], strict=True)
    ]
    evaluated = wrap(evaluation(ops, network))(parameters, x, labels, updated)
    return arrays([trained, updated, evaluated])


def reproducible(backend):
    return Reproducible(backend.xp, backend.device, backend.xp.float64)


@every_network
@pytest.mark.parametrize("samples", [64, 37])
def test_every_backend_gives_the_same_bits(backend, network, samples):
    data, numpy = host_data(network, samples), make("cpu")
    with numpy.scope():
        expected = results(reproducible(numpy), network, data, numpy.from_host)
    found = results(reproducible(backend), network, data, backend.from_host)
    for one, other in zip(found, expected, strict=True):
        assert np.ascontiguousarray(backend.to_host(one)).tobytes() == other.tobytes()


@every_network
def test_every_backend_gives_nearly_the_same_natively(backend, network):
    data, numpy = host_data(network), make("cpu")
    with numpy.scope():
        expected = results(reproducible(numpy), network, data, numpy.from_host)
    found = results(arithmetic(backend), network, data, backend.from_host)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.to_host(one), other, rtol=1e-6, atol=1e-5)


@every_network
def test_blocks_may_be_computed_in_one_call(backend, network):
    ops, blocks = reproducible(backend), 3
    parameters, x, labels, masks, _ = host_data(network, 64 * blocks)
    parameters = mapped(backend.from_host, parameters)

    def stacked(array):
        return backend.from_host(array.reshape(blocks, 64, *array.shape[1:]))

    def block(tree, index):
        rows = slice(64 * index, 64 * (index + 1))
        return mapped(lambda array: backend.from_host(array[rows]), tree)

    of_block = training(ops, network)
    together = of_block(parameters, stacked(x), stacked(labels), mapped(stacked, masks))
    for index in range(blocks):
        alone = of_block(parameters, *(block(part, index) for part in (x, labels, masks)))
        for one, other in zip(arrays(together), arrays(alone), strict=True):
            assert np.array_equal(backend.to_host(one)[index], backend.to_host(other))


@every_network
@pytest.mark.parametrize("make_ops", [reproducible, arithmetic])
def test_numpys_plans_change_no_bit(network, make_ops):
    backend = make("cpu")
    ops = make_ops(backend)
    compiled = {}

    def wrap(function):
        return compiled.setdefault(function.__qualname__, backend.compile(function, exact=True))

    for samples in (64, 37, 64, 1):
        data = host_data(network, samples)
        expected = results(ops, network, data, backend.from_host)
        found = results(ops, network, data, backend.from_host, wrap)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.needs("jax")
@every_network
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_xla_compiles_the_native_arithmetic(network, dtype):
    backend = BackendCase.JAX.make()
    with backend.scope():
        ops = arithmetic(backend, dtype)

        def put(array):
            array = array.astype(dtype) if array.dtype == np.float64 else array
            return backend.from_host(array)

        expected = results(ops, network, host_data(network), put)
        found = results(ops, network, host_data(network), put, lambda f: backend.compile(f, exact=False))
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=10 * tolerance)


@every_network
def test_float32_stays_float32(backend, network):
    ops = arithmetic(backend, "float32")

    def put(array):
        array = array.astype("float32") if array.dtype == np.float64 else array
        return backend.from_host(array)

    for array in results(ops, network, host_data(network), put):
        assert array.dtype == backend.xp.float32


def test_the_defaults_are_the_notebooks_network():
    ops = arithmetic(make("cpu"))
    parameters, x, labels, _, _ = host_data(NETWORKS["plain"])
    operand = inputs(ops, NETWORKS["plain"], x, None)
    logits, cache = forward(ops, parameters, operand)
    dz = F.softmax(ops, logits) - F.one_hot(ops, labels, 5)
    by_hand = backward(ops, parameters, cache, dz)
    for found in (
        gradients(ops, parameters, operand, labels),
        gradients(ops, parameters, operand, labels, NETWORKS["plain"]),
    ):
        for one, other in zip(arrays(found), arrays(by_hand), strict=True):
            np.testing.assert_array_equal(one, other)
    for index, (a, z) in enumerate(cache[:-1]):
        assert np.array_equal(cache[index + 1][0], np.maximum(z, 0.0))
        assert (a is operand) == (index == 0)


def test_sums_of_blocks_add_up_to_the_batchs():
    ops, network = arithmetic(make("cpu")), NETWORKS["batch norm"]
    parameters, x, labels, _, _ = host_data(network, 100)
    parts = [
        gradients_and_moments(ops, parameters, inputs(ops, network, x[rows], None), labels[rows], network)[1]
        for rows in (slice(0, 60), slice(60, 100))
    ]
    first = [sums[0] for sums in parts]
    z = parameters[0].weight @ (x.T / 255.0) + parameters[0].bias
    total = BatchMoments(*(a + b for a, b in zip(*first, strict=True)))
    np.testing.assert_allclose(total.values, z.sum(axis=1, keepdims=True), rtol=1e-10)
    within = 60 * z[:, :60].var(axis=1) + 40 * z[:, 60:].var(axis=1)
    np.testing.assert_allclose(total.squares[:, 0], within, rtol=1e-10)
