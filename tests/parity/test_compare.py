"""first_difference names the epoch, the step, the block and the operation."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from xpnet._lib.tree import tree_map
from xpnet._typing import uncompiled
from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import BackendError, ConfigError
from xpnet.nn import functional
from xpnet.nn.optim import Optimizer, sgd
from xpnet.parity import Difference, first_difference
from xpnet.parity.recording import record_operations
from xpnet.training import step
from xpnet.training.callbacks import Callback
from xpnet.training.trainer import Trainer

CONFIG = TrainConfig(epochs=3, hidden=(5,))


def dataset(samples=40, features=6):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, size=(samples, features), dtype=np.uint8)
    y = np.argmax(x[:, :3], axis=1).astype(np.int32)
    return Dataset(x, y, x[:10], y[:10], "small")


def trainer(config=CONFIG, backend=None, data=None, ops=Reproducible, **fields):
    """A trainer, with an arithmetic of a class that may be broken.

    Nothing is compiled: some are broken for certain values only.
    """
    backend = backend or make("numpy", "cpu")
    with backend.scope():
        made = Trainer(config, data or dataset(), backend)
        broken = ops(backend.xp, backend.device, backend.xp.float64, **fields)
        made.context = replace(made.context, ops=broken, compile=uncompiled)
    return made


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

    def weight_and_bias_gradients(self, dz, a):
        dw, db = super().weight_and_bias_gradients(dz, a)
        return (off(dw), db) if dw.shape[-2] == 3 else (dw, db)


@dataclass(frozen=True)
class BrokenLater(Reproducible):
    """The first product, once the weights have the values that they have after some epochs."""

    weights: np.ndarray | None = None

    def matmul(self, a, b):
        z = super().matmul(a, b)
        broken = self.weights is not None and np.array_equal(a.values, self.weights)
        return off(z) if broken else z


PLAIN = replace(CONFIG, epochs=1, hidden=(), batch_size=16, normalize="standardize")
EVERYTHING = replace(
    CONFIG,
    epochs=2,
    batch_size=16,
    batch_norm=True,
    dropout=0.3,
    input_dropout=0.1,
    activation="leaky-relu",
    label_smoothing=0.1,
    optimizer="adam",
    learning_rate=0.01,
    validation=8,
)


@pytest.mark.parametrize("config", [CONFIG, PLAIN, EVERYTHING], ids=["default", "plain", "all"])
def test_reproducible_trainings_do_not_differ(backend, config):
    assert first_difference(trainer(config), trainer(config, backend)) is None


@pytest.mark.parametrize(
    ("broken", "epoch", "step", "operation", "call"),
    [
        # The evaluation before the first epoch is the first to compute these,
        (BrokenExp, 0, None, "exp in cross_entropy", 0),
        (BrokenLog, 0, None, "log in cross_entropy", 0),
        (BrokenSecondProduct, 0, None, "matmul in linear", 1),
        # and does without these: call 0 is the last layer's, for they go backward.
        (BrokenBackwardProduct, 1, 0, "matmul in linear_backward_input", 0),
        (BrokenSampleSums, 1, 0, "weight_and_bias_gradients in linear_backward", 0),
    ],
)
def test_a_broken_operation_is_named(broken, epoch, step, operation, call):
    found = first_difference(trainer(), trainer(ops=broken))
    assert (found.operation, found.call) == (operation, call)
    assert (found.epoch, found.step, found.block) == (epoch, step, 0)


@dataclass(frozen=True)
class OneUlp(Reproducible):
    """The square root that batch normalisation takes, one unit in the last place too large."""

    def sqrt(self, x):
        return np.nextafter(super().sqrt(x), np.inf)


def test_one_ulp_is_found_in_a_network_with_batch_norm_and_dropout():
    found = first_difference(trainer(EVERYTHING), trainer(EVERYTHING, ops=OneUlp))
    assert (found.epoch, found.step, found.block, found.ulp) == (1, 0, 0, 1.0)
    assert found.operation == "sqrt in _reciprocal_deviation"


def test_a_broken_elementwise_function_is_an_operand_of_the_next_operation(monkeypatch):
    """Broken in training alone: the loss of an evaluation does without softmax."""
    softmax = functional.softmax

    def broken(ops, z):
        a = softmax(ops, z)
        return a if "numpy" in ops.xp.__name__ else off(a)

    monkeypatch.setattr(functional, "softmax", broken)
    found = first_difference(trainer(), trainer(backend=make("array-api-strict", "device1")))
    assert (found.epoch, found.step) == (1, 0)
    assert found.operation == "operand of weight_and_bias_gradients in linear_backward"


def test_the_difference_is_one_line_with_both_values_and_their_distance():
    found = first_difference(trainer(), trainer(ops=BrokenSecondProduct))
    assert found.right == pytest.approx(off(found.left), abs=1e-7)
    assert str(found) == (
        "epoch 0, block 0: matmul in linear, call 1, differs first, at (0, 0): "
        f"{found.left!r} and {found.right!r} ({found.ulp:.1e} ulp)"
    )


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "all"])
def test_the_two_sides_may_be_two_libraries(backend, config):
    right = trainer(replace(config, hidden=(5,)), backend, ops=BrokenBackwardProduct)
    found = first_difference(trainer(replace(config, hidden=(5,))), right)
    assert (found.epoch, found.step) == (1, 0)
    assert found.operation == "matmul in linear_backward_input"


def variables_after(left, epoch, batch):
    """The first weights after so many epochs and steps."""
    seen = {}

    class Keep(Callback):
        def on_step_end(self, state):
            weights = np.array(state.variables.parameters[0].weight)
            seen[state.epoch, state.batch] = weights

    left.fit([Keep()])
    return seen[epoch, batch]


def test_the_epoch_and_the_step_are_named():
    config = replace(CONFIG, batch_size=16)  # three steps an epoch
    weights = variables_after(trainer(config), 1, 3)
    found = first_difference(trainer(config), trainer(config, ops=BrokenLater, weights=weights))
    # The evaluation after epoch 2 is the first to see these weights.
    assert (found.epoch, found.step, found.operation) == (2, None, "matmul in linear")


def test_a_later_step_of_a_later_epoch_is_named():
    config = replace(CONFIG, batch_size=16)
    weights = variables_after(trainer(config), 1, 2)
    found = first_difference(trainer(config), trainer(config, ops=BrokenLater, weights=weights))
    assert (found.epoch, found.step, found.operation) == (2, 2, "matmul in linear")


def test_a_later_block_is_named():
    data = dataset(2100)  # two blocks of 1,024 and a short one

    class BrokenShortBlock(Reproducible):
        def exp(self, x):
            y = super().exp(x)
            return off(y) if x.shape[-1] == 52 else y

    config = replace(CONFIG, epochs=1)
    found = first_difference(trainer(config, data=data), trainer(config, data=data, ops=BrokenShortBlock))
    assert found.block == 2


def test_a_later_block_of_a_later_step_is_named():
    data = dataset(2100)  # a batch of 1,024 and 176 samples, and one of 900

    class BrokenShortBlock(Reproducible):
        def weight_and_bias_gradients(self, dz, a):
            dw, db = super().weight_and_bias_gradients(dz, a)
            return (off(dw), db) if dz.shape[-1] == 176 else (dw, db)

    config = replace(EVERYTHING, validation=0, batch_size=1200)
    found = first_difference(trainer(config, data=data), trainer(config, data=data, ops=BrokenShortBlock))
    assert (found.epoch, found.step, found.block, found.call) == (1, 0, 1, 0)
    assert found.operation == "weight_and_bias_gradients in linear_backward"


@pytest.mark.parametrize("batch_size", [16, "full"])
def test_images_may_be_augmented(batch_size):
    data = dataset(features=9)
    config = replace(EVERYTHING, augment_shift=1.0, augment_elastic_alpha=2.0, batch_size=batch_size)
    strict = make("array-api-strict", "device1")
    assert first_difference(trainer(config, data=data), trainer(config, strict, data)) is None
    broken = trainer(config, strict, data, BrokenBackwardProduct)
    found = first_difference(trainer(config, data=data), broken)
    assert (found.epoch, found.step, found.operation) == (1, 0, "matmul in linear_backward_input")


def test_a_difference_in_validation_samples_alone_is_named():
    class BrokenForEight(Reproducible):
        def log(self, x, **known):
            y = super().log(x, **known)
            return off(y) if x.shape[-1] == 8 else y

    config = replace(CONFIG, validation=8)
    found = first_difference(trainer(config), trainer(config, ops=BrokenForEight))
    assert (found.epoch, found.step, found.block) == (0, None, 0)
    assert found.operation == "log in cross_entropy of validation samples"


def broken_when_compiled(name):
    """A trainer in which one function gives other results when it is compiled."""

    def compile_(function, *, donated=()):
        def compiled(*arguments):
            return tree_map(lambda array: array + 2.0**-20, function(*arguments))

        return compiled if function.__name__ == name else function

    made = trainer()
    made.context = replace(made.context, compile=compile_)
    return made


@pytest.mark.parametrize(
    ("name", "epoch", "step", "operation"),
    [
        ("evaluate_block", 0, None, "train_loss"),
        ("_step_block", 1, 0, "parameters.0.weight after the update"),
    ],
)
def test_the_epoch_and_the_step_are_named_where_the_operations_do_not_differ(name, epoch, step, operation):
    found = first_difference(trainer(), broken_when_compiled(name))
    assert (found.epoch, found.step, found.block, found.operation) == (epoch, step, None, operation)


def test_blocks_may_be_stacked_on_one_side():
    data = dataset(2100)
    config = replace(CONFIG, epochs=1)
    right = trainer(config, data=data, ops=BrokenSecondProduct)
    right.context = replace(right.context, stack=2)
    right.loader = replace(right.loader, stack=2)
    found = first_difference(trainer(config, data=data), right)
    assert (found.epoch, found.operation) == (0, "matmul in linear")


def test_initial_parameters_that_differ_are_named(tmp_path):
    left, right = trainer(), trainer()
    layers, statistics = right._initial_parameters
    bias = np.array(layers[0].bias)
    bias[2, 0] += 1.0
    right._initial_parameters = [layers[0]._replace(bias=bias), *layers[1:]], statistics
    found = first_difference(left, right)
    values = float(bias[2, 0] - 1.0), float(bias[2, 0])
    assert found == Difference(0, "parameters.0.bias", (2, 0), *values, found.ulp)


def test_an_update_that_differs_is_named():
    """Steps of array-api-strict move the last bias a little further."""
    right = sgd()

    def update(*arguments):
        new, state = right.update(*arguments)
        new[-1] = new[-1]._replace(bias=new[-1].bias + 1.0)
        return new, state

    strict = trainer(backend=make("array-api-strict", "device1"))
    strict.optimizer = Optimizer(right.init, update)
    found = first_difference(trainer(), strict)
    assert (found.epoch, found.step, found.block) == (1, 0, None)
    assert (found.operation, found.index) == ("parameters.1.bias after the update", (0, 0))


def test_running_statistics_that_differ_are_named(monkeypatch):
    update = step.update_running_statistics

    def broken(running, *arguments):
        statistics = update(running, *arguments)
        strict = not isinstance(running.mean, np.ndarray)
        return statistics._replace(variance=statistics.variance * 2.0) if strict else statistics

    monkeypatch.setattr(step, "update_running_statistics", broken)
    found = first_difference(
        trainer(EVERYTHING), trainer(EVERYTHING, backend=make("array-api-strict", "device1"))
    )
    assert (found.epoch, found.step, found.block) == (1, 0, None)
    assert found.operation == "statistics.0.variance after the update"


def test_the_state_of_the_optimizer_alone_may_differ():
    right = trainer(replace(CONFIG, optimizer="adam", epochs=1))
    adam = right.optimizer

    def update(*arguments):
        new, state = adam.update(*arguments)
        return new, tree_map(lambda array: array * 2.0, state)

    right.optimizer = Optimizer(adam.init, update)
    found = first_difference(trainer(right.config), right)
    assert (found.epoch, found.step, found.block) == (1, 0, None)
    assert re.fullmatch(r"optimizer\.\S+ after the update", found.operation)


@pytest.mark.parametrize("diverging", [0, 1])
def test_one_side_may_diverge(diverging):
    """Its second step makes the parameters infinite."""
    right = sgd()

    def update(means, state, parameters, rate):
        new, state = right.update(means, state, parameters, rate)
        broken = [layer._replace(bias=layer.bias * np.inf) for layer in new]
        return (broken if bool(seen) else new), seen.append(1) or state

    seen = []
    sides = trainer(), trainer()
    sides[diverging].optimizer = Optimizer(right.init, update)
    found = first_difference(*sides)
    assert (found.epoch, found.step, found.operation) == (2, 0, "parameters.0.bias after the update")


def test_both_sides_may_diverge_alike():
    config = replace(CONFIG, learning_rate=1e300, epochs=4)
    assert first_difference(trainer(config), trainer(config)) is None


def test_a_difference_that_does_not_repeat_is_an_error():
    calls = []

    class Once(Reproducible):
        def exp(self, x):
            calls.append(x)
            y = super().exp(x)
            return off(y) if len(calls) == 1 else y

    with pytest.raises(BackendError, match="epoch 0 differs, but not when computed again"):
        first_difference(trainer(), trainer(ops=Once))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 10}, {"hidden": (4,)}, {"learning_rate": 0.2}, {"dropout": 0.1}]
)
def test_other_settings_are_not_compared(change):
    with pytest.raises(ConfigError, match=f"one {next(iter(change))}, got"):
        first_difference(trainer(), trainer(replace(CONFIG, **change)))


def test_other_dtypes_are_not_compared():
    """An automatic dtype is the one it comes to."""
    native = {"arithmetic": "native"}
    with pytest.raises(ConfigError, match="one dtype, got 'float32' and 'float64'"):
        first_difference(
            Trainer(replace(CONFIG, **native), dataset(), make("numpy", "cpu")),
            Trainer(replace(CONFIG, **native, dtype="float64"), dataset(), make("numpy", "cpu")),
        )
    assert first_difference(trainer(), trainer(replace(CONFIG, dtype="float64"))) is None


def test_other_data_are_not_compared():
    with pytest.raises(ConfigError, match="the same data"):
        first_difference(trainer(), trainer(data=dataset(41)))


def test_recording_changes_nothing_and_notes_every_operation_in_order():
    ops = trainer().context.ops
    record = []
    recorder = record_operations(ops, np.asarray, record)
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    assert recorder.matmul(a, b) == ops.matmul(a, b)
    for x in (-b, -a):
        assert recorder.exp(x).tolist() == ops.exp(x).tolist()
    name = "test_recording_changes_nothing_and_notes_every_operation_in_order"
    assert [value.operation for value in record] == [
        *(f"operand of matmul in {name}", f"operand of matmul in {name}", f"matmul in {name}"),
        *(f"operand of exp in {name}", f"exp in {name}"),
        *(f"operand of exp in {name}", f"exp in {name}"),
    ]
    assert [value.call for value in record] == [0, 0, 0, 0, 0, 1, 1]
    assert record[2].array == [[11.0]]
