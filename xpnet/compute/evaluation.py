"""Evaluation on labelled samples, and advice about networks that have learned nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from xpnet._typing import Array, Arrays
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import Group, tree_sum, unstack
from xpnet.compute.context import ComputeContext
from xpnet.nn.network import BlockResults

REMEDY = "another learning rate, standardised features or more epochs may help"


@dataclass(frozen=True)
class SampleEvaluation:
    """Loss, accuracy and predictions on a set of samples."""

    loss: float  # the mean loss, without dropout
    accuracy: float  # the share of correct predictions
    predictions: Array | None  # (samples,), on the device, if they were asked for
    score: float | None = None  # on validation samples, if not the accuracy; a higher one is better

    @property
    def rank(self) -> tuple[float, float]:
        """What the best epoch has the highest of: the score, else the accuracy; then the negative loss."""
        return self.accuracy if self.score is None else self.score, -self.loss

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return loss, accuracy and score by their names in a record."""
        metrics = {f"{prefix}_loss": self.loss, f"{prefix}_accuracy": self.accuracy}
        return metrics if self.score is None else {**metrics, f"{prefix}_score": self.score}


def evaluate_groups(
    context: ComputeContext, samples: int, evaluate: Callable[[Group], BlockResults], *, predict: bool = False
) -> SampleEvaluation:
    """Return mean loss and accuracy of so many samples, of whose groups of blocks a function has the results.

    The losses are added in the tree of the blocks, whatever computes them. With ``predict`` there are
    predictions too, which for many samples take much memory.
    """

    def evaluate_group(group: Group) -> tuple[list[Arrays], Array | None]:
        loss, correct, predicted = evaluate(group)
        # Counts are small whole numbers: their sums are exact.
        return unstack(group, [loss, correct]), predicted if predict else None

    ranks, map_blocks = context.ranks, context.backend.pool.map
    nodes = ranks.chunks(samples, context.stack)
    results = [list(map_blocks(evaluate_group, chain.from_iterable(chunks))) for chunks in nodes]
    sums = [tree_sum(chain.from_iterable(terms for terms, _ in groups)) for groups in results]
    loss, correct = ranks.finish(sums, samples, ((1, 1), (1,)), "float64")
    predictions = [predicted for groups in results for _, predicted in groups if predicted is not None]
    mean_loss = to_float(context.ops, loss) * (1.0 / samples)
    accuracy = round(to_float(context.ops, correct)) / samples
    return SampleEvaluation(mean_loss, accuracy, ranks.join(context.ops.xp, predictions) if predict else None)


def to_float(ops: Arithmetic, x: Array) -> float:
    """Return the single element of an array, waiting for the device."""
    return float(ops.xp.reshape(x, ()))


def chance_note(accuracy: float, largest: float, samples: float) -> str | None:
    """Return a note if an accuracy on so many samples, of which the `largest` class has some, is chance."""
    chance = largest / samples
    if accuracy > chance + 2.0 * math.sqrt(chance * (1.0 - chance) / samples):
        return None
    level = f"{chance:.4f} of the samples are of the largest class"
    return f"training accuracy {accuracy:.4f} is at chance ({level}): {REMEDY}"


def recall_note(recalls: Sequence[float | None]) -> str | None:
    """Return a note if the mean recall of the classes is chance, whatever the weights of samples."""
    known = [recall for recall in recalls if isinstance(recall, float)]
    if not known or (mean := sum(known) / len(known)) > 1.05 / len(known):
        return None
    return f"mean recall {mean:.4f} is at chance ({len(known)} classes): {REMEDY}"
