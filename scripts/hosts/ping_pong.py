"""Prints latency and bandwidth between ranks 0 and 1 of an MPI job: half of the median round trip's time."""

import time
from statistics import median
from typing import Any

import numpy as np
from mpi4py import MPI


def one_way_seconds(comm: Any, numbers: int, repeats: int) -> float:
    """Return the time that so many numbers of 8 bytes take from one rank to the other."""
    data, times = np.zeros(numbers), []
    for _ in range(repeats):
        comm.Barrier()
        begin = time.perf_counter()
        if comm.rank == 0:
            comm.Send(data, 1)
            comm.Recv(data, 1)
        elif comm.rank == 1:
            comm.Recv(data, 0)
            comm.Send(data, 0)
        times.append(time.perf_counter() - begin)
    return median(times) / 2


def main() -> None:
    """Measure with one number and with 8 MiB."""
    comm = MPI.COMM_WORLD
    latency, long = one_way_seconds(comm, 1, 100), one_way_seconds(comm, 2**20, 10)
    if comm.rank == 0:
        print(f"{1e6 * latency:,.0f} us, {8 * 8 * 2**20 / long / 1e9:.2f} Gbit/s")


if __name__ == "__main__":
    main()
