"""Loss, accuracy and predictions of parameters on samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import Group, tree_sum, unstack
from xpnet.inference.context import ComputeContext
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.training.batches import Samples, single_batch


@dataclass(frozen=True)
class Evaluation:
    """Loss, accuracy and predictions on a set of samples."""

    loss: float  # the mean loss, without dropout
    accuracy: float  # the share of correct predictions
    predictions: Array | None  # (samples,), on the device, if they were asked for

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return loss and accuracy by their names in a record."""
        return {f"{prefix}_loss": self.loss, f"{prefix}_accuracy": self.accuracy}


def evaluate(
    context: ComputeContext,
    parameters: Parameters,
    samples: Samples,
    statistics: Sequence[RunningStatistics] = (),
    order: Array | None = None,
    *,
    predict: bool = True,
) -> Evaluation:
    """Return loss, accuracy and predictions for all samples, or those with the indices in ``order``.

    Without ``predict`` there are no predictions, which for many samples take much memory.
    """
    batch = single_batch(context.ops, samples, order)

    def evaluate_group(group: Group) -> tuple[list[list[Array]], Array | None]:
        x, labels, *_ = batch.block(group)
        loss, correct, predicted = context.block_evaluation(parameters, statistics, x, labels)
        # Counts are small whole numbers: their sums are exact.
        return unstack(group, [loss, correct]), predicted if predict else None

    ranks = context.ranks
    nodes = ranks.chunks(batch.size, context.stack)
    results = [list(context.map_blocks(evaluate_group, chain.from_iterable(chunks))) for chunks in nodes]
    sums = [tree_sum(chain.from_iterable(terms for terms, _ in groups)) for groups in results]
    loss, correct = ranks.finish(sums, batch.size, ((1, 1), (1,)), "float64")
    predictions = [predicted for groups in results for _, predicted in groups if predicted is not None]
    return Evaluation(
        loss=to_float(context.ops, loss) * (1.0 / batch.size),
        accuracy=round(to_float(context.ops, correct)) / batch.size,
        predictions=ranks.join(context.ops.xp, predictions, batch.size) if predict else None,
    )


def to_float(ops: Arithmetic, x: Array) -> float:
    """Return the single element of an array, waiting for the device."""
    return float(ops.xp.reshape(x, ()))
