"""Optimisers and learning rates of docs/reproducibility.md, written from that page alone: 10.3 and 10.4."""

import numpy as np
from reference import folded_sum, sqrt, tiny
from reference_images import cosine_share
from reference_network import Layer


def power(base, exponent):
    """Return f^n (10.4)."""
    result = 1.0
    for digit in f"{exponent:b}":
        result *= result
        if digit == "1":
            result *= base
    return result


def learning_rate(settings, t, steps):
    """Return α after t steps, with E steps in an epoch (10.4)."""
    schedule, rate = settings["schedule"], settings["learning_rate"]
    factor = settings["schedule_factor"]
    if factor is None:
        factor = {"step": 0.1, "exponential": 0.95}.get(schedule, 0.0)
    alpha = rate
    if schedule == "step":
        alpha = rate * power(factor, t // ((settings["schedule_step_epochs"] or 30) * steps))
    elif schedule == "exponential":
        alpha = rate * power(factor, t // steps)
    elif schedule == "cosine":
        c = cosine_share(t, settings["epochs"] * steps)
        alpha = rate * c + (rate * factor) * (1 - c)
    warmup = steps * settings["warmup_epochs"]
    return alpha * ((t + 1) / warmup) if t < warmup else alpha


def parameters(network):
    """Return W, b, gamma and beta of each layer, one after the other."""
    return [array for layer in network for array in layer[:4]]


class Optimiser:
    """The steps of an optimiser (10.3)."""

    def __init__(self, settings, network):
        self.kind, self.clip, self.max_norm = (settings[x] for x in ("optimizer", "clip_norm", "max_norm"))
        decay, momentum = settings["weight_decay"], settings["momentum"]
        self.decay = decay if decay is not None else 0.01 if self.kind == "adamw" else 0.0
        self.momentum = 0.9 if momentum is None else momentum
        self.m = self.v = [np.zeros_like(p) for p in parameters(network)]
        self.c1 = self.c2 = 0.0

    def step(self, network, gradient, alpha):
        """Return the network after a step."""
        p, g = parameters(network), parameters(gradient)
        if self.clip:
            entries = np.concatenate([array.ravel() for array in g])
            norm = sqrt(folded_sum(entries * entries))
            g = [array * (self.clip / max(self.clip, norm)) for array in g]
        if self.decay > 0:
            self._decayed(p, g, alpha)
        p = list(self._updated(p, g, alpha))
        if self.max_norm:
            p[::4] = map(self._limited, p[::4])
        return [Layer(*p[4 * i : 4 * i + 4], *layer[4:]) for i, layer in enumerate(network)]

    def _decayed(self, p, g, alpha):
        decay = self.decay
        if self.kind == "adamw":
            p[::4] = [w - alpha * tiny(decay * w) for w in p[::4]]
        else:
            g[::4] = [tiny(dw + decay * w) for dw, w in zip(g[::4], p[::4], strict=True)]

    def _updated(self, p, g, alpha):
        mu = self.momentum
        if self.kind == "sgd":
            return map(lambda p, g: p - alpha * g, p, g)
        if self.kind in {"momentum", "nesterov"}:
            self.v = list(map(lambda v, g: tiny(mu * v + g), self.v, g))
            if self.kind == "momentum":
                return map(lambda p, v: p - alpha * v, p, self.v)
            return map(lambda p, g, v: p - alpha * (g + mu * v), p, g, self.v)
        assert self.kind in {"adam", "adamw"}, self.kind
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8
        rest1, rest2 = 1 - beta1, 1 - beta2
        self.m = list(map(lambda m, g: tiny(beta1 * m + rest1 * g), self.m, g))
        self.v = list(map(lambda v, g: tiny(beta2 * v + rest2 * (g * g)), self.v, g))
        self.c1 = beta1 * self.c1 + rest1
        self.c2 = beta2 * self.c2 + rest2
        rate, factor = alpha * (1 / self.c1), 1 / self.c2
        return map(lambda p, m, v: p - rate * (m / (sqrt(v * factor) + epsilon)), p, self.m, self.v)

    def _limited(self, w):
        norm = sqrt(folded_sum((w * w).T))[:, np.newaxis]
        return tiny(w * (self.max_norm / np.maximum(self.max_norm, norm)))
