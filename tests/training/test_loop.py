"""The training loop: several steps at once, divergence, memory."""

import gc
import weakref

import pytest
from backend_enum import CASES
from networks import pixels

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.errors import DivergedError
from xpnet.training.callbacks import Evaluate
from xpnet.training.loop import LoopCallback
from xpnet.training.trainer import Trainer

X, LABELS = pixels(2600, 20, 5)  # two blocks and a short one


def data_of(count):
    return Dataset(X[:count], LABELS[:count], X[:10], LABELS[:10], "small")


class Steps(LoopCallback):
    def __init__(self, *, single):
        self.needs_every_step, self.ends = single, []

    def on_step_end(self, state):
        self.ends.append(state.batch)


def test_steps_at_once_give_the_model_of_single_steps(backend):
    config = TrainConfig(batch_size=30, epochs=1, hidden=(4,), optimizer="adam", schedule="cosine")
    steps, models = [Steps(single=False), Steps(single=True)], set()
    for callback in steps:
        with Trainer.open(config, data_of(640), backend) as trainer:
            models.add(trainer.fingerprint(trainer.fit([callback]).state))
    assert len(models) == 1
    assert [callback.ends for callback in steps] == [[21, 22], [*range(1, 23)]]


@pytest.mark.parametrize(
    ("batch_size", "callbacks", "on_gpu"),
    [("full", [Evaluate()], False), (10, [Evaluate()], True), (10, (), False)],
)
def test_values_that_are_not_finite_end_training_and_name_the_epoch(batch_size, callbacks, on_gpu):
    backend = make("numpy", "cpu")
    backend.on_gpu = on_gpu
    settings = {"hidden": (4,), "batch_size": batch_size, "learning_rate": 1e308, "log_every": 5}
    trainer = Trainer(TrainConfig(epochs=5, **settings), data_of(40), backend)
    with backend.scope(), pytest.raises(DivergedError, match=r"not finite in epoch [12]:"):
        trainer.fit(callbacks)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_memory_of_a_training_ends_with_it(case):
    config = TrainConfig(batch_size=26, epochs=3, hidden=(4,))  # whole batches
    gc.disable()  # it would find cycles of references, but who knows when
    try:
        for _ in range(2):  # the check of a device, which is kept, holds the first backend
            with Trainer.open(config, data_of(2600), case.make()) as trainer:
                trainer.fit([Evaluate()])
                parts = [*map(weakref.ref, (trainer, trainer.loader, trainer.step, trainer.context))]
            del trainer
            assert [part() for part in parts] == [None] * 4
    finally:
        gc.enable()
