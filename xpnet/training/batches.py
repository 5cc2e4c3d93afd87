"""What training is fed with: samples in the order of an epoch, distorted, with units to drop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnet._typing import Array
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import Group, block_groups
from xpnet.data.augment import Augmenter
from xpnet.nn.dropout import Masks

NO_MASKS = Masks(None, [])
"""Nothing is dropped."""


class Samples(NamedTuple):
    """Raw features and labels on the device."""

    x: Array  # (samples, features), uint8 or floats
    labels: Array  # (samples,), int32

    @property
    def number(self) -> int:
        """How many samples there are."""
        return int(self.x.shape[0])


class Order(NamedTuple):
    """The indices of samples in the order in which they are visited, (m,) int64."""

    host: Any  # a NumPy array
    device: Array


def batches(ops: Arithmetic, order: Array, size: int) -> list[Array]:
    """Return the indices of each batch; the last may be short.

    All are cut out in one go: slices one by one cost JAX more than the steps.
    """
    whole = int(order.shape[0]) // size
    rows = ops.xp.unstack(ops.xp.reshape(order[: whole * size], (whole, size))) if whole else ()
    rest = order[whole * size :]
    return [*rows, rest] if rest.shape[0] else [*rows]


class Block(NamedTuple):
    """What is computed in one call; with the blocks as first axis if there are several."""

    x: Array  # (m, features) raw rows
    labels: Array  # (m,)
    masks: Masks = NO_MASKS  # of (m, units), on the device


@dataclass(frozen=True)
class Feed:
    """The samples that training visits, and what happens to them on the way."""

    samples: Samples
    order: Callable[[int], Order]  # epoch -> its order, of ``number`` indices
    number: int  # samples in an epoch
    augment: Augmenter | None = None
    masks: Callable[[int, int, int], Masks] | None = None  # (epoch, begin, end) -> on the device
    in_memory: bool = True  # whether a copy of the samples may be made

    @property
    def as_they_are(self) -> bool:
        """Whether the samples are neither distorted nor come with masks."""
        return self.augment is None and self.masks is None

    def cut(self, ops: Arithmetic, stack: int) -> dict[Group, Block] | None:
        """Return the blocks of a batch of all samples, if they can be the same in every epoch."""
        if not (self.as_they_are and self.in_memory):
            return None
        copy = Samples(*(ops.xp.take(a, self.order(0).device, axis=0) for a in self.samples))
        groups = block_groups(self.number, stack)
        return {group: Block(*rows(ops, copy, group, None)) for group in groups}

    def block(
        self, ops: Arithmetic, order: Order, epoch: int, begin: int, end: int, blocks: int = 1
    ) -> Block:
        """Return the samples from ``begin`` to ``end`` in the order of an epoch."""
        x, labels = rows(ops, self.samples, Group(begin, end, 1), order.device)
        if self.augment is not None:
            x = self.augment(x, order.host[begin:end], epoch)
        masks = NO_MASKS if self.masks is None else self.masks(epoch, begin, end)
        if blocks == 1:
            return Block(x, labels, masks)

        def stacked(array: Array) -> Array:
            return ops.xp.reshape(array, (blocks, -1, *array.shape[1:]))

        inputs = None if masks.inputs is None else stacked(masks.inputs)
        hidden = [stacked(mask) for mask in masks.hidden]
        return Block(stacked(x), stacked(labels), Masks(inputs, hidden))


def rows(
    ops: Arithmetic, samples: Samples, group: Group, order: Array | None
) -> tuple[Array, Array]:
    """Return a group's features (m, features) and labels (m,), with the blocks as first axis if stacked.

    ``order`` holds the indices of a batch's samples; without it the batch is all samples.
    """
    start, stop, blocks = group
    if order is None:
        x, labels = samples.x[start:stop, :], samples.labels[start:stop]
    else:
        chosen = order[start:stop]
        x, labels = (ops.xp.take(a, chosen, axis=0) for a in samples)
    if blocks > 1:
        x = ops.xp.reshape(x, (blocks, -1, x.shape[1]))
        labels = ops.xp.reshape(labels, (blocks, -1))
    return x, labels
