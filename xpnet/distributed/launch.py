"""The connection between the processes that mpiexec or srun has started."""

import ctypes
import os
import platform
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from xpnet import __version__
from xpnet._lib.interrupts import TERMINATION, Terminate
from xpnet._lib.launch import count_ended, end_job, local_rank, rank_and_size
from xpnet._lib.machine import allowed_cpus
from xpnet._lib.text import complain
from xpnet.arithmetic import SPECIFICATION_VERSION
from xpnet.distributed.ranks import ALONE, Alone, Ranks
from xpnet.errors import ConfigError

T = TypeVar("T")

PATIENCE = 30
"""Seconds after which a rank says that it waits for others to start."""
POLLING_SECONDS = 2
"""Seconds between two looks for ranks that have ended before they were connected."""


def connect() -> Alone:
    """Return the ranks of the MPI job that this process is part of, or this process alone.

    mpi4py is imported in an MPI job only.

    Raises
    ------
    ConfigError
        mpi4py is not installed, or its MPI library is another one than that of mpiexec.
    """
    size = rank_and_size()[1]
    if size == 1:
        return ALONE
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI library
        reason = " ".join(str(error).split())
        remedy = 'pip install -e ".[mpi]" in the checkout of xpnet'
        msg = f"mpiexec has started {size} processes, which need mpi4py ({reason}): {remedy}"
        raise ConfigError(msg) from error
    _initialize(MPI)
    comm, library = MPI.COMM_WORLD, _describe(MPI.Get_library_version())
    if comm.size != size:
        problem = f"mpiexec has started {size} processes, of which mpi4py's {library} sees {comm.size}"
        msg = f"{problem}: use the mpiexec of that library, or srun with the --mpi that it needs"
        raise ConfigError(msg)
    ranks = Ranks(int(comm.rank), int(comm.size), library=library, comm=comm)
    ranks = replace(ranks, hosts=tuple(ranks.gather(platform.node())))
    handlers: list[tuple[int, Any]] = [(signal.SIGINT, signal.default_int_handler)]
    handlers += dict.fromkeys(TERMINATION, Terminate()).items()
    for number, handler in handlers:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handler)
    return ranks


def _initialize(MPI: Any) -> None:
    """Connect to the other ranks; end the job if one on this machine ends before it has done so."""
    if MPI.Is_initialized():
        return
    is_connected = Event()
    watch = Thread(target=_watch, args=(is_connected,), daemon=True)
    watch.start()
    # Unlike that of mpi4py, this call lets other threads run.
    ctypes.CDLL(MPI.__file__).MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(ctypes.c_int()))
    is_connected.set()
    watch.join()


def _watch(is_connected: Event) -> None:
    """Say when the ranks are late, and end this process and the job when one has ended, until connected."""
    rank, waited, seen = rank_and_size()[0], 0, 0
    where = f"rank {rank}, on {platform.node()}"
    while not is_connected.wait(POLLING_SECONDS):
        waited, ended = waited + POLLING_SECONDS, count_ended()
        seen = seen + 1 if ended else 0
        if seen == 3:  # not while the launcher is starting them, and after their own words
            problem = f"{ended} of the ranks on this machine ended before all were connected"
            complain(f"{where}: {problem}: what they printed, if anything, says why")
            end_job(ConfigError.exit_code)
            os._exit(ConfigError.exit_code)
        if local_rank() < 2 and waited == PATIENCE:  # one of the two, if the other is late
            complain(f"{where}: has waited {PATIENCE} seconds for other ranks to start, and goes on waiting")


def read_together(
    name: str, words: Sequence[str], read: Callable[[], T], list_facts: Callable[[T], Mapping[str, object]]
) -> T:
    """Return what ``read`` makes of the command line, once all ranks of an MPI job have read the same.

    Raises
    ------
    ConfigError
        The ranks have other commands, versions or facts, or one of them cannot read its command line.
    """
    ranks = connect()
    with ranks.together():
        is_help = not {"-h", "--help"}.isdisjoint(words)
        named = os.environ.get("PWD", "")  # of a mount, each machine may know another path
        folder = named if named and Path(named).resolve() == Path.cwd() else str(Path.cwd())
        facts = {"xpnet": __version__, "specification": SPECIFICATION_VERSION, "working folder": folder}
        ranks.compare({"command": name, **facts, "--help": is_help})
        with ranks.agreement():
            command = read()
        ranks.compare(list_facts(command))
    return command


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
    first = " ".join(version.rstrip("\0").splitlines()[0].partition(",")[0].split())
    return re.sub(r"(Version: |\bv)(?=\d)", "", first)
