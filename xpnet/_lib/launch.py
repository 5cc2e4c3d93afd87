"""The number and the rank of the processes that mpiexec or srun has started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun
)

LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
"""The number of a process among those on its machine, by the same libraries."""


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) outside an MPI job."""
    for rank, size in VARIABLES:
        if os.environ.get(rank, "").isdecimal() and os.environ.get(size, "").isdecimal():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def local_rank() -> int:
    """Return the number of this process among those of its job on this machine, also in `outside_job`."""
    return next((int(os.environ[name]) for name in LOCAL_RANKS if os.environ.get(name, "").isdecimal()), 0)


@contextmanager
def outside_job() -> Iterator[None]:
    """Let this process be one alone in the body, as outside an MPI job, and those that it starts too."""
    names = [name for pair in VARIABLES for name in pair if name in os.environ]
    variables = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(variables)
