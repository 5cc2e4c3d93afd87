# ruff: noqa: N802 - the names of mpi4py
"""Ranks as threads of which one runs at a time: a seed chooses which, at each communication and write.

Time passes when nothing else can happen. `MPI` stands for the module of mpi4py: what MPI leaves open, as the
order of messages, is drawn.
"""

import os
from itertools import count
from math import inf
from threading import Event, Lock, Thread
from traceback import clear_frames
from types import SimpleNamespace

from xpnet._lib.tree import split

LONGEST = 1e5
"""Seconds after which what nothing has ended is killed."""


class Killed(BaseException):
    """Ends the threads of a process that was killed."""


class Process(SimpleNamespace):
    """A rank of a job, and the time of its end."""

    job, end = None, LONGEST


class Task:
    """A thread, which runs while it has the baton."""

    def __init__(self, process):
        self.process, self.ready, self.deadline, self.baton = process, lambda: True, inf, Lock()
        self.baton.acquire()


class Scheduler:
    """Runs tasks, one at a time, on these processors. The first is the thread that makes it."""

    cpus = ()

    def __init__(self, random):
        self.random, self.time, self.problems, self.current = random, 0.0, [], Task(Process(end=inf))
        self.tasks = [self.current]

    def spawn(self, process, work):
        """Begin a task, which first waits until it is chosen."""
        task = Task(process)

        def run():
            task.baton.acquire()
            try:
                os.sched_setaffinity(0, self.cpus or os.sched_getaffinity(0))
                work()
            except BaseException as error:  # noqa: BLE001
                self.problems += [error] * (self.time < process.end)
                process.end = self.time
                clear_frames(error.__traceback__)  # cycles of frames would keep its locks
            self.tasks.remove(task)
            self._pass_on()

        self.tasks.append(task)
        Thread(target=run, daemon=True).start()

    def switch(self, ready=lambda: True, seconds=inf):
        """Let another task run, until this one is ready or time has passed, and is chosen."""
        task = self.current
        task.ready, task.deadline = ready, self.time + seconds
        self._pass_on()
        task.baton.acquire()
        if self.time >= task.process.end:
            raise Killed

    def _pass_on(self):
        first = self.random.randrange(len(self.tasks))
        tasks, limits = self.tasks[first:] + self.tasks[:first], lambda x: min(x.process.end, x.deadline)
        while not (ready := next((x for x in tasks if limits(x) <= self.time or x.ready()), None)):
            self.time = min(map(limits, tasks))
        self.current = ready
        ready.baton.release()

    def start(self, work):
        """Do as ``clock.start``."""
        ended = Event()
        self.spawn(self.current.process, lambda: (work(), ended.set()))
        return ended

    def wait(self, event, limit=inf):
        """Do as ``clock.wait``."""
        self.switch(event.is_set, limit)


class Comm:
    """A communicator of one rank, with the methods of mpi4py's that the package calls.

    Ranks have in common their `group`: what they give in calls, by their number, and letters, by their way.
    """

    def __init__(self, comm=None, **facts):  # as mpi4py's, with the ranks of another one
        self.facts = facts or comm.facts
        vars(self).update(self.facts, calls=count())

    def _meet(self, name, value, sources=None):
        """Give a value in the next collective call, and wait for those of the ranks whose data are needed."""
        self.world.point(name)
        new = SimpleNamespace(name=name, values={}, shared={})
        meeting = self.group.setdefault(next(self.calls), new)
        assert meeting.name == name, f"rank {self.rank} calls {name}, another one {meeting.name}"
        meeting.values[self.rank] = value
        needed = {*(range(self.size) if sources is None else sources)}
        self.world.switch(lambda: needed <= meeting.values.keys())
        return meeting

    def _exchange(self, name, parts, memory, widths):
        """Give each rank a part, and receive one of each, of these sizes, one after the other."""
        sources = [rank for rank, width in enumerate(widths) if width]
        values, places = self._meet(name, parts, sources).values, split(memory.reshape(-1), widths)
        for rank in sources:
            places[rank][...] = values[rank][self.rank].reshape(widths[rank])

    def Allgatherv(self, sent, received):
        memory, widths = received[:2]
        own = split(memory, widths)[self.rank] if sent is MPI.IN_PLACE else sent
        self._exchange("Allgather", [own.copy()] * self.size, memory, widths)

    def Alltoallv(self, outgoing, incoming):
        (sent, counts, _), (received, widths, _) = outgoing, incoming
        parts = [part.copy() for part in split(sent.reshape(-1), counts)]
        self._exchange("Alltoallv", parts, received, widths)

    def Dup(self):
        return Comm(**{**self.facts, "group": self._meet("Dup", None).shared})

    def Split_type(self, _):
        meeting = self._meet("Split_type", self.host)
        members = [rank for rank in range(self.size) if meeting.values[rank] == self.host]
        facts = {"group": meeting.shared.setdefault(self.host, {}), "rank": members.index(self.rank)}
        return Comm(**{**self.facts, **facts, "size": len(members)})

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


def _allocate(size, _, comm):
    meeting = comm._meet("Allocate_shared", size)
    memory = meeting.shared.setdefault(0, bytearray(b"\xa5" * sum(meeting.values.values())))
    return SimpleNamespace(Shared_query=lambda _: (memory, 1), Free=lambda: None)


MPI = SimpleNamespace(IN_PLACE=object(), DOUBLE=None, FLOAT=None, COMM_TYPE_SHARED=None, THREAD_MULTIPLE=3)
MPI.Query_thread, MPI.Status = lambda: 3, SimpleNamespace
MPI.Win, MPI.REQUEST_NULL = SimpleNamespace(Allocate_shared=_allocate), SimpleNamespace(Test=lambda: True)
