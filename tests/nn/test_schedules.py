"""Schedules: against PyTorch's, and closed forms in high precision; docs/vectors has their exact bits."""

import warnings
from decimal import Decimal, localcontext

import pytest

from xpnet.arithmetic.host import cosine_share
from xpnet.nn.schedules import SCHEDULES, build, constant, cosine, step_decay, warmup


def ours(schedule, count):
    rates = [schedule(step) for step in range(count)]
    assert all(type(rate) is float for rate in rates)
    return rates


def linear(schedulers, optimizer):
    """Five steps of warm-up: 1/5, 2/5, … 1."""
    return schedulers.LinearLR(optimizer, start_factor=0.2, end_factor=1.0, total_iters=4)


TORCH = {  # a schedule, and PyTorch's
    "constant": (constant(0.1), lambda s, o: s.ConstantLR(o, factor=1.0)),
    "step": (step_decay(0.1, 7, 0.3), lambda s, o: s.StepLR(o, step_size=7, gamma=0.3)),
    "exponential": (build("exponential", 0.1, 1, 99, factor=0.9), lambda s, o: s.ExponentialLR(o, gamma=0.9)),
    "cosine": (cosine(0.1, 100, 0.01), lambda s, o: s.CosineAnnealingLR(o, T_max=100, eta_min=0.01)),
    "warm-up": (warmup(constant(0.1), 5), linear),
    "warm-up of step": (
        warmup(step_decay(0.1, 3, 0.5), 5),
        lambda s, o: s.ChainedScheduler([linear(s, o), s.StepLR(o, step_size=3, gamma=0.5)], optimizer=o),
    ),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", TORCH)
def test_schedules_are_pytorchs(name):
    import torch

    schedule, make = TORCH[name]
    optimizer, expected = torch.optim.SGD([torch.zeros(1)], lr=0.1), []
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser makes no steps
        for _ in range(100):
            expected.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    assert ours(schedule, 100) == pytest.approx(expected, rel=1e-12, abs=1e-13)


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


def test_schedules_by_name():
    options = {"step_epochs": 2, "factor": 0.5}
    expected = {
        "constant": constant(0.2),
        "step": step_decay(0.2, 20, 0.5),
        "exponential": step_decay(0.2, 10, 0.5),
        "cosine": cosine(0.2, 60, 0.1),
    }
    assert set(expected) == set(SCHEDULES)
    for name, schedule in expected.items():
        assert ours(build(name, 0.2, 10, 6, **options), 60) == ours(schedule, 60)
        warm = build(name, 0.2, 10, 6, **options, warmup_epochs=2)
        assert ours(warm, 60) == ours(warmup(schedule, 20), 60)
        build(name, 0.2, 10, 0, **options)  # no epochs need no rate
