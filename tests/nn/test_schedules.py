"""Schedules: against PyTorch's, and closed forms in high precision; docs/vectors has their exact bits."""

import warnings
from decimal import Decimal, localcontext
from typing import get_args

import pytest

from xpnet.arithmetic.host import cosine_share
from xpnet.config.settings import ScheduleName
from xpnet.nn.schedules import build


def linear(schedulers, optimizer):
    """Five steps of warm-up: 1/5, 2/5, … 1."""
    return schedulers.LinearLR(optimizer, start_factor=0.2, end_factor=1.0, total_iters=4)


TORCH = {  # name, settings, and PyTorch's
    "constant": ("constant", {}, lambda s, o: s.ConstantLR(o, factor=1.0)),
    "step": ("step", {"step_epochs": 7, "factor": 0.3}, lambda s, o: s.StepLR(o, step_size=7, gamma=0.3)),
    "usual step": ("step", {}, lambda s, o: s.StepLR(o, step_size=30)),
    "exponential": ("exponential", {"factor": 0.9}, lambda s, o: s.ExponentialLR(o, gamma=0.9)),
    "usual exponential": ("exponential", {}, lambda s, o: s.ExponentialLR(o, gamma=0.95)),
    "cosine": ("cosine", {"factor": 0.1}, lambda s, o: s.CosineAnnealingLR(o, T_max=100, eta_min=0.01)),
    "usual cosine": ("cosine", {}, lambda s, o: s.CosineAnnealingLR(o, T_max=100)),
    "warm-up": ("constant", {"warmup_epochs": 5}, linear),
    "warm-up of step": (
        "step",
        {"step_epochs": 3, "factor": 0.5, "warmup_epochs": 5},
        lambda s, o: s.ChainedScheduler([linear(s, o), s.StepLR(o, step_size=3, gamma=0.5)], optimizer=o),
    ),
}


def test_every_schedule_has_a_row():
    assert {name for name, *_ in TORCH.values()} == set(get_args(ScheduleName))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("row", TORCH)
def test_schedules_are_pytorchs(row):
    import torch

    name, options, make = TORCH[row]
    optimizer, expected = torch.optim.SGD([torch.zeros(1)], lr=0.1), []
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser makes no steps
        for _ in range(100):
            expected.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    schedule = build(name, 0.1, 1, 100, **options)
    assert [schedule(step) for step in range(100)] == pytest.approx(expected, rel=1e-12, abs=1e-13)


def true_share(step, steps):
    """(1 + cos(π step/steps))/2, from the series of the cosine in 60 decimal digits."""
    with localcontext(prec=60):
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
        x = pi * step / steps
        total = term = Decimal(1)
        for k in range(2, 100, 2):
            term = -term * x * x / (k * (k - 1))
            total += term
        return (1 + total) / 2


def test_the_cosine_is_correctly_rounded():
    for steps in (1, 2, 3, 7, 100, 500):
        shares = [cosine_share(step, steps) for step in range(steps)]
        assert shares == [float(true_share(step, steps)) for step in range(steps)]
        assert shares == sorted(shares, reverse=True)
    assert cosine_share(10**7 - 1, 10**7) == float(true_share(10**7 - 1, 10**7))


def test_epochs_of_several_steps_and_of_none():
    for name, options in (("step", {"step_epochs": 2}), ("cosine", {}), ("constant", {"warmup_epochs": 2})):
        steps = {key: 10 * value for key, value in options.items()}
        of_epochs, of_steps = build(name, 0.2, 10, 6, **options), build(name, 0.2, 1, 60, **steps)
        assert [of_epochs(step) for step in range(60)] == [of_steps(step) for step in range(60)]
    build("cosine", 0.2, 10, 0)  # no epochs need no rate
