"""first_difference names the epoch, the step, the block, the layer and the operation."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from xpnet._typing import as_written
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import BackendError, ConfigError
from xpnet.nn import functional
from xpnet.nn.optim import Optimizer, sgd
from xpnet.parity import Difference, first_difference
from xpnet.parity import compare as compare_module
from xpnet.training import loop
from xpnet.training.setup import assemble

CONFIG = TrainConfig(epochs=3, hidden=(5,))


def dataset(samples=40):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(samples, 6), dtype=np.uint8)
    y = np.argmax(x[:, :3], axis=1).astype(np.int32)
    return Dataset(x, y, x[:10], y[:10], "small")


def experiment(config=CONFIG, backend=None, data=None, ops=Reproducible, **fields):
    """A training, with an arithmetic of a class that may be broken.

    Nothing is compiled: some are broken for certain values only.
    """
    backend = backend or make("numpy", "cpu")
    with backend.scope():
        made = assemble(config, data or dataset(), backend)
        broken = ops(backend.xp, backend.device, backend.xp.float64, **fields)
        return replace(made, engine=replace(made.engine, ops=broken, compile=as_written))


def off(x):
    """Move numbers so that neither rounding to a grid nor softmax hides it."""
    return x * (1.0 + 2.0**-20) + 2.0**-20


def columns(operand):
    return operand.columns if hasattr(operand, "columns") else operand.shape[-1]


class BrokenExp(Reproducible):
    def exp(self, x):
        return off(super().exp(x))


class BrokenLog(Reproducible):
    def log(self, x, **known):
        return off(super().log(x, **known))


class BrokenSecondProduct(Reproducible):
    """The product with the weights of layer 1, which have a column for each of 5 units."""

    def matmul(self, a, b):
        z = super().matmul(a, b)
        return off(z) if columns(a) == 5 else z


class BrokenBackwardProduct(Reproducible):
    """The product with the transposed weights of layer 1, which have a column for each of 3 classes."""

    def matmul(self, a, b):
        z = super().matmul(a, b)
        return off(z) if columns(a) == 3 else z


class BrokenSampleSums(Reproducible):
    """dW of layer 1, which has 3 rows."""

    def over_samples(self, dz, a):
        dw, db = super().over_samples(dz, a)
        return (off(dw), db) if dw.shape[-2] == 3 else (dw, db)


@dataclass(frozen=True)
class BrokenLater(Reproducible):
    """The first product, once the weights have the values that they have after some epochs."""

    weights: np.ndarray | None = None

    def matmul(self, a, b):
        z = super().matmul(a, b)
        broken = self.weights is not None and np.array_equal(a.values, self.weights)
        return off(z) if broken else z


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        TrainConfig(epochs=1, hidden=(), batch_size=16, normalize="standardize"),
    ],
    ids=["default", "batches"],
)
def test_reproducible_trainings_do_not_differ(backend, config):
    assert first_difference(experiment(config), experiment(config, backend)) is None


@pytest.mark.parametrize(
    ("broken", "epoch", "step", "operation", "layer"),
    [
        # The evaluation before the first epoch is the first to compute these,
        (BrokenExp, 0, None, "cross-entropy", 1),
        (BrokenLog, 0, None, "cross-entropy", 1),
        (BrokenSecondProduct, 0, None, "Z", 1),
        # and does without these.
        (BrokenBackwardProduct, 1, 0, "dA", 0),
        (BrokenSampleSums, 1, 0, "dW", 1),
    ],
)
def test_a_broken_operation_is_named(broken, epoch, step, operation, layer):
    found = first_difference(experiment(), experiment(ops=broken))
    assert (found.operation, found.layer) == (operation, layer)
    assert (found.epoch, found.step, found.block) == (epoch, step, 0)


def test_a_broken_softmax_is_named(monkeypatch):
    """Broken in training alone: the loss of an evaluation does without softmax."""
    softmax = functional.softmax

    def broken(ops, z):
        a = softmax(ops, z)
        return a if "numpy" in ops.xp.__name__ else off(a)

    monkeypatch.setattr(functional, "softmax", broken)
    found = first_difference(experiment(), experiment(backend=make("array-api-strict", "device1")))
    assert (found.epoch, found.step, found.operation, found.layer) == (1, 0, "softmax", 1)


def test_the_difference_is_one_line_with_both_values_and_their_distance():
    found = first_difference(experiment(), experiment(ops=BrokenSecondProduct))
    assert found.right == pytest.approx(off(found.left), abs=1e-7)
    assert str(found) == (
        f"epoch 0, block 0: Z of layer 1 differs first, at (0, 0): "
        f"{found.left!r} and {found.right!r} ({found.ulp:.1e} ulp)"
    )


@pytest.mark.parametrize("normalize", ["scale", "standardize"])
def test_the_two_sides_may_be_two_libraries(backend, normalize):
    config = replace(CONFIG, epochs=1, normalize=normalize)
    found = first_difference(
        experiment(config), experiment(config, backend, ops=BrokenBackwardProduct)
    )
    assert (found.epoch, found.step, found.operation, found.layer) == (1, 0, "dA", 0)


def test_the_epoch_and_the_step_are_named():
    config = replace(CONFIG, batch_size=16)  # three steps an epoch
    left = experiment(config)
    steps = []

    def on_epoch(epoch, _evaluation, state):
        steps.append([np.array(tensor) for tensor in state.parameters[0]])

    left.fit(on_epoch)
    weights = steps[2][0]
    found = first_difference(left, experiment(config, ops=BrokenLater, weights=weights))
    # The evaluation after epoch 2 is the first to see these weights.
    assert (found.epoch, found.step, found.operation, found.layer) == (2, None, "Z", 0)


def test_a_later_step_of_a_later_epoch_is_named():
    config = replace(CONFIG, batch_size=16)
    left = experiment(config)
    side = compare_module._Side.of(left, left.parameters)
    for epoch in (1, 2):
        for batch in side.batches(epoch)[: None if epoch == 1 else 2]:
            side.update(side.gradients(side.samples(), batch))
    weights = np.array(side.parameters[0].weight)
    found = first_difference(left, experiment(config, ops=BrokenLater, weights=weights))
    assert (found.epoch, found.step, found.operation, found.layer) == (2, 2, "Z", 0)


def test_a_later_block_is_named():
    data = dataset(2100)  # two blocks of 1,024 and a short one

    class BrokenShortBlock(Reproducible):
        def exp(self, x):
            y = super().exp(x)
            return off(y) if x.shape[-1] == 52 else y

    config = replace(CONFIG, epochs=1)
    found = first_difference(
        experiment(config, data=data), experiment(config, data=data, ops=BrokenShortBlock)
    )
    assert found.block == 2


def test_blocks_may_be_stacked_on_one_side():
    data = dataset(2100)
    config = replace(CONFIG, epochs=1)
    right = experiment(config, data=data, ops=BrokenSecondProduct)
    stacked = replace(right, engine=replace(right.engine, stack=2))
    found = first_difference(experiment(config, data=data), stacked)
    assert (found.epoch, found.operation, found.layer) == (0, "Z", 1)


def test_initial_parameters_that_differ_are_named():
    right = experiment()
    first = right.parameters[0]
    bias = np.array(first.bias)
    bias[2, 0] += 1.0
    found = first_difference(
        experiment(), replace(right, parameters=[first._replace(bias=bias), *right.parameters[1:]])
    )
    assert found == Difference(
        0, "initial b", 0, (2, 0), float(bias[2, 0] - 1.0), float(bias[2, 0]), found.ulp
    )


def test_an_update_that_differs_is_named():
    """Steps of array-api-strict move the last bias a little further."""
    right = sgd()

    def update(*arguments):
        new, state = right.update(*arguments)
        new[-1] = new[-1]._replace(bias=new[-1].bias + 1.0)
        return new, state

    strict = experiment(backend=make("array-api-strict", "device1"))
    found = first_difference(experiment(), replace(strict, optimizer=Optimizer(right.init, update)))
    assert (found.epoch, found.step, found.block) == (1, 0, None)
    assert (found.operation, found.layer, found.index) == ("update of b", 1, (0, 0))


def test_both_sides_may_diverge_alike():
    config = replace(CONFIG, learning_rate=1e300, epochs=4)
    assert first_difference(experiment(config), experiment(config)) is None


def test_a_difference_that_does_not_repeat_is_an_error():
    calls = []

    class Once(Reproducible):
        def exp(self, x):
            calls.append(x)
            y = super().exp(x)
            return off(y) if len(calls) == 1 else y

    with pytest.raises(BackendError, match="epoch 0 differs, but not when computed again"):
        first_difference(experiment(), experiment(ops=Once))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 10}, {"hidden": (4,)}, {"learning_rate": 0.2}]
)
def test_other_settings_are_not_compared(change):
    with pytest.raises(ConfigError, match=f"one {next(iter(change))}, got"):
        first_difference(experiment(), experiment(replace(CONFIG, **change)))


def test_other_data_are_not_compared():
    with pytest.raises(ConfigError, match="the same data"):
        first_difference(experiment(), experiment(data=dataset(41)))


def test_the_operations_are_those_of_the_loop():
    """The trace must give the gradients that training uses."""
    made = experiment()
    side = compare_module._Side.of(made, made.parameters)
    samples = side.samples()
    (values,) = side.blocks(compare_module._training_operations, samples)
    traced = {(value.operation, value.layer): value.array for value in values}
    means = loop.batch_gradients(made.engine, made.parameters, samples)
    for layer, gradient in enumerate(means):
        assert np.array_equal(traced["dW", layer] * (1.0 / 40), gradient.weight)
        assert np.array_equal(traced["db", layer] * (1.0 / 40), gradient.bias)
    assert functional.relu(made.engine.ops, traced["Z", 0]).tolist() == traced["A", 0].tolist()
