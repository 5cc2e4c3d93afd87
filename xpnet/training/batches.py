"""Mini-batches: samples in the order of an epoch, with augmentation and dropout masks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import NamedTuple, TypeAlias, cast

from xpnet._lib.tree import tree_map
from xpnet._typing import Array, HostArray
from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, block_bounds
from xpnet.compute.context import ComputeContext
from xpnet.data.augment import Augmenter
from xpnet.nn.dropout import NO_MASKS, Masks

Bounds = list[tuple[int, int]]
"""The (begin, end) of each batch in the order of an epoch."""
MOST_MASKED = 1 << 24
"""Units times samples whose masks are drawn at once: they take a byte each on the device."""


class Samples(NamedTuple):
    """Raw features and labels on the device, and the weights of the losses in training."""

    x: Array  # (samples, features), uint8 or floats
    labels: Array  # (samples,), int32
    weights: Array | None = None  # (samples,), floats; None: all 1


class SampleOrder(NamedTuple):
    """The indices of samples in the order of an epoch, (m,), on the host and on the device.

    They are int64, or int32 if the device has no int64.
    """

    host: HostArray
    device: Array


class SampleBlock(NamedTuple):
    """Samples to compute in one call; stacked blocks have the blocks as first axis.

    It is flat: of the arguments of a recorded function, the items of tuples alone may change their shapes.
    """

    x: Array  # raw rows (m, features), or all rows, to be indexed
    labels: Array  # (m,), or all labels, to be indexed
    weights: Array | None = None  # (m,), or all weights, to be indexed
    indices: Array | None = None  # (m,) of the block's rows; None: all of them, in order
    masks: Masks = NO_MASKS  # of (m, units), on the device

    def of_step(self, number: int) -> "SampleBlock":
        """Return the block of one step, if the indices and masks are those of several, along a first axis."""
        masks = self.masks  # most often none
        if masks is not NO_MASKS:
            masks = tree_map(lambda array: array[number, ...], masks)
        return self._replace(indices=cast("Array", self.indices)[number, ...], masks=masks)


LoadBlock: TypeAlias = Callable[[Group], SampleBlock]
"""Loads the block, or the stack of blocks, of a group."""


class Batch(NamedTuple):
    """The samples of one step, divided into blocks; or several such batches of one block each."""

    size: int  # samples of a step
    block: LoadBlock  # loads the block, or the stack of blocks, of a group
    steps: int = 1  # if more, the block has all samples, the indices of each step's, (steps, size), and masks


@dataclass(frozen=True)
class BatchLoader:
    """Yields the batches of an epoch.

    Attributes
    ----------
    context
        Its arithmetic and its workers.
    samples
        All samples; the order indexes them.
    order
        Function from the number of an epoch to the order of its samples.
    samples_per_epoch
        The number of samples in an epoch.
    batch_size
        Samples in a step; the last batch of an epoch may be short. None: all, in the order of epoch 0.
    augment
        Makes variants of images.
    masks
        Function from (epoch, begin, end) to the dropout masks and the noise of the samples at these positions
        in the epoch's order, on the device; a further argument is the number of steps to divide them into.
    in_memory
        True if a copy of the samples may be made.
    share
        Function from the size of a batch of one block to the ``(start, stop)`` of the samples to prepare.
    """

    context: ComputeContext
    samples: Samples
    order: Callable[[int], SampleOrder]
    samples_per_epoch: int
    batch_size: int | None
    augment: Augmenter | None
    masks: Callable[..., Masks] | None
    in_memory: bool
    share: Callable[[int], tuple[int, int]]

    @property
    def samples_per_step(self) -> int:
        """The number of samples in a step, but for a short last batch."""
        return self.batch_size or self.samples_per_epoch

    @property
    def single_block(self) -> bool:
        """True if each batch is a single block."""
        return self.samples_per_step <= BLOCK_SIZE

    @property
    def bounds(self) -> Bounds:
        """The (begin, end) of each batch in the order of an epoch."""
        return block_bounds(self.samples_per_epoch, self.samples_per_step)

    def batches(self, epoch: int, skip: int = 0, at_once: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 1, without the first ``skip``.

        Up to ``at_once`` batches of one block are yielded as one, if a step needs nothing but their indices,
        and on a GPU their masks: few large copies from the host take less time than many small ones. A GPU
        still computes when the last batch has been used, and the next epoch's order is drawn.
        """
        yield from self._divide(epoch, skip, at_once)
        if self.context.backend.on_gpu and self.batch_size:
            self.order(epoch + 1)

    def _divide(self, epoch: int, skip: int, at_once: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        order, bounds = self.order(epoch if self.batch_size else 0), self.bounds[skip:]
        load = partial(self._load, order, epoch)
        if not self.single_block:
            for begin, end in bounds:
                yield Batch(end - begin, self._fixed_blocks or partial(load, begin))
            return
        if self._is_plain or (self.context.backend.on_gpu and self.augment is None):
            for batch in self._stack_steps(order, epoch, bounds, at_once):
                yield batch
                bounds = bounds[batch.steps :]

        def prepare(bounds: tuple[int, int]) -> Batch:
            begin, end = bounds
            block = cache(partial(load, begin))
            block(Group(*self.share(end - begin), 1))
            return Batch(end - begin, block)

        # Augmentation takes about as long as a step: prepare the next batches in the meantime.
        yield from (self.context.backend.pool.map if self.augment else map)(prepare, bounds)

    def _stack_steps(self, order: SampleOrder, epoch: int, bounds: Bounds, at_once: int) -> Iterator[Batch]:
        """Yield batches of several steps; the last few steps are left out."""
        size = self.samples_per_step
        if self.masks is not None:
            at_once = min(at_once, max(MOST_MASKED // (size * sum(self.context.network.sizes[:-1])), 1))
        is_shared = self.share(size) != (0, size)
        whole = 0 if is_shared else sum(end - begin == size for begin, end in bounds)
        most = min(at_once, whole)
        divisors = [steps for steps in range(most // 2 + 1, most + 1) if whole % steps == 0]
        steps = max(divisors, default=most)
        if steps < 2:
            return
        for begin, _ in bounds[: whole - whole % steps : steps]:
            end, shape = begin + steps * size, (steps, size)
            if self.context.backend.on_gpu:
                indices = self.context.ops.xp.reshape(order.device[begin:end], shape)
            else:  # a library takes some time to slice an array of its own
                indices = order.host[begin:end].reshape(shape)
            masks = NO_MASKS if self.masks is None else self.masks(epoch, begin, end, steps)
            yield Batch(size, _constant(SampleBlock(*self.samples, indices, masks)), steps)

    @property
    def _is_plain(self) -> bool:
        """True without augmentation and dropout masks."""
        return self.augment is None and self.masks is None

    @cached_property
    def _fixed_blocks(self) -> LoadBlock | None:
        """Loads each group of a full batch once, if it is the same in every epoch; else None."""
        if self.batch_size or not (self._is_plain and self.in_memory):
            return None
        return cache(partial(self._load, self.order(0), 0, 0))

    def _load(self, order: SampleOrder, epoch: int, begin: int, group: Group) -> SampleBlock:
        """Return a group of the batch that begins at the position ``begin`` in an epoch's order."""
        start, stop = begin + group.start, begin + group.stop
        block = SampleBlock(*self.samples, order.device[start:stop])
        if self.single_block and self._is_plain:  # the compiled step gathers the rows
            return block
        x, labels, weights = gather_rows(self.context.ops, block)
        if self.augment is not None:
            x = self.augment(x, order.host[start:stop], epoch)
        masks = NO_MASKS if self.masks is None else self.masks(epoch, start, stop)
        return _stack_blocks(self.context.ops, SampleBlock(x, labels, weights, None, masks), group.blocks)


def gather_rows(ops: Arithmetic, block: SampleBlock) -> Samples:
    """Return the raw rows, labels and weights of a block."""
    samples, indices = Samples(block.x, block.labels, block.weights), block.indices
    if indices is None:
        return samples
    return tree_map(lambda array: ops.xp.take(array, indices, axis=0), samples)


def single_batch(ops: Arithmetic, samples: Samples, order: Array | None) -> Batch:
    """Return samples as one batch: all of them, or those with the indices in ``order``."""

    def load(group: Group) -> SampleBlock:
        start, stop, blocks = group
        if order is None:
            rows = tree_map(lambda array: array[start:stop, ...], samples)
        else:
            rows = gather_rows(ops, SampleBlock(*samples, order[start:stop]))
        return _stack_blocks(ops, SampleBlock(*rows), blocks)

    return Batch(int((samples.labels if order is None else order).shape[0]), load)


def _constant(block: SampleBlock) -> LoadBlock:
    return lambda _: block


def _stack_blocks(ops: Arithmetic, block: SampleBlock, blocks: int) -> SampleBlock:
    """Return the samples of a block as several blocks, along a new first axis, unless it is one."""
    if blocks == 1:
        return block
    return tree_map(lambda array: ops.xp.reshape(array, (blocks, -1, *array.shape[1:])), block)
