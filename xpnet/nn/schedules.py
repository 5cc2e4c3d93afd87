"""Learning-rate schedules: functions from the index of a step, counted from 0, to its learning rate.

They run on the host. Every number comes from +, -, * and / of Python's floats and integers, which IEEE 754
and the language fix; ``math.cos``, ``math.exp`` and ``**`` of floats differ from one C library to the next.
"""

from collections.abc import Callable

from xpnet.arithmetic.host import cosine_share, power

Schedule = Callable[[int], float]


def constant(rate: float) -> Schedule:
    """Return α for every step."""
    return lambda step: rate  # noqa: ARG005


def step_decay(rate: float, every: int, factor: float) -> Schedule:
    """Return α fⁿ with n = floor(step / every), f = ``factor``; for the rounding of fⁿ see ``power``.

    If ``every`` is an epoch, the rate falls exponentially, and stays the same within an epoch.
    """
    return lambda step: rate * power(factor, step // every)


def cosine(rate: float, steps: int, final: float = 0.0) -> Schedule:
    """Return α c + α_final (1 - c) with c = (1 + cos(π step/steps))/2 (Loshchilov & Hutter 2017).

    From ``steps`` on it is ``final``.
    """

    def schedule(step: int) -> float:
        weight = cosine_share(step, steps) if step < steps else 0.0
        return rate * weight + final * (1.0 - weight)

    return schedule


def warmup(schedule: Schedule, steps: int) -> Schedule:
    """Return the schedule multiplied by 1/steps, 2/steps, … 1 in the first steps (Goyal et al. 2017).

    The schedule's own clock runs from the first step, so that it decays at the same steps with and without
    warm-up.
    """
    return lambda step: schedule(step) * ((step + 1) / steps if step < steps else 1.0)


# By name


def build(
    name: str,
    rate: float,
    steps_per_epoch: int,
    epochs: int,
    *,
    step_epochs: int | None = None,
    factor: float | None = None,
    warmup_epochs: int = 0,
) -> Schedule:
    """Return the schedule of a name, with warm-up.

    Parameters
    ----------
    step_epochs : epochs from one decay of ``step`` to the next; None: 30
    factor : the factor of a decay, of ``cosine`` the share of the rate that it ends with; None: 0.1 for
        ``step``, 0.95 for ``exponential``, 0 for ``cosine``
    """
    schedules = {
        "constant": constant(rate),
        "step": step_decay(rate, (step_epochs or 30) * steps_per_epoch, factor or 0.1),
        "exponential": step_decay(rate, steps_per_epoch, factor or 0.95),
        "cosine": cosine(rate, epochs * steps_per_epoch, rate * (factor or 0.0)),
    }
    return warmup(schedules[name], warmup_epochs * steps_per_epoch)
