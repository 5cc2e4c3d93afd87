"""first_difference names the epoch, the step, the block and the operation."""

from dataclasses import replace

import pytest
from backend_enum import BackendCase
from networks import pixels

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import ConfigError
from xpnet.nn import functional
from xpnet.parity import first_difference
from xpnet.training.trainer import Trainer

CONFIG = TrainConfig(epochs=2, hidden=(5,))
STEPS = replace(CONFIG, batch_size=16)  # of 40 samples: three steps an epoch
EVERYTHING = replace(STEPS, batch_norm=True, dropout=0.3, validation=8, optimizer="adam", learning_rate=0.01)
TWO_BLOCKS = replace(CONFIG, batch_size=1200)
AUGMENTED = replace(EVERYTHING, augment_shift=1.0, augment_elastic_alpha=2.0)


def trainer(config=CONFIG, backend=None, samples=40, **methods):
    """A trainer without compilation, with an arithmetic some of whose methods may be broken."""
    backend, (x, y) = backend or make("numpy", "cpu"), pixels(samples, 9, 3)
    with backend.scope():
        made = Trainer(config, Dataset(x, y, x[:10], y[:10], "small"), backend)
        ops = type("Broken", (Reproducible,), methods)(backend.xp, backend.device, backend.xp.float64)
        made.context = replace(made.context, ops=ops, as_written=True)
    return made


def off(x):
    """Move numbers so that neither rounding to a grid nor softmax hides it."""
    return x * (1.0 + 2.0**-20) + 2.0**-20


def broken(name, columns):
    """A method of an arithmetic that gives another result for operands with so many columns."""
    method = getattr(Reproducible, name)

    def call(self, a, *operands, **options):
        result = method(self, a, *operands, **options)
        if (a.values.shape[a.own_axis(-1)] if hasattr(a, "own_axis") else a.shape[-1]) != columns:
            return result
        return (off(result[0]), *result[1:]) if isinstance(result, tuple) else off(result)

    return {name: call}


PRODUCT = broken("matmul", 5)  # by the weights of layer 1
SHORT_BLOCK = broken("weight_and_bias_gradients", 176)


@pytest.mark.parametrize(
    ("config", "case"), [(AUGMENTED, BackendCase.STRICT), (replace(EVERYTHING, epochs=1), BackendCase.TORCH)]
)
def test_reproducible_trainings_do_not_differ(config, case):
    assert first_difference(trainer(config), trainer(config, case.make())) is None


@pytest.mark.parametrize(
    ("config", "samples", "methods", "place", "operation"),
    [
        (CONFIG, 40, PRODUCT, (0, None, 0, 1), "matmul in linear"),
        # A batch of two blocks, with 1,024 and 176 samples.
        (TWO_BLOCKS, 1300, SHORT_BLOCK, (1, 0, 1, 0), "weight_and_bias_gradients in linear_backward"),
    ],
)
def test_the_operation_is_named(config, samples, methods, place, operation):
    found = first_difference(trainer(config, None, samples), trainer(config, None, samples, **methods))
    assert (found.epoch, found.step, found.block, found.call, found.operation) == (*place, operation)


def test_a_broken_elementwise_function_is_an_operand_of_the_next_operation(monkeypatch):
    softmax = functional.softmax

    def broken_softmax(ops, z):
        return softmax(ops, z) if "numpy" in ops.xp.__name__ else off(softmax(ops, z))

    monkeypatch.setattr(functional, "softmax", broken_softmax)
    found = first_difference(trainer(), trainer(backend=BackendCase.STRICT.make()))
    assert (found.epoch, found.step) == (1, 0)
    assert found.operation == "operand of weight_and_bias_gradients in linear_backward"


def test_the_result_is_named_if_no_operation_differs():
    left, right = trainer(STEPS), trainer(STEPS)
    right.learning_rate = lambda step: left.learning_rate(step) * (1 if step < 5 else 2)
    found = first_difference(left, right)
    assert (found.epoch, found.step, found.block) == (2, 2, None)
    assert found.operation == "parameters.0.weight after the update"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": replace(CONFIG, seed=1)}, "one seed, got 0 and 1"),
        ({"config": replace(CONFIG, arithmetic="native")}, "one dtype, got 'float64' and 'float32'"),
        ({"samples": 41}, "the same data"),
    ],
)
def test_other_settings_and_data_are_not_compared(changes, message):
    with pytest.raises(ConfigError, match=message):
        first_difference(trainer(), trainer(**changes))
