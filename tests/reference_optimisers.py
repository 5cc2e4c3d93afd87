"""Optimisers and learning rates of docs/reproducibility.md, written from that page alone: 10.3 and 10.4."""

import numpy as np
from reference import folded_sum, sqrt, tiny
from reference_images import cosine_share
from reference_network import pack, unpack


def power(base, exponent):  # f^n (10.4)
    result = 1.0
    for digit in f"{exponent:b}":
        result *= result
        if digit == "1":
            result *= base
    return result


def learning_rate(settings, t, steps):  # α after t steps, with E steps in an epoch (10.4)
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


class Optimiser:
    """The steps of an optimiser (10.3)."""

    def __init__(self, settings, network):
        self.kind, self.clip, self.max_norm = (settings[x] for x in ("optimizer", "clip_norm", "max_norm"))
        decay, momentum = settings["weight_decay"], settings["momentum"]
        self.decay = decay if decay is not None else 0.01 if self.kind == "adamw" else 0.0
        self.momentum = 0.9 if momentum is None else momentum
        fields = pack([[np.full(array.shape, i) for i, array in enumerate(layer)] for layer in network])
        self.is_parameter = fields < 4
        self.is_weight = fields[self.is_parameter] == 0
        self.m = self.v = np.zeros(len(self.is_weight))
        self.c1 = self.c2 = 0.0

    def step(self, network, gradient, alpha):  # the network after a step
        numbers = pack(network)
        p, g = numbers[self.is_parameter], gradient[self.is_parameter]
        if self.clip:
            g = g * (self.clip / max(self.clip, sqrt(folded_sum(g * g))))
        if self.decay > 0:
            p, g = self._decayed(p, g, alpha)
        numbers[self.is_parameter] = self._updated(p, g, alpha)
        network = unpack(numbers, network)
        if self.max_norm:
            network = [layer._replace(weight=self._limited(layer.weight)) for layer in network]
        return network

    def _decayed(self, p, g, alpha):
        if self.kind == "adamw":
            return np.where(self.is_weight, p - alpha * tiny(self.decay * p), p), g
        return p, np.where(self.is_weight, tiny(g + self.decay * p), g)

    def _updated(self, p, g, alpha):
        mu, beta1, beta2, epsilon = self.momentum, 0.9, 0.999, 1e-8
        if self.kind == "sgd":
            return p - alpha * g
        if self.kind in {"momentum", "nesterov"}:
            self.v = tiny(mu * self.v + g)
            return p - alpha * (self.v if self.kind == "momentum" else g + mu * self.v)
        assert self.kind in {"adam", "adamw"}, self.kind
        rest1, rest2 = 1 - beta1, 1 - beta2
        self.m = tiny(beta1 * self.m + rest1 * g)
        self.v = tiny(beta2 * self.v + rest2 * (g * g))
        self.c1 = beta1 * self.c1 + rest1
        self.c2 = beta2 * self.c2 + rest2
        return p - (alpha * (1 / self.c1)) * (self.m / (sqrt(self.v * (1 / self.c2)) + epsilon))

    def _limited(self, w):
        norm = sqrt(folded_sum((w * w).T))[:, np.newaxis]
        return tiny(w * (self.max_norm / np.maximum(self.max_norm, norm)))
