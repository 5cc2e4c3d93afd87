# ruff: noqa: N802 - the names of mpi4py
"""Ranks as threads of which one runs at a time: a seed chooses which, at each communication and write.

Time passes when nothing else can happen. `MPI` stands for the module of mpi4py: what MPI leaves open, as the
order of messages and of sums, is drawn.
"""

from functools import reduce
from itertools import count
from math import inf
from threading import Event, Lock, Thread
from traceback import clear_frames
from types import SimpleNamespace

import numpy as np

from xpnet.distributed.ranks import ALONE

LONGEST = 1e5
"""Seconds that a schedule may last."""


class Killed(BaseException):
    """Ends the threads of a process that was killed."""


class BrokenProtocol(BaseException):
    """Calls of the ranks that do not go together, of which MPI says nothing or aborts."""


class Process:
    """A rank of a job."""

    def __init__(self, job=None, rank=0):
        self.job, self.rank, self.ranks, self.is_dead = job, rank, ALONE, False


class Task:
    """A thread, which runs while it has the baton."""

    def __init__(self, process):
        self.process, self.ready, self.deadline, self.baton = process, lambda: True, inf, Lock()
        self.baton.acquire()


class Scheduler:
    """Runs tasks, one at a time. The first is the thread that makes it."""

    def __init__(self, random):
        self.random, self.time, self.problems, self.current = random, 0.0, [], Task(Process())
        self.tasks = [self.current]

    def spawn(self, process, work):
        """Begin a task, which first waits until it is chosen."""
        task = Task(process)

        def run():
            task.baton.acquire()
            try:
                work()
            except BaseException as error:  # noqa: BLE001
                self.problems += [error] * (not process.is_dead)
                process.is_dead = True
                while error:  # a process that ends holds no locks, which cycles of frames would keep
                    clear_frames(error.__traceback__)
                    error = error.__context__
            self.tasks.remove(task)
            self._pass_on()

        self.tasks.append(task)
        Thread(target=run, daemon=True).start()

    def switch(self, ready=lambda: True, seconds=inf):
        """Let another task run, until this one is ready or time has passed, and is chosen."""
        task = self.current
        task.ready, task.deadline = ready, self.time + seconds
        if not task.process.is_dead:
            self._pass_on()
            task.baton.acquire()
        if task.process.is_dead:
            raise Killed

    def _pass_on(self):
        while not (
            ready := [x for x in self.tasks if x.process.is_dead or x.deadline <= self.time or x.ready()]
        ):
            self.time = min(task.deadline for task in self.tasks)
            if self.time > LONGEST:
                self.problems.append(BrokenProtocol("all wait, and nothing ends it"))
                for task in self.tasks[1:]:
                    task.process.is_dead = True
        self.current = self.random.choice(ready)
        self.current.baton.release()

    def start(self, work):
        """Do as ``clock.start``."""
        ended = Event()
        self.spawn(self.current.process, lambda: (work(), ended.set()))
        return ended

    def wait(self, event, limit=inf):
        """Do as ``clock.wait``."""
        self.switch(event.is_set, limit)

    def sleep(self, seconds):
        self.switch(lambda: False, seconds)


class Comm:
    """A communicator of one rank, with the methods of mpi4py's that the package calls.

    Ranks have in common their `group`: what they give in calls, by their number, and letters, by their way.
    """

    def __init__(self, comm=None, **facts):  # as mpi4py's, a copy of another one
        vars(self).update(vars(comm or self), calls=count(), **facts)

    def _meet(self, name, value, sources=None):
        """Give a value in the next collective call, and wait for those of the ranks whose data are needed."""
        self.world.point(name)
        new = SimpleNamespace(name=name, values={}, shared={})
        meeting = self.group.setdefault(next(self.calls), new)
        if meeting.name != name:
            raise BrokenProtocol(f"rank {self.rank} calls {name}, another one {meeting.name}")
        meeting.values[self.rank] = value
        needed = {*(range(self.size) if sources is None else sources)}
        self.world.switch(lambda: needed <= meeting.values.keys())
        return meeting

    def _exchange(self, name, parts, memory, widths):
        """Give each rank a part, and receive one of each, of these sizes, one after the other."""
        sources = [rank for rank, width in enumerate(widths) if width]
        values = self._meet(name, [part.copy() for part in parts], sources).values
        received = [values[rank][self.rank].reshape(widths[rank]) for rank in sources]
        memory.reshape(-1)[: sum(widths)] = np.concatenate([memory[:0].reshape(-1), *received])

    def Allgather(self, sent, received):
        self.Allgatherv(sent, [received, [sent.size] * self.size])

    def Allgatherv(self, sent, received):
        memory, widths = received[:2]
        own = memory[sum(widths[: self.rank]) :][: widths[self.rank]] if sent is MPI.IN_PLACE else sent
        self._exchange("Allgather", [own] * self.size, memory, widths)

    def Alltoallv(self, outgoing, incoming):
        (sent, counts, _), (received, widths, _) = outgoing, incoming
        parts = np.split(sent.reshape(-1), np.cumsum(counts)[:-1])
        self._exchange("Alltoallv", parts, received, widths)

    def Allreduce(self, _, memory, operation):
        values = self._meet("Allreduce", memory.copy()).values.values()
        memory[...] = reduce(operation, self.world.random.sample([*values], self.size))

    def Barrier(self):
        self._meet("Barrier", None)

    def Split_type(self, _):
        return self._divide("Split_type", self.host)

    def Dup(self):
        return self._divide("Dup", "all")

    def _divide(self, name, color):
        meeting = self._meet(name, color)
        members = [rank for rank in range(self.size) if meeting.values[rank] == color]
        group, rank = meeting.shared.setdefault(color, {}), members.index(self.rank)
        return Comm(self, group=group, rank=rank, size=len(members))

    def Free(self):
        vars(self).pop("world").point("Free")

    def Isend(self, sent, rank):
        self.world.point("Isend")
        letter = SimpleNamespace(content=sent.copy(), is_taken=self.world.random.random() < 0.5)
        self.group.setdefault((self.rank, rank), []).append(letter)
        return SimpleNamespace(Test=lambda: letter.is_taken)

    def Iprobe(self, status):
        self.world.point("Iprobe")
        arrived = [rank for rank in range(self.size) if self.group.get((rank, self.rank))]
        status.source = self.world.random.choice([*arrived, None])
        return status.source is not None

    def Recv(self, received, source):
        self.world.point("Recv")
        letter = self.group[source, self.rank].pop(0)
        received[...], letter.is_taken = letter.content, True


def _allocate_shared(size, _, comm):
    meeting = comm._meet("Allocate_shared", size)
    memory = meeting.shared.setdefault(0, bytearray(b"\xa5" * sum(meeting.values.values())))
    return SimpleNamespace(Shared_query=lambda _: (memory, 1), Free=lambda: None)


MPI = SimpleNamespace(IN_PLACE=object(), MAX=np.maximum, DOUBLE=None, FLOAT=None)
MPI.Query_thread, MPI.THREAD_MULTIPLE, MPI.COMM_TYPE_SHARED = lambda: 3, 3, None
MPI.Status, MPI.REQUEST_NULL = SimpleNamespace, SimpleNamespace(Test=lambda: True)
MPI.Win = SimpleNamespace(Allocate_shared=_allocate_shared)
