"""Compute context of a network: arithmetic, normalisation of inputs, and the backend's compiler."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

from xpnet._lib.switches import read_switch
from xpnet._typing import AnyFunction, Array
from xpnet.arithmetic import ARITHMETICS, Arithmetic, Reproducible, selfcheck
from xpnet.arithmetic.blocks import BLOCK_SIZE
from xpnet.arithmetic.reproducible import check_budgets
from xpnet.backends.base import Backend, check_environment
from xpnet.backends.probing import cuda_index
from xpnet.distributed.ranks import ALONE, Ranks
from xpnet.errors import BackendError, setting
from xpnet.nn.architecture import Network
from xpnet.nn.inputs import Inputs, Normalization
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.network import BlockResults, evaluate_logits, forward

MOST_STEPS, MOST_MULTIPLICATIONS = 75, 1 << 31
"""Steps of one call, and multiplications of their forward passes: Ctrl-C waits for the end of a call."""
GPU_SPEED = 16
"""The factor by which a GPU may take more multiplications in a call."""


COMPILE = "XPNET_COMPILE"
"""The environment variable, a switch that is on by default; off, the mathematics runs as it is written."""


def is_compiled(*, debug: bool) -> bool:
    """Return True if functions are compiled, or recorded and replayed: not with ``--debug``.

    Raises
    ------
    ConfigError
        XPNET_COMPILE is neither on nor off.
    """
    return read_switch(COMPILE, default=True) and not debug


@dataclass(frozen=True)
class ComputeContext:
    """Arithmetic, input normalisation, backend and architecture: a network without its parameters."""

    ops: Arithmetic
    inputs: Inputs
    backend: Backend
    stack: int  # number of full blocks computed in one call
    network: Network
    ranks: Ranks
    float_type: str
    as_written: bool  # nothing is compiled, and blocks and steps are computed one by one

    @property
    def is_exact(self) -> bool:
        """True if each operation has fixed bits."""
        return isinstance(self.ops, Reproducible)

    def compile(self, function: AnyFunction, **options: Any) -> AnyFunction:
        """Return an equivalent function, by `Backend.compile` unless ``as_written``."""
        if self.as_written:
            return function
        return cast("AnyFunction", self.backend.compile(function, exact=self.is_exact, **options))

    def steps_at_once(self, samples: int) -> int:
        """Return the number of steps with this number of samples to compute in one call."""
        if self.as_written:
            return 1
        most = MOST_MULTIPLICATIONS * (GPU_SPEED if self.backend.on_gpu else 1)
        return min(MOST_STEPS, 1 + most // (samples * self.network.multiplications))

    def product_shapes(self, samples: int) -> Iterator[selfcheck.Shape]:
        """Yield the products of matrices of blocks with so many samples, forward and backward.

        Of stacks of blocks they are two: more would take much memory.
        """
        count = min(self.stack, 2) if samples == BLOCK_SIZE else 1
        for layer, (inputs, units) in enumerate(pairwise(self.network.sizes)):
            yield count, units, inputs, samples
            yield count, units, samples, inputs
            if layer:
                yield count, inputs, units, samples

    def choose_rows(self) -> Callable[[int], int]:
        """Return the function from numbers of rows to those to compute: from the third on, powers of two.

        This holds where each number is compiled by itself, and further rows change no bits.
        """
        pads, known = self.is_exact and self.backend.compiles_shapes and not self.as_written, list[int]()

        def choose(rows: int) -> int:
            if len(known) < 2 and rows not in known:
                known.append(rows)
            return 1 << (rows - 1).bit_length() if pads and rows not in known else rows

        return choose

    @cached_property
    def block_evaluation(self) -> Callable[..., BlockResults]:
        """The compiled function that evaluates a block: its parameters, running statistics, x and labels.

        ``x`` (..., m, features) and ``labels`` (..., m) are those of the block, whose rows are those of
        `choose_rows`. The results are those of
        `evaluate_logits`.
        """
        # The functions below refer to these and not to `self`, which holds them.
        ops = self.ops
        inputs = self.inputs
        network = self.network

        def evaluate_block(
            parameters: Parameters, running: Sequence[RunningStatistics], x: Array, labels: Array, /
        ) -> BlockResults:
            logits, _ = forward(ops, parameters, inputs(x), network, running=running)
            return evaluate_logits(ops, logits, labels, network)

        compiled, choose, xp = self.compile(evaluate_block), self.choose_rows(), ops.xp

        def lengthen(array: Array, count: int, value: int) -> Array:
            shape = (count, *array.shape[1:])
            return xp.concat([array, xp.full(shape, value, dtype=array.dtype, device=ops.device)], axis=0)

        def evaluate(parameters: Any, running: Any, x: Array, labels: Array) -> BlockResults:
            rows = int(labels.shape[-1])
            if missing := choose(rows) - rows:
                x, labels = lengthen(x, missing, 0), lengthen(labels, missing, -1)
            loss, correct, predicted = compiled(parameters, running, x, labels)
            return loss, correct, predicted[:rows] if missing else predicted

        return evaluate


def build_context(
    arithmetic: str,
    dtype: str,
    backend: Backend,
    network: Network,
    normalization: Normalization,
    ranks: Ranks = ALONE,
    samples: int = BLOCK_SIZE,
    *,
    debug: bool = False,
) -> ComputeContext:
    """Build the compute context of a network; call it inside the backend's scope.

    With ``debug``, or if XPNET_COMPILE is off, nothing is compiled, and each block is computed by itself.
    Nothing is compiled either if the compiler changes bits that are fixed. ``samples`` are those of a block
    in training: a GPU, whose libraries choose kernels by shape, is checked with products of such blocks.

    Raises
    ------
    ConfigError
        A sum has too many terms to be exact; or XPNET_COMPILE is neither on nor off.
    BackendError
        The device does not support the dtype, or does not compute exactly.
    """
    if dtype == "float64" and not backend.has_float64:
        where = f"{backend.name} has no float64 on {backend.device_name}"
        raise BackendError(f"{where}: use {setting('arithmetic', 'native')} {setting('dtype', 'float32')}")
    ops = ARITHMETICS[arithmetic](backend.xp, backend.device, getattr(backend.xp, dtype), backend.fuses)
    inputs, as_written = normalization.on_device(ops, backend.put), not is_compiled(debug=debug)
    stack, ranks = 1 if as_written else backend.stack, replace(ranks, backend=backend)
    context = ComputeContext(ops, inputs, backend, stack, network, ranks, dtype, as_written)
    if context.is_exact:
        if cuda_index(backend.device_name) is not None:
            check_environment()
        check_budgets(network.sizes)
        shapes = tuple(context.product_shapes(samples)) if backend.on_gpu else ()
        if not selfcheck.check(ops, f"{backend.name} on {backend.device_name}", context.compile, shapes):
            return replace(context, as_written=True)
    return context
