"""Schedules against PyTorch's; docs/vectors has their exact bits."""

import warnings
from typing import get_args

import pytest

from xpnet.config.settings import ScheduleName
from xpnet.nn.schedules import build


def linear(schedulers, optimizer):
    return schedulers.LinearLR(optimizer, start_factor=0.2, end_factor=1.0, total_iters=4)


TORCH = {  # settings, and PyTorch's schedule of epochs of five steps
    "constant": ({"warmup_epochs": 1}, linear),
    "step": (
        {"step_epochs": 2, "factor": 0.5, "warmup_epochs": 1},
        lambda s, o: s.ChainedScheduler([linear(s, o), s.StepLR(o, step_size=10, gamma=0.5)], optimizer=o),
    ),
    "exponential": ({}, lambda s, o: s.StepLR(o, step_size=5, gamma=0.95)),
    "cosine": ({"factor": 0.1}, lambda s, o: s.CosineAnnealingLR(o, T_max=100, eta_min=0.01)),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_schedules_are_pytorchs(name):
    import torch

    options, make = TORCH[name]
    optimizer, expected = torch.optim.SGD([torch.zeros(1)], lr=0.1), []
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser makes no steps
        for _ in range(100):
            expected.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    schedule = build(name, 0.1, 5, 20, **options)
    assert [schedule(step) for step in range(100)] == pytest.approx(expected, rel=1e-12, abs=1e-13)
