"""The connection between the processes that mpiexec or srun has started."""

from xpnet._lib.launch import rank_and_size
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
    _, size = rank_and_size()
    if size == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: it finds no MPI library
        reason = " ".join(str(error).split())
        remedy = 'pip install -e ".[mpi]" in the checkout of xpnet'
        msg = f"mpiexec has started {size} processes, which need mpi4py ({reason}): {remedy}"
        raise ConfigError(msg) from error
    comm, library = MPI.COMM_WORLD, _describe(MPI.Get_library_version())
    if comm.size != size:
        problem = f"mpiexec has started {size} processes, of which mpi4py's {library} sees {comm.size}"
        msg = f"{problem}: use the mpiexec of that library, or srun with the --mpi that it needs"
        raise ConfigError(msg)
    return Ranks.of(comm, library)


def _describe(version: str) -> str:
    """Return name and number of an MPI library, which may add details, further lines and a null."""
    return " ".join(version.rstrip("\0").splitlines()[0].partition(",")[0].split())
