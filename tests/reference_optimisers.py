"""Optimisers and learning rates of docs/reproducibility.md, written from that page alone: 10.3 and 10.4."""

from collections.abc import Callable
from typing import Any

from reference import Vector, folded_sum, sqrt, tiny
from reference_images import cosine_share
from reference_network import Network, elementwise

Settings = dict[str, Any]


def power(base: float, exponent: int) -> float:
    """Return f^n (10.4)."""
    result = 1.0
    for digit in f"{exponent:b}":
        result *= result
        if digit == "1":
            result *= base
    return result


def learning_rate(settings: Settings, t: int, steps: int) -> float:
    """Return α after t steps, with E steps in an epoch (10.4)."""
    schedule, rate = settings["schedule"], settings["learning_rate"]
    factor = settings["schedule_factor"]
    if factor is None:
        factor = {"step": 0.1, "exponential": 0.95}.get(schedule, 0.0)
    if schedule == "step":
        alpha = rate * power(factor, t // ((settings["schedule_step_epochs"] or 30) * steps))
    elif schedule == "exponential":
        alpha = rate * power(factor, t // steps)
    elif schedule == "cosine":
        c = cosine_share(t, settings["epochs"] * steps)
        alpha = rate * c + (rate * factor) * (1 - c)
    else:
        alpha = rate
    warmup = steps * settings["warmup_epochs"]
    return alpha * ((t + 1) / warmup) if t < warmup else alpha


class Optimiser:
    """The steps of an optimiser (10.3)."""

    def __init__(self, settings: Settings, network: Network) -> None:
        self._kind, self._clip, self._max_norm = (settings[x] for x in ("optimizer", "clip_norm", "max_norm"))
        decay, momentum = settings["weight_decay"], settings["momentum"]
        self._decay = decay if decay is not None else 0.01 if self._kind == "adamw" else 0.0
        self._momentum = 0.9 if momentum is None else momentum
        self.m = self.v = elementwise(lambda p: 0.0, [layer.parameters for layer in network])
        self._c1 = self._c2 = 0.0

    def step(self, network: Network, gradient: Network, alpha: float) -> Network:
        """Return the network after a step."""
        p, g = ([layer.parameters for layer in each] for each in (network, gradient))
        if self._clip:
            norm = sqrt(folded_sum([value * value for layer in g for row in layer.rows for value in row]))
            factor = self._clip / max(self._clip, norm)
            g = elementwise(lambda x: x * factor, g)
        if self._decay > 0:
            p, g = self._decayed(p, g, alpha)
        p = self._updated(p, g, alpha)
        if self._max_norm:
            p = [layer._replace(weight=[self._limited(row) for row in layer.weight]) for layer in p]
        return [b._replace(mean=a.mean, variance=a.variance) for a, b in zip(network, p, strict=True)]

    def _decayed(self, p: Network, g: Network, alpha: float) -> tuple[Network, Network]:
        decay = self._decay

        def weights_only(rule: Callable[[float, float], float], first: Network, second: Network) -> Network:
            changed = elementwise(rule, first, second)
            return [a._replace(weight=b.weight) for a, b in zip(first, changed, strict=True)]

        if self._kind == "adamw":
            return weights_only(lambda w, _: w - alpha * tiny(decay * w), p, p), g
        return p, weights_only(lambda dw, w: tiny(dw + decay * w), g, p)

    def _updated(self, p: Network, g: Network, alpha: float) -> Network:
        mu = self._momentum
        if self._kind == "sgd":
            return elementwise(lambda p, g: p - alpha * g, p, g)
        if self._kind in {"momentum", "nesterov"}:
            self.v = elementwise(lambda v, g: tiny(mu * v + g), self.v, g)
            if self._kind == "momentum":
                return elementwise(lambda p, v: p - alpha * v, p, self.v)
            return elementwise(lambda p, g, v: p - alpha * (g + mu * v), p, g, self.v)
        assert self._kind in {"adam", "adamw"}, self._kind
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8
        rest1, rest2 = 1 - beta1, 1 - beta2
        self.m = elementwise(lambda m, g: tiny(beta1 * m + rest1 * g), self.m, g)
        self.v = elementwise(lambda v, g: tiny(beta2 * v + rest2 * (g * g)), self.v, g)
        self._c1 = beta1 * self._c1 + rest1
        self._c2 = beta2 * self._c2 + rest2
        rate, factor = alpha * (1 / self._c1), 1 / self._c2
        return elementwise(lambda p, m, v: p - rate * (m / (sqrt(v * factor) + epsilon)), p, self.m, self.v)

    def _limited(self, row: Vector) -> list[float]:
        norm = sqrt(folded_sum([w * w for w in row]))
        factor = self._max_norm / max(self._max_norm, norm)
        return [tiny(w * factor) for w in row]
