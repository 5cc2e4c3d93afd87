"""The processes that mpiexec or srun has started, before they are connected, and the end of their job."""

import os
import signal
import sys
import time
from contextlib import suppress
from threading import Thread
from typing import Any

from xpnet._lib.interrupts import TERMINATION
from xpnet._lib.text import complain
from xpnet.errors import ConfigError

VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun
)

LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
"""The number of a process among those on its machine, by the same libraries."""

LOCAL_SIZES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")
"""The number of the processes on a machine, by mpiexec of MPICH, Intel MPI and Open MPI."""

PATIENCE = 30
"""Seconds after which a rank says that it waits for others to start."""
POLLING_SECONDS = 2
"""Seconds between two looks for ranks that have ended before they were connected."""


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) outside an MPI job."""
    for names in VARIABLES:
        rank, size = (os.environ.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal():
            return int(rank), int(size)
    return 0, 1


def check_alone(name: str, work: str) -> None:
    """Check that this process is no rank of an MPI job, for a command or setting of a name.

    Raises
    ------
    ConfigError
        It is one; the message ends with the `work` of the ranks, and what to do instead.
    """
    if (size := rank_and_size()[1]) > 1:
        raise ConfigError(f"{name}: mpiexec has started {size} processes, {work}").of_all_ranks()


def local_rank() -> int:
    """Return the number of this process among those of its job on this machine."""
    return _read_number(LOCAL_RANKS)


def _read_number(names: tuple[str, ...]) -> int:
    """Return the first number that one of the environment variables of these names holds, else 0."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), 0)


def is_connected() -> bool:
    """Return True if this process is connected to the other ranks of its MPI job."""
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and module.Is_initialized()


def end_job(code: int) -> None:
    """End the processes of a job, which may wait for this one, with an exit code.

    Before this one is connected, that is the launcher's own abort: the mpiexec of MPICH and Intel MPI listens
    at a socket (PMI). That of Open MPI ends a job by itself once a process ends with an exit code above 0.
    """
    with suppress(KeyboardInterrupt):
        time.sleep(1)  # until the launcher has passed on what this process has printed
    if is_connected():
        sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    with suppress(OSError, ValueError, KeyError):
        os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={code}\n".encode())


def count_ended() -> int:
    """Return the number of processes of the job on this machine that have ended; 0 if that is not known.

    The others are below the process that started this one, with a rank in their environment, as /proc tells.
    """
    from pathlib import Path

    size = _read_number(LOCAL_SIZES)
    names = tuple(f"{rank}=".encode() for rank, _ in VARIABLES if rank in os.environ)
    parents, ranks = dict[int, int](), dict[int, bytes]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "environ").read_bytes().split(b"\0")  # empty of a zombie
            ranks |= {int(folder.name): word for word in words if word.startswith(names)}
    launchers = {}
    for process in ranks:
        launcher = process
        while launcher in ranks:
            launcher = parents[launcher]
        launchers[process] = launcher
    own = launchers.get(os.getpid())
    if not own:  # without /proc, or in a container of its own, which does not show the others
        return 0
    return max(0, size - len({rank for process, rank in ranks.items() if launchers[process] == own}))


def initialize(MPI: Any) -> None:
    """Connect to the other ranks; end the job if one on this machine ends before it has done so.

    A signal ends it, too: MPI waits for the others without a look at Python's handlers.
    """
    if MPI.Is_initialized():
        return
    import ctypes  # which commands without ranks do not need
    import socket

    # Open MPI's wheel says of each window that it has no UCX, which nothing here needs.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    ours, signals = socket.socketpair()
    signals.settimeout(0)
    watch = Thread(target=_watch, args=(ours,), daemon=True)
    watch.start()
    previous = signal.set_wakeup_fd(signals.fileno())
    # Unlike that of mpi4py, this call lets other threads run.
    ctypes.CDLL(MPI.__file__).MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(ctypes.c_int()))
    signal.set_wakeup_fd(previous)
    signals.send(b"\0")
    watch.join()


def _watch(signals: Any) -> None:
    """Say when the ranks are late, and end this process and the job when one has ended, until connected.

    The numbers of signals come from a socket.
    """
    import platform
    from select import select

    waited = seen = 0
    where = f"rank {rank_and_size()[0]}, on {platform.node()}"
    while True:
        if select([signals], [], [], POLLING_SECONDS)[0]:
            number = signals.recv(1)[0]
            if not number:
                return
            if number in (signal.SIGINT, *TERMINATION):
                end_job(128 + number)
                os._exit(128 + number)
            continue
        waited, ended = waited + POLLING_SECONDS, count_ended()
        seen = seen + 1 if ended else 0
        if seen == 3:  # not while the launcher is starting them, and after their own words
            problem = f"{ended} of the ranks on this machine ended before all were connected"
            complain(f"{where}: {problem}: what they printed, if anything, says why")
            end_job(ConfigError.exit_code)
            os._exit(ConfigError.exit_code)
        if local_rank() < 2 and waited == PATIENCE:  # one of the two, if the other is late
            complain(f"{where}: has waited {PATIENCE} seconds for other ranks to start, and goes on waiting")
