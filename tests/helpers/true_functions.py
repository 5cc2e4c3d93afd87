"""Functions in decimal arithmetic, against which their errors are measured, and points to measure at."""

from decimal import Decimal


def true_tanh(x):
    t = (-2 * abs(x)).exp()
    return ((1 - t) / (1 + t)).copy_sign(x)


TRUE = {
    "exp": Decimal.exp,
    "log": Decimal.ln,
    "sqrt": Decimal.sqrt,
    "tanh": true_tanh,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
}


def uniform(low, high):
    return lambda generator, count: generator.uniform(low, high, count)
