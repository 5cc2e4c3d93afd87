"""One training step: gradients summed over the blocks of a batch, and the update."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from xpnet._typing import Array
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, block_chunks, tree_sum, unstack
from xpnet.inference.context import Engine
from xpnet.nn.dropout import Masks
from xpnet.nn.layers import Parameters, Statistics, Sums, shares, updated_statistics
from xpnet.nn.optim import Optimizer
from xpnet.training.batches import NO_MASKS, Block, Feed, Order, Samples, batches, rows
from xpnet.training.state import TrainingState


def batch_gradients(
    engine: Engine, parameters: Parameters, samples: Samples, order: Array | None = None
) -> Parameters:
    """Return the gradients of the mean loss of a batch by all parameters.

    ``order`` (m,) holds the indices of the batch's samples; without it the batch is all samples. Sums
    over samples are sums over blocks (see ``xpnet.arithmetic.blocks``), multiplied by 1/m at the end.
    """
    count = samples.number if order is None else int(order.shape[0])

    def block(group: Group) -> Block:
        return Block(*rows(engine.ops, samples, group, order))

    sums = _batch_sums(engine, parameters, count, block)
    return _split(parameters, (), sums, 1.0 / count)[0]


Advance = Callable[[TrainingState, float], TrainingState]
"""(state, learning rate) -> the state after a step."""


class _Step:
    """How one batch changes the state, in the form that suits its size and what it is fed with."""

    def __init__(self, engine: Engine, feed: Feed, optimizer: Optimizer, size: int) -> None:
        self.engine, self.feed, self.optimizer = engine, feed, optimizer
        self.size, self.one_block = size, size <= BLOCK_SIZE
        self.cut = feed.cut(engine.ops, engine.stack) if size == feed.number else None
        compile_ = engine.compile
        self.of_indices = compile_(self._of_indices, donated=(0, 1, 2))
        self.of_block = compile_(self._of_block, donated=(0, 1, 2))
        self.of_sums = compile_(self._of_sums, donated=(0, 1, 2))

    def in_turn(self, order: Order, epoch: int, bounds: list[tuple[int, int]]) -> Iterator[Advance]:
        """Yield the step of each batch, which has these bounds in the order."""
        if not self.one_block:
            for bound in bounds:
                yield self._many_blocks(order, epoch, *bound)
        elif self.feed.as_they_are:
            chosen = batches(self.engine.ops, order.device, self.size)
            for indices in chosen[len(chosen) - len(bounds) :]:
                yield self._plain(indices)
        else:

            def fetched(bound: tuple[int, int]) -> Block:
                return self.feed.block(self.engine.ops, order, epoch, *bound)

            # Distorting images takes about as long as learning from them: the next batches meanwhile.
            ahead = self.engine.map_blocks if self.feed.augment else map
            for block in ahead(fetched, bounds):
                yield self._fed(block)

    def _plain(self, indices: Array) -> Advance:
        return lambda state, rate: state._replace(
            **_changed(self.of_indices(*state[:3], self.feed.samples, indices, rate))
        )

    def _fed(self, block: Block) -> Advance:
        return lambda state, rate: state._replace(
            **_changed(self.of_block(*state[:3], *block, rate))
        )

    def _many_blocks(self, order: Order, epoch: int, begin: int, end: int) -> Advance:
        ops, count = self.engine.ops, end - begin

        def block(group: Group) -> Block:
            if self.cut is not None:
                return self.cut[group]
            return self.feed.block(
                ops, order, epoch, begin + group.start, begin + group.stop, group.blocks
            )

        def advance(state: TrainingState, rate: float) -> TrainingState:
            sums = _batch_sums(self.engine, state.parameters, count, block)
            return state._replace(**_changed(self.of_sums(*state[:3], sums, *shares(count), rate)))

        return advance

    def _of_indices(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        samples: Samples,
        indices: Array,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        x, labels = (self.engine.ops.xp.take(array, indices, axis=0) for array in samples)
        return self._of_block(parameters, statistics, optimizer, x, labels, NO_MASKS, rate)

    def _of_block(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        x: Array,
        labels: Array,
        masks: Masks,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        found, sums = self.engine.block_sums(parameters, x, labels, masks)
        flat, count = _flat(found, sums), int(labels.shape[0])
        return self._of_sums(parameters, statistics, optimizer, flat, *shares(count), rate)

    def _of_sums(
        self,
        parameters: Parameters,
        statistics: list[Statistics],
        optimizer: Any,
        sums: list[Array],
        share: float,
        variance_share: float,
        rate: float,
    ) -> tuple[Parameters, list[Statistics], Any]:
        means, of_norms = _split(parameters, statistics, sums, share)
        running = [
            updated_statistics(old, new, share, variance_share)
            for old, new in zip(statistics, of_norms, strict=True)
        ]
        stepped, optimizer = self.optimizer.update(means, optimizer, parameters, rate)
        return stepped, running, optimizer


def _changed(found: tuple[Parameters, list[Statistics], Any]) -> dict[str, Any]:
    return dict(zip(TrainingState._fields, found, strict=False))


def _batch_sums(
    engine: Engine, parameters: Parameters, count: int, block: Callable[[Group], Block]
) -> list[Array]:
    """Return what the blocks of a batch of ``count`` samples give, flat, summed."""

    def of_group(group: Group) -> list[list[Array]]:
        return unstack(group, _flat(*engine.block_sums(parameters, *block(group))))

    def of_chunk(groups: list[Group]) -> list[Array]:
        return tree_sum(chain.from_iterable(map(of_group, groups)), engine.add)

    chunks = block_chunks(count, engine.stack)
    return tree_sum(engine.map_blocks(of_chunk, chunks), engine.add)


def _flat(found: Parameters, sums: list[Sums]) -> list[Array]:
    return [array for part in (*found, *sums) for array in part]


def _split(
    parameters: Parameters, statistics: Sequence[Statistics], sums: list[Array], share: float
) -> tuple[Parameters, list[Sums]]:
    """Return mean gradients, and the sums of each batch normalisation: the inverse of ``_flat``."""
    arrays = iter(sums)
    means = [type(layer)(*(next(arrays) * share for _ in layer)) for layer in parameters]
    return means, [Sums(next(arrays), next(arrays)) for _ in statistics]
