"""Sums over the ranks of an MPI job, in memory that is allocated once.

Each rank adds up whole nodes of the tree of `xpnet.arithmetic.blocks.tree_sum`, so that no bit depends on the
number of ranks. A *node* ``(first, level)`` is the sum of the blocks from ``first`` on, ``2**level`` of them,
or as many as there are up to the last.
"""

import atexit
import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Any, TypeAlias

import numpy as np

from xpnet._lib.tree import Tree, leaves, tree_map, unpack
from xpnet._typing import Array, Arrays, Function, HostArray, Shape
from xpnet.backends.base import Backend
from xpnet.backends.probing import cuda_index

SLACK = 0.1
"""The part of its share by which a rank may have more or fewer blocks, so that it has few nodes."""

Shapes = tuple[Shape, ...]
Node: TypeAlias = "tuple[int, int]"
Nodes: TypeAlias = "list[list[Node]]"
Rows: TypeAlias = "list[range]"
"""Of each array a range of its rows, which may be empty."""


@lru_cache(maxsize=16)
def share_blocks(blocks: int, ranks: int) -> list[tuple[int, int]]:
    """Return the first block of each rank, and the one after its last.

    The bounds are moved, by up to ``SLACK`` of a share, to multiples of a power of two as large as possible.
    """
    cuts = [0]
    for rank in range(1, ranks):
        exact, slack = rank * blocks / ranks, max(SLACK * blocks / ranks, 0.5)
        low = max(cuts[-1], math.ceil(exact - slack))
        high = max(low, math.floor(exact + slack))
        # By the largest power of two that divides a cut; all divide 0.
        cuts.append(max(range(low, high + 1), key=lambda cut: (cut & -cut or blocks, -abs(cut - exact))))
    return list(pairwise([*cuts, blocks]))


@lru_cache(maxsize=16)
def list_nodes(blocks: int, ranks: int) -> Nodes:
    """Return, for each rank, the largest nodes of the tree over ``blocks`` blocks that lie in its range."""
    return [_nodes_between(first, stop, blocks) for first, stop in share_blocks(blocks, ranks)]


def _nodes_between(first: int, stop: int, blocks: int) -> list[Node]:
    nodes = []
    while first < stop:
        level = 0
        while first % (2 << level) == 0 and (first + (2 << level) <= stop or stop == blocks):
            if first + (1 << level) >= blocks:  # no block would be added
                break
            level += 1
        nodes.append((first, level))
        first = min(first + (1 << level), blocks)
    return nodes


def finish_tree(terms: Mapping[Node, Any], blocks: int, add: Function, out: Any) -> None:
    """Add up the sums of all ranks' nodes, elementwise, to that of all blocks, which ``out`` receives."""

    def total(first: int, level: int, **options: Any) -> Any:
        if (first, level) in terms:
            return terms[first, level]
        half = 1 << (level - 1)
        if first + half >= blocks:
            return total(first, level - 1, **options)
        return add(total(first, level - 1), total(first + half, level - 1), **options)

    result = total(0, max(blocks - 1, 0).bit_length(), out=out)
    if result is not out:  # a single node
        out[...] = result


@lru_cache(maxsize=64)
def share_rows(shapes: Shapes, ranks: int) -> list[Rows]:
    """Return the slice of each rank of arrays of these shapes, of about as many numbers as the others'.

    It ends at a row, which in a weight is a unit.
    """
    sizes = [*map(math.prod, shapes)]
    cuts = []
    for shape, size, start in zip(shapes, sizes, accumulate(sizes[:-1], initial=0), strict=True):
        exact = ((sum(sizes) * rank / ranks - start) * shape[0] / size for rank in range(ranks + 1))
        cuts.append([min(max(round(row), 0), shape[0]) for row in exact])
    return [[range(*each[rank : rank + 2]) for each in cuts] for rank in range(ranks)]


def take_rows(tree: Tree, rows: Rows) -> Tree:
    """Return a tree with these rows of its arrays, and None in place of an array with none of them."""
    ranges = iter(rows)

    def take(array: Any) -> Any:
        own = next(ranges)
        return array[own.start : own.stop : own.step, ...] if own else None

    return tree_map(take, tree)


class Memory:
    """Memory for messages: that of the host, or of a GPU whose memory the MPI library can access.

    Parameters
    ----------
    comm
        The communicator of mpi4py that sends them.
    backend
        The backend of the arrays to send.
    """

    def __init__(self, comm: Any, backend: Backend) -> None:
        on_gpu = backend.writable and cuda_index(backend.device_name) is not None
        self.comm = comm
        self._backend = backend
        self._direct = on_gpu and is_cuda_aware()
        self.xp = backend.xp if self._direct else np

    def allocate(self, shape: Shape, dtype: str) -> Any:
        """Return an array of any content."""
        device = self._backend.device if self._direct else "cpu"
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=device)

    def write(self, arrays: Sequence[Array], parts: Sequence[Any]) -> None:
        """Copy the values of arrays into parts of the memory."""
        fetch = (lambda array: array) if self._direct else self._backend.to_host
        for array, part in zip(arrays, parts, strict=True):
            part[...] = fetch(array)

    def read(self, parts: Sequence[Any]) -> Arrays:
        """Return parts of the memory as arrays of the backend, valid until it is written again."""
        if self._direct or self._backend.on_host:
            return [*parts]
        return [self._backend.put(part.copy()) for part in parts]  # the library may use it as its own

    def wait(self) -> None:
        """Wait until a GPU has done with the memory, for which MPI does not wait."""
        if self._direct:
            self._backend.to_host(self.allocate((1,), "float32"))


class TreeSum:
    """The sum over all blocks of a batch: each rank adds up its slice of all nodes of the tree.

    It receives that slice of all nodes, and sends the other slices of its own.
    """

    def __init__(self, memory: Memory, blocks: int, shapes: Shapes, dtype: str) -> None:
        self._memory = memory
        self._blocks = blocks
        comm = memory.comm
        nodes, rank = list_nodes(blocks, comm.size), comm.rank
        own = len(nodes[rank])
        widths = _count_numbers(shapes, comm.size)
        ends = [*accumulate(widths, initial=0)]
        size = ends[-1]
        self._slices = [slice(*bounds) for bounds in pairwise(ends)]
        every = [node for each in nodes for node in each]
        received = memory.allocate((len(every), widths[rank]), dtype)
        self._rows = memory.allocate((own, size), dtype)
        self._mine = [unpack(memory.xp, row, shapes) for row in self._rows]
        # The message to a rank, itself too: its slice of each of our nodes.
        self._send = self._rows if own == 1 else memory.allocate((own * size,), dtype)
        kind = _datatype(dtype)
        self._outgoing = self._send, [own * width for width in widths], kind
        self.sent = own * (size - widths[rank]) * np.dtype(dtype).itemsize
        self._incoming = received, [len(each) * widths[rank] for each in nodes], kind
        self._terms = dict(zip(every, received, strict=True))
        total = memory.allocate((size,), dtype)
        self._total = total[self._slices[rank]]
        parts = unpack(memory.xp, total, shapes)
        self._result = [*leaves(take_rows(parts, share_rows(shapes, comm.size)[rank]))]

    def __call__(self, sums: Sequence[Sequence[Array]]) -> Arrays:
        """Return our slice of the sum, the arrays with any rows, from the sums over each of our nodes."""
        own = len(sums)
        for arrays, parts in zip(sums, self._mine, strict=True):
            self._memory.write(arrays, parts)
        if own > 1:
            for part in self._slices:
                message = self._send[own * part.start : own * part.stop]
                self._memory.xp.reshape(message, (own, -1))[...] = self._rows[:, part]
        self._memory.wait()
        self._memory.comm.Alltoallv(self._outgoing, self._incoming)
        finish_tree(self._terms, self._blocks, self._memory.xp.add, self._total)
        return self._memory.read(self._result)


class Gathering:
    """The arrays of which each rank has a slice; all ranks receive them."""

    def __init__(self, memory: Memory, shapes: Shapes, dtype: str) -> None:
        self._memory, comm = memory, memory.comm
        widths = _count_numbers(shapes, comm.size)
        self._total = memory.allocate((sum(widths),), dtype)
        self._result = unpack(memory.xp, self._total, shapes)
        self.sent = widths[comm.rank] * (comm.size - 1) * np.dtype(dtype).itemsize
        self._own = [*leaves(take_rows(self._result, share_rows(shapes, comm.size)[comm.rank]))]
        self._message = self._total, widths, _datatype(dtype)

    def __call__(self, parts: Sequence[Array]) -> Arrays:
        """Return the arrays, from our slice."""
        from mpi4py import MPI

        self._memory.write(parts, self._own)
        self._memory.wait()
        self._memory.comm.Allgatherv(MPI.IN_PLACE, self._message)
        return self._memory.read(self._result)


@lru_cache(maxsize=64)
def _count_numbers(shapes: Shapes, ranks: int) -> list[int]:
    """Return how many numbers the slice of each rank has."""
    widths = [math.prod(shape[1:]) for shape in shapes]
    return [sum(map(mul, map(len, rows), widths)) for rows in share_rows(shapes, ranks)]


def _datatype(dtype: str) -> Any:
    """Return MPI's name of a dtype, which mpi4py would look up for each message."""
    from mpi4py import MPI

    return {"float64": MPI.DOUBLE, "float32": MPI.FLOAT}[dtype]


def share_memory(comm: Any, shape: Shape, dtype: str) -> HostArray:
    """Return an array of any content in memory that the ranks of a machine share, to the end of the job."""
    from mpi4py import MPI

    kind = np.dtype(dtype)
    size = kind.itemsize * math.prod(shape) if comm.rank == 0 else 0
    window = comm.wait(partial(MPI.Win.Allocate_shared, size, kind.itemsize, comm=comm))
    atexit.register(window.Free)  # before MPI_Finalize, which may fail while a window exists
    return np.ndarray(shape, kind, buffer=window.Shared_query(0)[0])


def is_cuda_aware() -> bool:
    """Return True if the MPI library says that it can access the memory of GPUs."""
    from mpi4py import MPI

    query = getattr(ctypes.CDLL(MPI.__file__), "MPIX_Query_cuda_support", None)
    return bool(query and query())
