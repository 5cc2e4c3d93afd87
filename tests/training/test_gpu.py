"""A GPU is sent little, and asked for little; libraries on the CPU stand in for one."""

from dataclasses import replace
from itertools import islice

import pytest
from hooks import OnEpoch
from networks import BASE, image_data, pixels

from xpnet.arithmetic import selfcheck
from xpnet.backends.resolve import Selection, make
from xpnet.cli import train
from xpnet.data.datasets import Dataset
from xpnet.training import loop
from xpnet.training.step import Step
from xpnet.training.trainer import Trainer

DATA = image_data()
STEPS = replace(BASE, batch_size=6, log_every=3)  # 30 in an epoch
MASKED = {"dropout": 0.4, "input_dropout": 0.2, "input_noise": 0.3, "schedule": "cosine"}
EVERYTHING = {"batch_norm": True, "optimizer": "adamw", "clip_norm": 0.1, "max_norm": 0.5, **MASKED}
EVERYTHING |= {"class_weight": "balanced", "label_smoothing": 0.1, "weight_decay": 0.01}
DISTORTED = {"augment_rotate": 9.0, "augment_elastic_alpha": 8.0, "batch_size": "full"}


def on_gpu(name="numpy", device="cpu"):
    backend = make(name, device)
    backend.on_gpu = True
    return backend


@pytest.mark.parametrize("changes", [{**MASKED, "batch_size": 7}, {"input_noise": 0.2, "batch_size": "full"}])
def test_few_copies_to_a_gpu_change_no_bit(backend, changes):
    models, put, copies, ends = set(), backend.from_host, [], []
    backend.from_host = lambda array: copies.append(1) or put(array)
    for backend.on_gpu in (False, True):
        with Trainer.open(replace(STEPS, **changes), DATA, backend) as trainer:
            models.add(trainer.fingerprint(trainer.fit([OnEpoch(lambda _: ends.append(len(copies)))]).state))
    assert len(models) == 1
    assert ends[-1] - ends[-2] <= 6  # of the last epoch: its masks, noise and rates


def test_a_batch_in_one_call_has_the_bits_of_its_tree_of_blocks(monkeypatch):
    x, y = pixels(7500, 8, 4)  # seven blocks and a short one: subtrees of 4, 2, 1 and 1 blocks
    data, prints, calls, original = Dataset(x, y, x[:9], y[:9], "many"), [], [], Step._step_batch
    config = replace(BASE, batch_size="full", epochs=2, batch_norm=True, optimizer="adam")
    monkeypatch.setattr(Step, "_step_batch", lambda *args: calls.append(1) or original(*args))
    for stack, takes_batches in ((1, False), (64, True), (4, True)):
        backend = make("numpy", "cpu")
        backend.stack, backend.takes_batches = stack, takes_batches
        with Trainer.open(config, data, backend) as trainer:
            prints.append((trainer.fingerprint(trainer.fit().state), len(calls)))
    fingerprint = prints[0][0]
    assert prints == [(fingerprint, 0), (fingerprint, 2), (fingerprint, 2)]


def test_a_gpu_is_waited_for_in_logged_epochs_and_draws_the_next_order_meanwhile(monkeypatch):
    calls, read, ends = [], loop.to_float, []
    monkeypatch.setattr(loop, "to_float", lambda *args: calls.append(1) or read(*args))
    trainer = Trainer(STEPS, DATA, on_gpu())
    trainer.fit([OnEpoch(lambda _: ends.append(len(calls)))])
    assert ends == [1, 1, 1, 4]
    assert trainer.loader.order.cache_info().misses == 4


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arithmetic", ["reproducible", "native"])
@pytest.mark.parametrize("changes", [EVERYTHING, DISTORTED])
def test_a_step_reads_no_value(monkeypatch, arithmetic, changes):
    monkeypatch.setattr(selfcheck, "check", lambda *_: True)  # which does
    config = replace(STEPS, arithmetic=arithmetic, **changes)
    with Trainer.open(config, DATA, on_gpu("torch", "meta")) as trainer:
        variables = trainer.initial_state().variables
        for batch in islice(trainer.loader.batches(1, at_once=5), 2):
            variables = trainer.step(variables, batch, *[0.1] * batch.steps)
        assert {x.device.type for layer in variables.parameters for x in layer} == {"meta"}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_auto_says_that_a_step_is_small(device):
    backend = on_gpu()
    lines = train.describe_training(Selection(backend, device, "cuda:0"), Trainer(STEPS, DATA, backend), None)
    note = "the CPU is likely faster (an estimate): --device cpu"
    assert any(note in line for line in lines) == (device == "auto")
