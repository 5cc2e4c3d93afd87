"""A GPU is sent little, and asked for little; libraries on the CPU stand in for one."""

from dataclasses import replace
from itertools import islice, product

import pytest
from backend_enum import BackendCase
from hooks import OnEpoch
from networks import BASE, image_data, pixels

from xpnet.arithmetic import selfcheck
from xpnet.backends.resolve import Selection, make
from xpnet.cli import train
from xpnet.data.datasets import Dataset
from xpnet.errors import DivergedError
from xpnet.training import loop
from xpnet.training.callbacks import Evaluate
from xpnet.training.loop import LoopCallback
from xpnet.training.step import Step
from xpnet.training.trainer import Trainer

DATA = image_data()
STEPS = replace(BASE, batch_size=6, log_every=3)  # 30 in an epoch
MASKED = {"dropout": 0.4, "input_dropout": 0.2, "input_noise": 0.3, "schedule": "cosine"}


def on_gpu(name="numpy", device="cpu"):
    backend = make(name, device)
    backend.on_gpu = True
    return backend


SLOW = (BackendCase.STRICT, BackendCase.JAX)
UPLOADS = [{}, MASKED, {"dropout": 0.4, "batch_size": 7}, {"input_noise": 0.2, "batch_size": "full"}]


@pytest.mark.parametrize(
    ("backend", "changes"),
    [
        *product([case for case in BackendCase if case not in SLOW], UPLOADS),
        *(pytest.param(case, {"dropout": 0.4}, marks=pytest.mark.slow) for case in SLOW),
    ],
    indirect=["backend"],
    ids=lambda value: getattr(value, "value", None),
)
def test_few_copies_to_a_gpu_change_no_bit(backend, changes):
    models, put, copies = set(), backend.from_host, []
    backend.from_host = lambda array: copies.append(1) or put(array)
    for backend.on_gpu in (False, True):
        ends = []
        with Trainer.open(replace(STEPS, **changes), DATA, backend) as trainer:
            state = trainer.fit([OnEpoch(lambda _, ends=ends: ends.append(len(copies)))]).state
            models.add(trainer.fingerprint(state))
    assert len(models) == 1
    assert ends[2] - ends[1] <= 6  # of the second epoch: its masks, noise and rates, and the next order


@pytest.mark.parametrize("stack", [4, 64])
@pytest.mark.parametrize("settings", [{}, {"batch_norm": True, "optimizer": "adam"}])
def test_a_batch_in_one_call_has_the_bits_of_its_tree_of_blocks(monkeypatch, stack, settings):
    x, y = pixels(7500, 8, 4)  # seven blocks and a short one: subtrees of 4, 2, 1 and 1 blocks
    data, prints, calls = Dataset(x, y, x[:9], y[:9], "many"), set(), []
    config = replace(BASE, batch_size="full", hidden=(5,), epochs=2, log_every=2, **settings)
    original = Step._step_batch
    monkeypatch.setattr(Step, "_step_batch", lambda *args: calls.append(1) or original(*args))
    for takes_batches in (False, True):
        backend = make("numpy", "cpu")
        backend.stack, backend.takes_batches = stack if takes_batches else 1, takes_batches
        with Trainer.open(config, data, backend) as trainer:
            prints.add(trainer.fingerprint(trainer.fit().state))
    assert (len(prints), len(calls) > 0) == (1, stack == 64)


def test_the_next_order_is_drawn_while_a_gpu_computes():
    loader = Trainer(STEPS, DATA, on_gpu()).loader
    for _ in loader.batches(1):
        assert loader.order.cache_info().misses == 1
    assert loader.order.cache_info().misses == 2


class EveryEpoch(LoopCallback):
    needs_every_epoch = True


@pytest.mark.parametrize(
    ("callbacks", "reads"), [([], [1, 1, 1, 4]), ([EveryEpoch()], [1, 2, 3, 4])], ids=["logged", "every"]
)
def test_a_gpu_is_waited_for_in_logged_epochs_unless_a_callback_needs_every_one(
    monkeypatch, callbacks, reads
):
    calls, read, ends = [], loop.to_float, []
    monkeypatch.setattr(loop, "to_float", lambda *args: calls.append(1) or read(*args))
    trainer = Trainer(STEPS, DATA, on_gpu())
    trainer.fit([*callbacks, OnEpoch(lambda _: ends.append(len(calls)))])
    assert ends == reads


@pytest.mark.parametrize("stop", [False, True])
def test_the_epoch_that_diverged_is_named_later(stop):
    trainer = Trainer(replace(STEPS, epochs=9, log_every=9, learning_rate=1e308), DATA, on_gpu())
    last = OnEpoch(lambda log: setattr(last, "stop", "user" if stop and log.epoch == 4 else None))
    with trainer.backend.scope(), pytest.raises(DivergedError, match="not finite in epoch 1:"):
        trainer.fit([Evaluate(), last])


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
def test_a_step_reads_no_value(monkeypatch, arithmetic):
    monkeypatch.setattr(selfcheck, "check", lambda *_: True)  # which does
    changes = MASKED | {"batch_norm": True, "optimizer": "adamw", "clip_norm": 0.1, "max_norm": 0.5}
    changes |= {"class_weight": "balanced", "label_smoothing": 0.1, "weight_decay": 0.01}
    for each in ({}, changes, {"augment_rotate": 9.0, "augment_elastic_alpha": 8.0}, {"batch_size": "full"}):
        config = replace(STEPS, arithmetic=arithmetic, **each)
        with Trainer.open(config, DATA, on_gpu("torch", "meta")) as trainer:
            variables = trainer.initial_state().variables
            for batch in islice(trainer.loader.batches(1, at_once=5), 2):
                variables = trainer.step(variables, batch, *[0.1] * batch.steps)
            assert {x.device.type for layer in variables.parameters for x in layer} == {"meta"}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_auto_says_that_a_step_is_small(monkeypatch, device):
    trainer = Trainer(STEPS, DATA, on_gpu())
    for most, noted in ((1 << 22, device == "auto"), (0, False)):
        monkeypatch.setattr(train, "FEW_MULTIPLICATIONS", most)
        lines = train.describe_training(Selection(trainer.backend, device, "cuda:0"), trainer, None)
        assert any("the CPU is likely faster (an estimate): --device cpu" in line for line in lines) == noted
