"""Prints the time of a message between ranks 0 and 1 of an MPI job: half of the median round trip's."""

import time
from statistics import median

import numpy as np
from mpi4py import MPI

comm, number, times = MPI.COMM_WORLD, np.zeros(1), []
for _ in range(100):
    begin = time.perf_counter()
    if comm.rank == 0:
        comm.Send(number, 1)
        comm.Recv(number, 1)
    else:
        comm.Recv(number, 0)
        comm.Send(number, 0)
    times.append(time.perf_counter() - begin)
if comm.rank == 0:
    print(f"{1e6 * median(times) / 2:,.0f} us")
