"""Ends a rank that waits for a lost machine: no connection is closed then, and MPI waits for ever."""

import os
import signal
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import numpy as np

SECONDS = 40
"""Seconds without an answer of all ranks after which a machine is taken for lost."""
PAUSE = 5
"""Seconds between an answer and the next question."""


class Watchdog:
    """A thread that ends this process if a rank gives no sign of life for ``SECONDS``.

    The threads of all ranks ask each other, so that it does not matter how long a step takes. Nothing is done
    if the MPI library allows calls of one thread only.

    Parameters
    ----------
    comm
        A communicator of mpi4py, all ranks of which have a watchdog.
    notify
        Receives the reason.
    """

    def __init__(self, comm: Any, notify: Callable[[str], None]) -> None:
        from mpi4py import MPI

        self._comm, self._notify, self._is_over = comm.Dup(), notify, Event()
        self._thread = Thread(target=self._ask, daemon=True)
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            self._thread.start()

    def stop(self) -> None:
        """Wait until all ranks have called this."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._comm.Free()

    def _ask(self) -> None:
        """Ask until all ranks have stopped."""
        from mpi4py import MPI

        is_over, all_over = np.zeros(1, np.int32), np.zeros(1, np.int32)
        while not all_over[0]:
            self._is_over.wait(PAUSE)
            is_over[0] = self._is_over.is_set()
            request = self._comm.Iallreduce(is_over, all_over, MPI.MIN)
            waited, pause = 0.0, 0.001
            while not request.Test():
                # The pauses are added up, because the clock goes on while a job is suspended.
                Event().wait(pause)
                waited, pause = waited + pause, min(2 * pause, 1)
                if waited > SECONDS:
                    self._notify(f"not all ranks have answered for {SECONDS} seconds: is a machine lost?")
                    # MPI_Abort may wait for the lost machine, and mpiexec goes on after os._exit.
                    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
