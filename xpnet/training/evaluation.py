"""Loss, accuracy and predictions of parameters on samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import Group, block_chunks, tree_sum, unstack
from xpnet.inference.context import Engine
from xpnet.nn.layers import Parameters, Statistics
from xpnet.training.batches import Samples, rows


@dataclass(frozen=True)
class Evaluation:
    """What parameters give on samples."""

    loss: float  # the mean of what training minimises, without dropout
    accuracy: float  # share of right predictions
    predictions: Array  # (samples,), on the device


def evaluate(
    engine: Engine,
    parameters: Parameters,
    samples: Samples,
    statistics: Sequence[Statistics] = (),
    order: Array | None = None,
) -> Evaluation:
    """Return loss, accuracy and predictions for all samples, or those with the indices in ``order``."""
    ops = engine.ops
    count = samples.number if order is None else int(order.shape[0])
    predicted = []

    def of_group(group: Group) -> tuple[list[list[Array]], Array]:
        x, labels = rows(ops, samples, group, order)
        loss, right, predictions = engine.block_evaluation(parameters, statistics, x, labels)
        # Counts are small whole numbers: their sums are exact.
        return unstack(group, [loss, right]), predictions

    def of_chunk(groups: list[Group]) -> tuple[list[Array], list[Array]]:
        terms, predictions = zip(*map(of_group, groups), strict=True)
        return tree_sum(chain.from_iterable(terms)), list(predictions)

    def sums() -> Iterator[list[Array]]:
        for terms, predictions in engine.map_blocks(of_chunk, block_chunks(count, engine.stack)):
            predicted.extend(predictions)
            yield terms

    loss, right = tree_sum(sums())
    return Evaluation(
        loss=_number(ops, loss) * (1.0 / count),
        accuracy=round(_number(ops, right)) / count,
        predictions=ops.xp.concat(predicted),
    )


def _number(ops: Arithmetic, x: Array) -> float:
    return float(ops.xp.reshape(x, ()))
