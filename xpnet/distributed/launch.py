"""The connection between the processes that mpiexec or srun has started."""

import signal
import time

from xpnet._lib.launch import rank_and_size
from xpnet._lib.machine import allowed_cpus
from xpnet.distributed.ranks import ALONE, Alone, Ranks
from xpnet.errors import ConfigError


def connect() -> Alone:
    """Return the ranks of the MPI job that this process is part of, or this process alone.

    mpi4py is imported in an MPI job only.

    Raises
    ------
    ConfigError
        mpi4py is not installed, or its MPI library is another one than that of mpiexec.
    """
    rank, size = rank_and_size()
    if size == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI library
        reason = " ".join(str(error).split())
        if rank > 0:
            time.sleep(1)  # the end of a rank may end all others: the first one prints the reason
        remedy = 'pip install -e ".[mpi]" in the checkout of xpnet'
        msg = f"mpiexec has started {size} processes, which need mpi4py ({reason}): {remedy}"
        raise ConfigError(msg) from error
    comm, library = MPI.COMM_WORLD, _describe(MPI.Get_library_version())
    if comm.size != size:
        problem = f"mpiexec has started {size} processes, of which mpi4py's {library} sees {comm.size}"
        msg = f"{problem}: use the mpiexec of that library, or srun with the --mpi that it needs"
        raise ConfigError(msg)
    ranks = Ranks.of(comm, library)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return ranks


def count_sharing(ranks: Alone) -> list[int]:
    """Return, for each rank, the number of ranks on its machine that may run on one of its processors.

    That is all of them, or 1, the rank itself, if mpiexec or srun has bound each to processors of its own.
    All ranks must call this.
    """
    texts = ranks.gather(" ".join(map(str, allowed_cpus())))
    places = [(host, {*text.split()}) for host, text in zip(ranks.hosts, texts, strict=True)]
    return [
        sum(host == other and not cpus.isdisjoint(others) for other, others in places)
        for host, cpus in places
    ]


def _describe(version: str) -> str:
    """Return name and number of an MPI library, which may add details, further lines and a null."""
    return " ".join(version.rstrip("\0").splitlines()[0].partition(",")[0].split())
