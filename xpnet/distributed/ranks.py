"""The processes that share a training: one alone, or the connected ranks of an MPI job."""

import json
import os
import platform
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from xpnet._lib import clock
from xpnet._lib.extras import install_command
from xpnet._lib.machine import allowed_cpus
from xpnet._lib.tree import split
from xpnet._typing import Array, Arrays, Context, HostArray, Names, Namespace
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group, block_chunks
from xpnet.distributed import exchange
from xpnet.distributed.exchange import Gathering, Shapes, TreeSum, share_blocks
from xpnet.distributed.launch import initialize, local_rank, rank_and_size
from xpnet.distributed.watchdog import Activity, Watchdog, read_limits
from xpnet.errors import BackendError, ConfigError, XPNetError

T = TypeVar("T")
Exchange: TypeAlias = TreeSum | Gathering


@dataclass(frozen=True)
class Ranks:
    """The processes that share a training: the ranks of an MPI job, each with a range of the blocks, or one.

    Attributes
    ----------
    rank, size, hosts
        The number of this process, the number of processes, and the machine of each.
    library
        The MPI library.
    comm
        A communicator of mpi4py; None of a process alone.
    backend
        The backend whose arrays are added up.
    places
        The array library and the device of each process, once they are selected.
    activity
        The work of this process, for the watchdog.
    """

    rank: int = 0
    size: int = 1
    hosts: Names = (platform.node(),)
    library: str | None = None
    comm: Any = None
    backend: Any = None
    places: Names = ()
    activity: Activity = field(default_factory=Activity, compare=False)
    _exchanges: dict[object, Exchange] = field(default_factory=dict, init=False, compare=False)

    @property
    def local_rank(self) -> int:
        """The number of this process among those of an MPI job on this machine, if it is part of one."""
        return local_rank() if self.size == 1 else self.hosts[: self.rank].count(self.hosts[self.rank])

    def on_this_host(self) -> Any:
        """Return the communicator with the ranks on this machine."""
        from mpi4py import MPI

        return self.activity.watched(self.comm.Split_type(MPI.COMM_TYPE_SHARED))

    def shares(self, samples: int) -> list[range]:
        """Return the blocks of each process, among those of so many samples."""
        return [range(*bounds) for bounds in share_blocks(-(-samples // BLOCK_SIZE), self.size)]

    def chunks(self, samples: int, stack: int) -> list[list[list[Group]]]:
        """Return the chunks of each node of the tree that this process computes (`blocks.block_chunks`)."""
        result = []
        for block, level in exchange.list_nodes(-(-samples // BLOCK_SIZE), self.size)[self.rank]:
            first = block * BLOCK_SIZE
            result.append(block_chunks(min(BLOCK_SIZE << level, samples - first), stack, first))
        return result

    def finish(self, sums: list[Arrays], samples: int, shapes: Shapes, dtype: str) -> Arrays:
        """Return the sum over all blocks from those of the nodes, arrays of these shapes and this dtype.

        Every rank receives it, in memory that the next one uses.
        """
        if not self.comm:
            return sums[0]
        return self.spread(self.add_up(sums, -(-samples // BLOCK_SIZE), shapes, dtype), shapes, dtype, "sums")

    def add_up(self, sums: list[Arrays], blocks: int, shapes: Shapes, dtype: str) -> Arrays:
        """Return this rank's slice of the sum over so many blocks, in memory as of `finish`."""
        return self._exchange(TreeSum, sums, blocks, shapes, dtype)

    def spread(self, parts: Arrays, shapes: Shapes, dtype: str, name: str = "") -> Arrays:
        """Return arrays of which each rank has a slice, in memory that the next ones of a name use."""
        return self._exchange(Gathering, parts, shapes, dtype, name=name)

    def _exchange(self, kind: type[Exchange], values: Any, *options: Any, name: str = "") -> Arrays:
        """Return the result of an exchange with these options, whose memory is kept."""
        key = kind, name, *options
        if key not in self._exchanges:
            self._exchanges[key] = kind(self._memory, *options)
        self.activity.sent += self._exchanges[key].sent
        return self._exchanges[key](values)

    def gather_numbers(self, arrays: Iterable[Array], dtype: str) -> tuple[HostArray, list[int]]:
        """Return the numbers in the arrays of all ranks, one after the other, and how many are of each."""
        own = [np.ravel(self.backend.to_host(array)) for array in arrays]
        numbers = np.concatenate([np.empty(0, dtype), *own])
        self.activity.sent += numbers.nbytes * (self.size - 1)
        return _gather_arrays(self.comm, numbers)

    @cached_property
    def _memory(self) -> exchange.Memory:
        return exchange.Memory(self.comm, self.backend)

    def join(self, xp: Namespace, parts: Arrays) -> Array:
        """Return the integers of all samples, from those of each group that this process computed."""
        if not self.comm:
            return xp.concat(parts)
        return self.backend.put(self.gather_numbers(parts, "int64")[0])

    def max(self, number: int) -> int:
        """Return the largest of the numbers of all processes, each at least 0."""
        if not self.comm:
            return number
        return int(_gather(self.comm, np.array([number], np.int32), [1] * self.size).max())

    def gather(self, value: T) -> list[T]:
        """Return the JSON values of all processes."""
        if not self.comm:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)  # mpi4py would send pickles
        joined, sizes = _gather_arrays(self.comm, text)
        return [json.loads(each.tobytes()) for each in split(joined, sizes)]

    def compare(self, facts: Mapping[str, object]) -> None:
        """Check that all processes have the same facts, JSON values by name.

        Raises
        ------
        ConfigError
            They have not: the message names the first fact that differs, with its values, ranks and hosts.
        """
        every = self.gather({k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()})
        for name in dict.fromkeys(chain(*every)):
            holders = defaultdict[str, list[int]](list)
            for rank, each in enumerate(every):
                holders[each.get(name, "missing")].append(rank)
            if len(holders) > 1:
                parts = (f"{value} on {self.describe(ranks)}" for value, ranks in holders.items())
                remedy = "start all with the same command, files and versions"
                problem = f"differs between the ranks: {'; '.join(parts)}: {remedy}"
                raise ConfigError(f"{name}: {problem}").of_all_ranks()

    def compare_neighbours(self, own: str, following: str, problem: str = "") -> None:
        """Compare the digest of a result of each rank with that which the rank before it has computed.

        All ranks must call this.

        Raises
        ------
        BackendError
            A rank has another one. The message names it, or two that accuse each other, with the `problem`,
            by default a wrong gradient or update.
        """
        every = self.gather([own, following])
        accused = [rank for rank, (own, _) in enumerate(every) if every[rank - 1][1] != own]
        # The result with which an accused rank accuses another may itself be wrong.
        named = [rank for rank in accused if (rank - 1) % self.size not in accused] or accused
        if named:
            names = "; ".join(f"{self.hosts[rank]}, rank {rank}" for rank in sorted(named))
            problem = problem or f"has computed a wrong gradient or update in step {self.activity.step}"
            doubt = "one of them " if len(named) > 1 else ""
            remedy = "is its memory or processor faulty, or its xpnet another?"
            raise BackendError(f"{names}: {doubt}{problem}: {remedy}").of_all_ranks()

    def describe(self, ranks: list[int]) -> str:
        """Return the numbers of ranks, and their hosts, in words; of many the first ones."""
        hosts = dict.fromkeys(self.hosts[rank] for rank in ranks)
        more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
        return f"rank {', '.join(map(str, ranks[:4]))}{more} ({', '.join([*hosts][:4])})"

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Raise the error that one of the processes has in the body, in which each works on its own.

        Raises
        ------
        ConfigError
            Another process has an error, and this one has none.
        """
        problem: XPNetError | None = None
        try:
            yield
        except XPNetError as error:
            problem = error
        if self.max(problem is not None):
            for rank, text in enumerate(self.gather(str(problem or ""))):
                if text:
                    raise (problem or ConfigError.at(self.hosts[rank], text, rank=rank)).of_all_ranks()

    def on_first(self, make: Callable[[], T]) -> T | None:
        """Return what a function returns on the first process, the one that writes; on the others None.

        Its error is that of all processes.
        """
        with self.agreement():
            return make() if self.rank == 0 else None

    def from_first(self, make: Callable[[], T]) -> T:
        """Return the JSON value that a function returns on the first process; its error as of `on_first`."""
        return cast("T", self.gather(self.on_first(make))[0])

    @contextmanager
    def together(self, *, debug: bool) -> Iterator[None]:
        """Watch over the ranks of an MPI job in the body, which all of them leave together.

        One that leaves it by an error of its own does not wait: its process has to end the job. With
        ``debug`` no wait is too long.
        """
        with self.agreement():
            limits = read_limits(debug=debug)
        watchdog = Watchdog(self.comm, self.hosts, self.activity, limits)
        try:
            yield
        except BaseException as error:
            if getattr(error, "shared", False):
                watchdog.stop()
            raise
        watchdog.stop()

    def in_step(self, number: int, samples: int) -> Context:
        """Let the body be the step of a number, or several, on so many samples."""
        if not self.comm:
            return nullcontext()
        blocks = len(self.shares(samples)[self.rank]) if samples > BLOCK_SIZE else 1
        return self.activity.in_step(number, samples, blocks)


ALONE: Ranks = Ranks()


def _gather(comm: Any, array: HostArray, sizes: list[int]) -> HostArray:
    """Return the arrays (n,) of all ranks, of one dtype and of these lengths, joined."""
    joined = np.empty(sum(sizes), array.dtype)
    comm.Allgatherv(array, [joined, sizes])
    return joined


def _gather_arrays(comm: Any, array: HostArray) -> tuple[HostArray, list[int]]:
    """Return the arrays (n,) of all ranks, of one dtype, joined, and their lengths."""
    sizes = _gather(comm, np.array([array.size], np.int64), [1] * comm.size).tolist()
    return _gather(comm, array, sizes), sizes


def connect() -> Ranks:
    """Return the ranks of the MPI job that this process is part of, or this process alone.

    mpi4py is imported in an MPI job only.

    Raises
    ------
    ConfigError
        mpi4py is not installed, or its MPI library is another one than that of mpiexec.
    """
    return ALONE if rank_and_size()[1] == 1 else _connect()


@cache
def _connect() -> Ranks:
    """Return the ranks of the MPI job that this process is part of."""
    size = rank_and_size()[1]
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI library
        reason = " ".join(str(error).split())
        problem = f"mpiexec has started {size} processes, which need mpi4py ({reason})"
        raise ConfigError(f"{problem}: {install_command('mpi')}") from error
    library, number = _describe(MPI.Get_library_version()), 1
    # Under the mpiexec of Open MPI, another library would end the process with words of its own.
    if "OMPI_COMM_WORLD_SIZE" not in os.environ or library.startswith("Open MPI"):
        initialize(MPI)
        number = MPI.COMM_WORLD.size
    if number != size:
        problem = f"mpiexec has started {size} processes, of which mpi4py's {library} sees {number}"
        remedy = "use the mpiexec of that library, or srun with the --mpi that it needs"
        raise ConfigError(f"{problem}: {remedy}").of_all_ranks()
    return make_ranks(MPI.COMM_WORLD, platform.node(), library, Activity())


def make_ranks(comm: Any, host: str, library: str, activity: Activity) -> Ranks:
    """Return the ranks of a communicator of mpi4py, of which this one is on a machine of a name."""
    comm = activity.watched(comm)
    clock.start(activity.end_if_unwatched)
    ranks = Ranks(int(comm.rank), int(comm.size), (), library, comm, activity=activity)
    return replace(ranks, hosts=tuple(ranks.gather(host)))


def count_sharing(ranks: Ranks) -> list[int]:
    """Return, for each rank, the number of ranks on its machine that may run on one of its processors.

    That is all of them, or 1, the rank itself, if mpiexec or srun has bound each to processors of its own.
    All ranks must call this.
    """
    every = ranks.gather([*allowed_cpus()])
    places = [{(host, cpu) for cpu in cpus} for host, cpus in zip(ranks.hosts, every, strict=True)]
    return [sum(not own.isdisjoint(others) for others in places) for own in places]


def _describe(version: str) -> str:
    """Return name and number of an MPI library, which may add details, further lines and a null."""
    first = " ".join(version.rstrip("\0").splitlines()[0].partition(",")[0].split())
    return re.sub(r"(Version: |\bv)(?=\d)", "", first)
