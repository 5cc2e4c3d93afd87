"""Learning-rate schedules: functions from the index of a step, counted from 0, to its learning rate.

They run on the host. Every number comes from +, -, * and / of Python's floats and integers, which IEEE 754
and the language fix; ``math.cos``, ``math.exp`` and ``**`` of floats differ from one C library to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from xpnet.arithmetic.host import cosine_share, power
from xpnet.errors import ConfigError

Schedule: TypeAlias = Callable[[int], float]


def constant(rate: float) -> Schedule:
    """Return α for every step."""
    return lambda step: rate  # noqa: ARG005


def step_decay(rate: float, every: int, factor: float) -> Schedule:
    """Return α fⁿ with n = floor(step / every), f = ``factor``; for the rounding of fⁿ see ``power``."""
    return lambda step: rate * power(factor, step // every)


def exponential(rate: float, steps_per_epoch: int, factor: float) -> Schedule:
    """Return α fⁿ in epoch n from 0, f = ``factor``: the rate stays the same within an epoch."""
    return step_decay(rate, steps_per_epoch, factor)


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


@dataclass(frozen=True)
class ScheduleOptions:
    """Options of the schedules in ``SCHEDULES``.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    step_epochs: int = 30  # epochs from one decay of ``step`` to the next
    factor: float | None = None  # the factor of a decay; None: 0.1 for ``step``, 0.95 for ``exponential``
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        if self.step_epochs < 1:
            msg = f"--schedule-step-epochs: expected a whole number from 1, got {self.step_epochs}"
            raise ConfigError(msg)
        if self.factor is not None and not 0.0 < self.factor <= 1.0:
            msg = f"--schedule-factor: expected a number above 0 and up to 1, got {self.factor}"
            raise ConfigError(msg)
        if self.warmup_epochs < 0:
            msg = f"--warmup-epochs: expected a whole number from 0, got {self.warmup_epochs}"
            raise ConfigError(msg)

    def get_factor(self, default: float) -> float:
        """Return the factor, or a schedule's default."""
        return default if self.factor is None else self.factor


SCHEDULES: dict[str, Callable[[float, int, int, ScheduleOptions], Schedule]] = {
    "constant": lambda rate, steps_per_epoch, epochs, options: constant(rate),  # noqa: ARG005
    "step": lambda rate, steps_per_epoch, epochs, options: step_decay(  # noqa: ARG005
        rate, options.step_epochs * steps_per_epoch, options.get_factor(0.1)
    ),
    "exponential": lambda rate, steps_per_epoch, epochs, options: exponential(  # noqa: ARG005
        rate, steps_per_epoch, options.get_factor(0.95)
    ),
    "cosine": lambda rate, steps_per_epoch, epochs, options: cosine(  # noqa: ARG005
        rate, epochs * steps_per_epoch
    ),
}
"""Factories of schedules by name, called as ``(rate, steps_per_epoch, epochs, options)``."""


def build(name: str, rate: float, steps_per_epoch: int, epochs: int, options: ScheduleOptions) -> Schedule:
    """Return the schedule of a name in ``SCHEDULES``, with the warm-up of the options.

    Raises
    ------
    ConfigError
        There is no schedule of that name.
    """
    if name not in SCHEDULES:
        msg = f"--schedule: expected one of {', '.join(SCHEDULES)}, got {name!r}"
        raise ConfigError(msg)
    schedule = SCHEDULES[name](rate, steps_per_epoch, epochs, options)
    return warmup(schedule, options.warmup_epochs * steps_per_epoch)
