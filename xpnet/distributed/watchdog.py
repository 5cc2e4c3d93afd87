"""The watch over the ranks of an MPI job: which one the others wait for, and the end of a job that hangs.

A thread of each rank tells the threads of the others what it is doing, so that it is known of one whose
main thread waits, or computes for long.
"""

import math
import os
import signal
import statistics
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

import numpy as np

from xpnet._lib import clock
from xpnet._lib.text import complain
from xpnet._typing import Function
from xpnet.errors import ConfigError

COLLECTIVE = ("Allgatherv", "Alltoallv", "Split_type")
"""The calls in which a rank waits for the others."""
TIMEOUT = "XPNET_RANK_TIMEOUT"
"""The environment variable that sets both limits."""
LIMIT, LONG_LIMIT = 300.0, 3600.0
"""Seconds of waiting after which the job ends: for a rank in a step, and for one that does something else."""
PATIENCE, PAUSE = 60.0, 5.0
"""Seconds of waiting after which that is said, and from one look to the next."""
NEW, KNOWN = 1, 2
OUTSIDE = "reading, writing, evaluating or compiling"
STEPS = 20
"""The number of last steps of which the median duration is compared."""
SLOW = 3
"""The factor by which the median of a slow rank exceeds that of the others."""
LOOKS = 6
"""The number of looks that find a rank slow before a line says so."""


@dataclass
class Activity:
    """The work of a rank so far.

    Attributes
    ----------
    calls, is_waiting, waited
        The number of calls in which it has waited for the others; True in such a call; seconds in them.
    step, phase
        The number of the last training step that it has begun; `NEW` in the first step with so many samples,
        which may compile, `KNOWN` in another one, else 0.
    sizes, longest, recent
        The numbers of samples of its steps; seconds of the longest one, and, for a block, of the last ones
        without waiting.
    is_watched
        Set once the ranks watch each other.
    sent
        The bytes of sums, maxima and parameters that it has sent to other ranks.
    complain
        Prints a line.
    """

    complain = staticmethod(complain)

    calls: int = 0
    is_waiting: bool = False
    waited: float = 0.0
    step: int = 0
    phase: int = 0
    sizes: set[int] = field(default_factory=set)
    longest: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS))
    is_watched: Event = field(default_factory=Event)
    sent: int = 0

    def wait(self, call: Function, *arguments: Any) -> Any:
        """Return the result of a call in which the ranks wait for each other."""
        start, self.is_waiting = clock.seconds(), True
        self.calls += 1
        result = call(*arguments)
        self.is_waiting = False
        self.waited += clock.seconds() - start
        return result

    def end_if_unwatched(self) -> None:
        """End this process unless the ranks watch each other in time: none knows before what another does."""
        limit = LONG_LIMIT
        with suppress(ConfigError):  # which is raised where all ranks raise it
            limit = read_limits(debug="--debug" in sys.argv)[1]
        clock.wait(self.is_watched, limit)
        if not self.is_watched.is_set():
            self.complain(f"the ranks have not all connected after {limit:.0f} s, and the job ends")
            self.end()

    def end(self) -> None:
        """End this process: MPI_Abort may wait for a lost machine, and mpiexec goes on after os._exit."""
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    @contextmanager
    def in_step(self, number: int, samples: int, blocks: int) -> Iterator[None]:
        """Let the body be the step of a number, or several, on so many samples and own blocks."""
        start, waited = clock.seconds(), self.waited
        self.step, self.phase = number, KNOWN if samples in self.sizes else NEW
        yield
        self.phase, seconds = 0, clock.seconds() - start
        self.sizes.add(samples)
        self.longest = max(self.longest, seconds)
        if blocks:
            self.recent.append((seconds - self.waited + waited) / blocks)

    def tell(self) -> tuple[float, ...]:
        """Return the numbers that the other ranks need, but for the last."""
        recent = [*self.recent]
        median = statistics.median(recent) if len(recent) == STEPS else 0.0
        return self.calls, self.step, self.phase, self.longest, median

    def watched(self, comm: Any) -> Any:
        """Return a communicator of mpi4py as one whose calls are counted, with `wait` for others."""
        watched = type("WatchedComm", (type(comm),), {"wait": staticmethod(self.wait)})(comm)
        for name in COLLECTIVE:
            setattr(watched, name, partial(self.wait, getattr(watched, name)))
        return watched


CALLS, STEP, PHASE, LONGEST, MEDIAN, IS_OVER = range(6)
"""The numbers that a rank tells the others."""


class Watchdog:
    """A thread that says which rank the others wait for, and ends this process if that lasts too long.

    Nothing is done if the MPI library allows calls of one thread only.

    Parameters
    ----------
    comm
        A communicator of mpi4py, all ranks of which have a watchdog.
    hosts
        The machine of each rank.
    activity
        The work of this rank.
    limits
        The two of `read_limits`.
    """

    _is_said = False
    _calls, _waited = 0, 0.0

    def __init__(
        self, comm: Any, hosts: tuple[str, ...], activity: Activity, limits: tuple[float, float]
    ) -> None:
        from mpi4py import MPI

        self._hosts = hosts
        self._activity = activity
        self._limits = limits
        self._patience = min(PATIENCE, limits[0] / 5)
        self._pause = min(PAUSE, self._patience / 4)
        self._comm = comm.Dup()
        self._is_over = Event()
        self._states = np.zeros((comm.size, IS_OVER + 1))
        self._silent, self._looks = np.zeros(comm.size), np.zeros(comm.size)
        activity.is_watched.set()
        self._ended = clock.start(self._run) if MPI.Query_thread() == MPI.THREAD_MULTIPLE else None

    def stop(self) -> None:
        """Wait until all ranks have called this."""
        self._is_over.set()
        if self._ended:
            self._activity.wait(clock.wait, self._ended)
        self._comm.Free()

    def _run(self) -> None:
        """Tell, listen and look until all ranks have stopped."""
        from mpi4py import MPI

        comm = self._comm
        status = MPI.Status()
        last = clock.seconds()
        untold = {*range(comm.size)} - {comm.rank}  # that this rank has stopped
        requests = dict.fromkeys(untold, MPI.REQUEST_NULL)
        is_done = False
        while not is_done:
            is_over = self._is_over.is_set()
            self._states[comm.rank] = state = np.array([*self._activity.tell(), is_over], np.float64)
            for rank in [*untold]:
                if requests[rank].Test():  # one that is stopped receives nothing
                    requests[rank] = comm.Isend(state, rank)
                    untold -= {rank} if is_over else set()
            while comm.Iprobe(status=status):
                comm.Recv(self._states[status.source], status.source)
                self._silent[status.source] = 0
            is_sent = not untold and all(request.Test() for request in requests.values())
            is_done = is_sent and bool(self._states[:, IS_OVER].all())
            clock.wait(*((Event(), 0.01) if is_over else (self._is_over, self._pause)))
            now = clock.seconds()
            self._look(min(now - last, 2 * self._pause))  # a job may be suspended for long
            last = now

    def _look(self, seconds: float) -> None:
        """Say what is wrong so many seconds after the last look, or end this process."""
        work = self._activity
        states = self._states
        rank = self._comm.rank
        size = self._comm.size
        goes_on = not work.is_waiting or work.calls != self._calls
        self._calls, self._waited = work.calls, 0 if goes_on else self._waited + seconds
        self._silent += seconds
        self._silent[rank] = 0
        if rank == 0:
            self._find_slow()
        if self._waited < self._patience:
            self._is_said = False
            return
        is_silent = self._silent > self._patience / 2
        is_lost = is_silent & (states[:, IS_OVER] == 0)
        candidates = is_lost | (states[:, CALLS] < self._calls), is_silent, np.ones(size)
        awaited = next(filter(None, (np.flatnonzero(ranks).tolist() for ranks in candidates)))
        is_first = rank == min({*range(size)} - {*awaited}, default=0)
        limit = self._limits[1]
        states[is_lost, STEP:LONGEST] = states[rank, STEP:LONGEST]  # the last that is known may be old
        in_step = is_lost | (states[:, PHASE] == KNOWN)
        if states[rank, LONGEST] and in_step[awaited].all():
            limit = max(self._limits[0], 20 * states[:, LONGEST].max())
        ends = self._waited > limit + (not is_first) * 2 * self._pause
        for other in awaited if is_first and (ends or not self._is_said) else ():
            doing = f"in step {states[other, STEP]:.0f}" if states[other, PHASE] else OUTSIDE
            said = f"rank {other} on {self._hosts[other]} has been {doing} for {self._waited:.0f} s"
            after = "" if ends else f" after {limit:.0f} s"
            end = f", and the job ends{after}" if math.isfinite(limit) else ""
            work.complain(f"{said}: the others wait{end}")
        self._is_said = True
        if ends:
            work.end()

    def _find_slow(self) -> None:
        """Say once of a rank that it is slow."""
        medians = self._states[:, MEDIAN]
        for rank in np.flatnonzero(medians):
            others = np.delete(medians, rank)
            usual = float(np.median(others[others > 0])) if others.any() else math.inf
            is_slow = medians[rank] >= SLOW * usual
            self._looks[rank] = self._looks[rank] + 1 if is_slow else min(self._looks[rank], 0)
            if self._looks[rank] == LOOKS:
                self._looks[rank] = -math.inf
                times = f"{1e3 * medians[rank]:.3g} ms a block, others {1e3 * usual:.3g}"
                complain(f"warning: rank {rank} on {self._hosts[rank]} is slow: it takes {times}")


def read_limits(*, debug: bool) -> tuple[float, float]:
    """Return the seconds of `LIMIT` and `LONG_LIMIT`, or those of the environment; with ``debug`` infinity.

    Raises
    ------
    ConfigError
        XPNET_RANK_TIMEOUT is no positive number.
    """
    value = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(value or LIMIT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{TIMEOUT}: expected seconds above 0, got {value!r}")
    if debug:
        return math.inf, math.inf
    return seconds, seconds if value else LONG_LIMIT
