"""Optimisers: pairs of pure functions ``init`` and ``update``, with their state in between.

Each step is given its learning rate α (``xpnet.nn.schedules``). ``OPTIMIZERS`` lists the rules by name, and
``build`` returns an optimiser from settings: a rule, with weight decay and limits of norms.

Parameters, gradients and averages of gradients are lists of named tuples of arrays, one per layer; None are
those that other ranks update. Only the fields named ``weight`` decay and have their norm limited.
"""

import math
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from xpnet._lib.tree import leaves, tree_map
from xpnet._typing import Array, Function
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.elementary import flush_tiny
from xpnet.nn.layers import Parameters

MOST_JOINED = 1 << 15
"""Entries up to which starting an operation takes longer than joining arrays."""


class AdamState(NamedTuple):
    """Averages of the gradients and of their squares, and the sums of the weights in these averages."""

    m: Parameters
    v: Parameters
    m_total: Array  # (1, 1), 1 - β₁ᵗ
    v_total: Array  # (1, 1), 1 - β₂ᵗ


OptimizerState = tuple[()] | Parameters | AdamState
"""The state of ``sgd``, of momentum (the velocity), and of ``adam``."""

Update = tuple[Parameters, Any]
"""New parameters and a new state."""


class Optimizer(NamedTuple):
    """An update rule: gradients and a state give new parameters and a new state.

    States are tuples, named tuples and lists of arrays, so that a library can compile ``update``. Inside a
    compiled function the learning rate is a traced scalar, used only as a factor of arrays: its product with
    a number of the host would be float64 in NumPy.
    """

    init: Function  # parameters -> state
    update: Function
    # (gradients, state, parameters, learning rate) -> (new parameters, new state)
    clips: bool = False  # True if a further argument, all gradients, is needed for an update of some


# The rules


def sgd() -> Optimizer:
    """Gradient descent: W := W - α dW, b := b - α db."""

    def update(gradients: Parameters, state: Any, parameters: Parameters, learning_rate: float) -> Update:
        return tree_map(lambda p, g: p - learning_rate * g, parameters, gradients), state

    return Optimizer(lambda _: (), update)


def momentum(ops: Arithmetic, decay: float = 0.9, *, nesterov: bool = False) -> Optimizer:
    """Gradient descent with momentum μ (``decay``): v := μ v + g, p := p - α v (Polyak 1964).

    The state is v, which starts at 0. As in PyTorch, α is outside of v. With ``nesterov``, the step is
    p := p - α (g + μ v) (Nesterov's momentum, Sutskever et al. 2013, as in PyTorch).
    """

    def update(gradients: Parameters, state: Any, parameters: Parameters, learning_rate: float) -> Update:
        velocity = tree_map(lambda v, g: flush_tiny(decay * v + g), state, gradients)
        directions = tree_map(lambda g, v: g + decay * v, gradients, velocity) if nesterov else velocity
        return tree_map(lambda p, d: p - learning_rate * d, parameters, directions), velocity

    return Optimizer(partial(_zeros_like, ops), update)


def adam(ops: Arithmetic, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma & Ba 2015, algorithm 1), with β₁, β₂ and ε = ``b1``, ``b2`` and ``eps``.

    With m, v, c₁ and c₂ starting at 0:

        m := β₁ m + (1 - β₁) g      c₁ := β₁ c₁ + (1 - β₁), which is 1 - β₁ᵗ after t steps
        v := β₂ v + (1 - β₂) g²     c₂ := β₂ c₂ + (1 - β₂)
        p := p - α/c₁ · m / (√(v/c₂) + ε)

    Averaging ones beside the gradients needs no power, and no difference of nearly equal numbers.
    """

    def average(old: Array, new: Array | float, decay: float) -> Array:
        return decay * old + (1.0 - decay) * new

    def init(parameters: Parameters) -> AdamState:
        m_total, v_total = (ops.xp.zeros((1, 1), dtype=ops.dtype, device=ops.device) for _ in range(2))
        return AdamState(_zeros_like(ops, parameters), _zeros_like(ops, parameters), m_total, v_total)

    def update(gradients: Parameters, state: Any, parameters: Parameters, learning_rate: float) -> Update:
        m = tree_map(lambda m, g: flush_tiny(average(m, g, b1)), state.m, gradients)
        v = tree_map(lambda v, g: flush_tiny(average(v, g * g, b2)), state.v, gradients)
        state = AdamState(m, v, average(state.m_total, 1.0, b1), average(state.v_total, 1.0, b2))
        rate = learning_rate * ops.reciprocal(state.m_total)
        unbias = ops.reciprocal(state.v_total)

        roots = _map_joined(lambda v: ops.sqrt(v * unbias) + eps, ops, state.v)
        return tree_map(lambda p, m, root: p - rate * (m / root), parameters, state.m, roots), state

    return Optimizer(init, update)


# Changes of gradients and weights, besides a rule


def add_weight_decay(gradients: Parameters, parameters: Parameters, weight_decay: float) -> Parameters:
    """Add λ W to the gradients of the weights: the loss gains λ/2 ‖W‖² (λ is ``weight_decay``)."""
    return _map_weights(lambda g, w: flush_tiny(g + weight_decay * w), gradients, parameters)


def shrink_weights(parameters: Parameters, weight_decay: float, learning_rate: float) -> Parameters:
    """Shrink the weights beside the step, not through the gradients: W := W - α λ W.

    With ``adam`` it is AdamW (Loshchilov & Hutter 2019, algorithm 2, as in PyTorch).
    """
    return _map_weights(lambda w: w - learning_rate * flush_tiny(weight_decay * w), parameters)


def clip_gradients(ops: Arithmetic, gradients: Parameters, norm: float, every: object = None) -> Parameters:
    """Scale gradients by one factor so that the global norm ‖g‖ of all of them is at most ``norm``.

    g := g · (c / max(c, ‖g‖)), c = ``norm``, where ‖g‖² is one sum over the squares of all entries of all
    arrays in their order, row by row (Pascanu et al. 2013). If not all are given, ``every`` has them.
    """
    factor = _norm_factor(ops, _join(ops, every or gradients), norm)
    return tree_map(lambda g: g * factor, gradients)


def limit_norms(ops: Arithmetic, parameters: Parameters, limit: float) -> Parameters:
    """Scale the incoming weights w of each unit to a norm of at most ``limit``.

    w := w · (c / max(c, ‖w‖)), c = ``limit``, for each row w of a weight (units, inputs) (Srivastava et al.
    2014, section 5.1).
    """
    return _map_weights(lambda w: flush_tiny(w * _norm_factor(ops, w, limit)), parameters)


# By name


class Rule(NamedTuple):
    """An update rule with what is its own: its weight decay, and its row in the table of docs/training.md."""

    build: Function  # (ops, **options) -> the rule
    summary: str
    learning_rate: str  # the typical one
    weight_decay: float = 0.0  # by default
    is_decoupled: bool = False  # weights decay beside the step, not through the gradients


OPTIMIZERS = {
    "sgd": Rule(lambda _: sgd(), "follows the gradient (the default)", "0.1"),
    "momentum": Rule(momentum, "adds `--momentum` (0.9) times the last step", "0.01 to 0.1"),
    "nesterov": Rule(
        partial(momentum, nesterov=True), "the same, with the gradient one step ahead", "0.01 to 0.1"
    ),
    "adam": Rule(adam, "adapts the step size of each parameter", "0.001"),
    "adamw": Rule(adam, "adam with decoupled weight decay", "0.001", weight_decay=0.01, is_decoupled=True),
}


def build(
    ops: Arithmetic,
    name: str,
    *,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    max_norm: float | None = None,
    **options: float,
) -> Optimizer:
    """Return the optimiser of a name in ``OPTIMIZERS``, with weight decay and limits of norms.

    Gradients are clipped before the decay is added, as PyTorch programs do.

    Parameters
    ----------
    weight_decay : λ of ``add_weight_decay``, or of ``shrink_weights`` if decoupled; None is the rule's own
    clip_norm : the largest global norm of the gradients, None for any
    max_norm : the largest norm of a unit's incoming weights, None for any
    options : the rule's own: ``decay`` of momentum and nesterov; ``b1``, ``b2`` and ``eps`` of adam and adamw
    """
    rule = OPTIMIZERS[name]
    decay = rule.weight_decay if weight_decay is None else weight_decay
    optimizer = rule.build(ops, **options)

    def update(gradients: Parameters, state: Any, parameters: Parameters, rate: float, *every: Any) -> Update:
        if clip_norm is not None:
            gradients = clip_gradients(ops, gradients, clip_norm, *every)
        if decay and rule.is_decoupled:
            parameters = shrink_weights(parameters, decay, rate)
        elif decay:
            gradients = add_weight_decay(gradients, parameters, decay)
        parameters, state = optimizer.update(gradients, state, parameters, rate)
        if max_norm is not None:
            parameters = limit_norms(ops, parameters, max_norm)
        return parameters, state

    return Optimizer(optimizer.init, update, clip_norm is not None)


def map_layers(change: Function, state: Any) -> Any:
    """Return the state of an optimiser, with a function applied to each list of layers in it."""
    if isinstance(state, list):
        return change(state)
    return type(state)(*(change(part) if isinstance(part, list) else part for part in state))


# Helpers


def _map_joined(function: Function, ops: Arithmetic, layers: Parameters) -> Parameters:
    """Apply an elementwise function with a root to all entries, joined as (1, entries) if that is faster."""
    stops = [0, *accumulate(math.prod(x.shape) for x in leaves(layers))]
    if ops.has_native_roots or not 0 < stops[-1] <= MOST_JOINED:
        return tree_map(function, layers)
    entries = function(_join(ops, layers))
    parts = (entries[:, start:stop] for start, stop in pairwise(stops))
    return tree_map(lambda x: ops.xp.reshape(next(parts), x.shape), layers)


def _join(ops: Arithmetic, arrays: object) -> Array:
    """Return all entries of all arrays in their order, row by row, as (1, entries)."""
    return ops.xp.concat([ops.xp.reshape(x, (1, -1)) for x in leaves(arrays)], axis=1)


def _map_weights(function: Function, *layers: Parameters) -> Parameters:
    """Apply a function to the fields named ``weight``. Take the other fields from the first list."""
    return [
        group[0]._replace(weight=function(*(layer.weight for layer in group)))
        if getattr(group[0], "weight", None) is not None
        else group[0]
        for group in zip(*layers, strict=True)
    ]


def _zeros_like(ops: Arithmetic, parameters: Parameters) -> Parameters:
    return tree_map(lambda p: ops.xp.zeros_like(p, device=ops.device), parameters)


def _norm_factor(ops: Arithmetic, x: Array, limit: float) -> Array:
    """Return c / max(c, ‖x‖) for each row of ``x``, (rows, 1), with c the limit."""
    return ops.reciprocal(ops.xp.maximum(ops.sqrt(ops.sum(x * x, axis=-1)), limit), limit)
