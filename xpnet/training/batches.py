"""Mini-batches: samples in the order of an epoch, with augmentation and dropout masks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from xpnet._typing import Array, MapBlocks
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, block_bounds, block_groups
from xpnet.data.augment import Augmenter
from xpnet.nn.dropout import Masks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NO_MASKS = Masks(None, [])
"""No dropout."""


class Samples(NamedTuple):
    """Raw features and labels on the device."""

    x: Array  # (samples, features), uint8 or floats
    labels: Array  # (samples,), int32

    @property
    def number(self) -> int:
        """The number of samples."""
        return int(self.x.shape[0])


class Order(NamedTuple):
    """The indices of samples in the order in which they are visited, (m,) int64."""

    host: "NDArray[np.int64]"
    device: Array


class Block(NamedTuple):
    """Samples that are computed in one call; stacked blocks have the blocks as first axis."""

    x: Array  # raw rows: (m, features), or those that the indices choose from
    labels: Array  # (m,), or those that the indices choose from
    indices: Array | None = None  # (m,) of rows; None: all of them, as they are
    masks: Masks = NO_MASKS  # of (m, units), on the device


class Batch(NamedTuple):
    """The samples of one step, as a tree whose leaves are blocks."""

    size: int  # samples
    block: Callable[[Group], Block]  # the leaf, or the stack of leaves, that a group names


@dataclass(frozen=True)
class BatchLoader:
    """Yields the batches of an epoch.

    Attributes
    ----------
    ops, map_blocks, stack
        As in ``xpnet.inference.context.ComputeContext``.
    samples
        The samples to choose from.
    order
        Function from the number of an epoch to its order, of ``number`` indices.
    number
        Samples in an epoch.
    batch_size
        Samples in a step; the last batch of an epoch may be short. None: all, in the order of epoch 0.
    augment
        Makes variants of images.
    masks
        Function from (epoch, begin, end) to the dropout masks of these places in its order, on the device.
    in_memory
        True if a copy of the samples may be made.
    """

    ops: Arithmetic
    samples: Samples
    order: Callable[[int], Order]
    number: int
    batch_size: int | None = None
    augment: Augmenter | None = None
    masks: Callable[[int, int, int], Masks] | None = None
    in_memory: bool = True
    map_blocks: MapBlocks = map
    stack: int = 1

    @property
    def size(self) -> int:
        """Samples in a step."""
        return self.batch_size or self.number

    @property
    def one_block(self) -> bool:
        """True if each batch is a single block."""
        return self.size <= BLOCK_SIZE

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The (begin, end) of each batch in the order of an epoch."""
        return block_bounds(self.number, self.size)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 1, without the first ``skip``."""
        order = self.order(epoch if self.batch_size else 0)
        bounds = self.bounds[skip:]
        if not self.one_block:
            blocks = self._blocks_of_all
            for begin, end in bounds:
                yield Batch(end - begin, blocks or self._blocks(order, epoch, begin))
        elif self._is_plain:
            indices_of_steps = batch_indices(self.ops, order.device, self.size)
            for (begin, end), indices in zip(bounds, indices_of_steps[skip:], strict=True):
                yield _leaf(end - begin, Block(*self.samples, indices))
        else:

            def loaded(bound: tuple[int, int]) -> Block:
                return self._block(order, epoch, *bound)

            # Augmentation takes about as long as the step: the next batches meanwhile.
            ahead = self.map_blocks if self.augment else map
            for (begin, end), block in zip(bounds, ahead(loaded, bounds), strict=True):
                yield _leaf(end - begin, block)

    @property
    def _is_plain(self) -> bool:
        """True without augmentation and dropout masks."""
        return self.augment is None and self.masks is None

    @cached_property
    def _blocks_of_all(self) -> Callable[[Group], Block] | None:
        """The blocks of all samples, cut once, where they are the same in every epoch."""
        if self.batch_size or not (self._is_plain and self.in_memory):
            return None
        everything = Block(*self.samples, self.order(0).device)
        copy = Samples(*gather_rows(self.ops, everything))
        groups = block_groups(self.number, self.stack)
        return {group: _slice_group(self.ops, copy, group) for group in groups}.__getitem__

    def _blocks(self, order: Order, epoch: int, begin: int) -> Callable[[Group], Block]:
        return lambda group: self._block(order, epoch, begin + group.start, begin + group.stop, group.blocks)

    def _block(self, order: Order, epoch: int, begin: int, end: int, blocks: int = 1) -> Block:
        """Return the samples from ``begin`` to ``end`` in the order of an epoch."""
        x, labels = gather_rows(self.ops, Block(*self.samples, order.device[begin:end]))
        if self.augment is not None:
            x = self.augment(x, order.host[begin:end], epoch)
        masks = NO_MASKS if self.masks is None else self.masks(epoch, begin, end)
        if blocks == 1:
            return Block(x, labels, None, masks)

        def stacked(array: Array) -> Array:
            return self.ops.xp.reshape(array, (blocks, -1, *array.shape[1:]))

        inputs = None if masks.inputs is None else stacked(masks.inputs)
        hidden = [stacked(mask) for mask in masks.hidden]
        return Block(stacked(x), stacked(labels), None, Masks(inputs, hidden))


def gather_rows(ops: Arithmetic, block: Block) -> Samples:
    """Return the raw rows and labels of a block."""
    if block.indices is None:
        return Samples(block.x, block.labels)
    take = ops.xp.take
    return Samples(take(block.x, block.indices, axis=0), take(block.labels, block.indices, axis=0))


def single_batch(ops: Arithmetic, samples: Samples, order: Array | None = None) -> Batch:
    """Return samples as one batch: all of them, or those with the indices in ``order``."""
    if order is None:
        return Batch(samples.number, lambda group: _slice_group(ops, samples, group))

    def block_of(group: Group) -> Block:
        block = Block(*samples, order[group.start : group.stop])
        whole = group._replace(start=0, stop=group.stop - group.start)
        return block if group.blocks == 1 else _slice_group(ops, gather_rows(ops, block), whole)

    return Batch(int(order.shape[0]), block_of)


def batch_indices(ops: Arithmetic, order: Array, size: int) -> list[Array]:
    """Return the indices of each batch; the last may be short.

    All are cut out in one go: slices one by one cost JAX more than the steps.
    """
    whole = int(order.shape[0]) // size
    cut = ops.xp.unstack(ops.xp.reshape(order[: whole * size], (whole, size))) if whole else ()
    rest = order[whole * size :]
    return [*cut, rest] if rest.shape[0] else [*cut]


def _leaf(count: int, block: Block) -> Batch:
    return Batch(count, lambda _: block)


def _slice_group(ops: Arithmetic, samples: Samples, group: Group) -> Block:
    """Return neighbouring samples, with the blocks as first axis if the group has several."""
    start, stop, blocks = group
    x, labels = samples.x[start:stop, :], samples.labels[start:stop]
    if blocks > 1:
        x = ops.xp.reshape(x, (blocks, -1, x.shape[1]))
        labels = ops.xp.reshape(labels, (blocks, -1))
    return Block(x, labels)
