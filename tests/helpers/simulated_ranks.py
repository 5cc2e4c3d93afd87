# ruff: noqa: N802 - the names of mpi4py
"""Ranks as threads of which one runs at a time: a seed chooses which, at each communication and write.

Time passes when nothing else can happen. `MPI` stands for the module of mpi4py: what MPI leaves open, as the
order of messages and of sums, is drawn.
"""

from collections import defaultdict
from itertools import accumulate, count
from math import inf
from threading import Event, Lock, Thread
from types import SimpleNamespace

import numpy as np

LONGEST = 1e5
"""Seconds that a world may last."""


class Killed(BaseException):
    """Ends the threads of a process that was killed."""


class BrokenProtocol(BaseException):
    """Calls of the ranks that do not go together, of which MPI says nothing or aborts."""


class Task:
    """A thread, which runs while it has the baton."""

    def __init__(self, process):
        self.process, self.ready, self.deadline, self.baton = process, None, inf, Lock()
        self.baton.acquire()

    def can_run(self, time):
        is_ready = self.ready is None or self.deadline <= time or self.ready()
        return self.process.is_dead or (is_ready and not self.process.hangs)


class Scheduler:
    """Runs tasks, one at a time."""

    def __init__(self, random):
        self.random, self.tasks, self.current, self.time, self.broken = random, [], None, 0.0, []
        self.ended = Lock()
        self.ended.acquire()

    def begin(self, process, work):
        """Begin a task, which first waits until it is chosen."""
        task = Task(process)

        def run():
            task.baton.acquire()
            try:
                if not process.is_dead:
                    work()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001
                self.broken += [error] * (not process.is_dead)
            self.tasks.remove(task)
            self._pass_on()

        self.tasks.append(task)
        Thread(target=run, daemon=True).start()

    def run(self):
        """Run all tasks to their ends."""
        self._pass_on()
        self.ended.acquire()

    def switch(self, ready=None, seconds=inf):
        """Let another task run, until this one is ready or time has passed, and is chosen."""
        task = self.current
        task.ready, task.deadline = ready, self.time + seconds
        chosen = task if task.process.is_dead else self._choose()
        if chosen is not task:
            self.current = chosen
            chosen.baton.release()
            task.baton.acquire()
        task.ready, task.deadline = None, inf
        if task.process.is_dead:
            raise Killed

    def _choose(self):
        while not (ready := [task for task in self.tasks if task.can_run(self.time)]):
            self.time = min((task.deadline for task in self.tasks if not task.process.hangs), default=inf)
            if self.time > LONGEST or self.broken:
                if not self.broken and not all(task.process.hangs for task in self.tasks):
                    self.broken.append(BrokenProtocol("all wait, and nothing ends it"))
                for task in self.tasks:  # or one hangs that nobody waits for, until somebody kills it
                    task.process.is_dead = task.process.job.is_killed = True
        return self.random.choice(ready)

    def _pass_on(self):
        self.current = self._choose() if self.tasks else None
        (self.current.baton if self.current else self.ended).release()

    def start(self, work):
        """Do as ``clock.start``."""
        ended = Event()
        self.begin(self.current.process, lambda: (work(), ended.set()))
        return ended

    def wait(self, event, limit=inf):
        """Do as ``clock.wait``."""
        self.switch(event.is_set, limit)


class Group:
    """What the communicators of the ranks of a group share."""

    def __init__(self, size):
        self.size, self.meetings, self.letters, self.freed = size, {}, defaultdict(list), set()


class Comm:
    """A communicator of one rank, with the methods of mpi4py's that the package calls."""

    def __init__(self, comm):  # as mpi4py's, a copy of another one
        vars(self).update(vars(comm))

    @classmethod
    def of(cls, world, group, rank, host):
        facts = {"world": world, "group": group, "rank": rank, "size": group.size, "host": host}
        return cls(SimpleNamespace(**facts, calls=count()))

    def _meet(self, name, given, sources=None):
        """Give something in the next collective call; return what those gave whose data are needed."""
        self._check(name)
        new = SimpleNamespace(name=name, given={}, made={})
        meeting = self.group.meetings.setdefault(next(self.calls), new)
        if meeting.name != name:
            raise BrokenProtocol(f"rank {self.rank} calls {name}, another one {meeting.name}")
        meeting.given[self.rank] = given
        needed = range(self.size) if sources is None else sources
        self.world.switch(lambda: all(rank in meeting.given for rank in needed))
        return meeting

    def _exchange(self, name, parts, memory, widths, starts):
        """Give each rank a part, and receive one of each, of these sizes, at these places in the memory."""
        sources = [rank for rank, width in enumerate(widths) if width]
        given = self._meet(name, [part.copy() for part in parts], sources).given
        for source in sources:
            part = given[source][self.rank]
            if part.size != widths[source]:
                raise BrokenProtocol(
                    f"{name}: {part.size} numbers of rank {source}, expected {widths[source]}"
                )
            memory.reshape(-1)[starts[source] :][: part.size] = part

    def _check(self, name):
        if self.rank in self.group.freed:
            raise BrokenProtocol(f"rank {self.rank} calls {name} of a communicator that it has freed")
        self.world.point("call", name)

    def Allgather(self, sent, received):
        starts = range(0, received.size, sent.size)
        self._exchange("Allgather", [sent] * self.size, received, [sent.size] * self.size, starts)

    def Allgatherv(self, sent, received):
        memory, counts = received[:2]
        widths, starts = counts if sent is MPI.IN_PLACE else (counts, [0, *accumulate(counts)])
        own = memory[starts[self.rank] :][: widths[self.rank]] if sent is MPI.IN_PLACE else sent
        self._exchange("Allgatherv", [own] * self.size, memory, widths, starts)

    def Alltoallv(self, outgoing, incoming):
        (sent, places, _), (received, (widths, starts), _) = outgoing, incoming
        parts = [sent.reshape(-1)[start:][:number] for number, start in zip(*places, strict=True)]
        self._exchange("Alltoallv", parts, received, widths, starts)

    def Allreduce(self, _, memory, operation):
        given = self._meet("Allreduce", memory.copy()).given
        first, *others = self.world.random.sample(range(self.size), self.size)
        memory[...] = given[first]
        for rank in others:
            memory[...] = operation(given[rank], memory)

    def Barrier(self):
        self._meet("Barrier", None)

    def Split_type(self, _):
        meeting = self._meet("Split_type", self.host)
        members = [rank for rank in range(self.size) if meeting.given[rank] == self.host]
        group = meeting.made.setdefault(self.host, Group(len(members)))
        return Comm.of(self.world, group, members.index(self.rank), self.host)

    def Dup(self):
        group = self._meet("Dup", None).made.setdefault(0, Group(self.size))
        return Comm.of(self.world, group, self.rank, self.host)

    def Free(self):
        self._check("Free")
        self.group.freed.add(self.rank)

    def Isend(self, sent, rank):
        self._check("Isend")
        arrives = self.world.time + 0.02 * self.world.random.random()
        is_copied = self.world.random.random() < 0.5
        letter = SimpleNamespace(content=sent.copy(), arrives=arrives, is_taken=is_copied)
        self.group.letters[self.rank, rank].append(letter)
        return SimpleNamespace(Test=lambda: letter.is_taken)

    def Iprobe(self, status):
        self._check("Iprobe")
        queues = {source: queue for (source, to), queue in self.group.letters.items() if to == self.rank}
        arrived = [
            source for source, queue in queues.items() if queue and queue[0].arrives <= self.world.time
        ]
        status.source = self.world.random.choice(arrived) if arrived else None
        return bool(arrived)

    def Recv(self, received, source):
        self._check("Recv")
        letter = self.group.letters[source, self.rank].pop(0)
        letter.is_taken = True
        received[...] = letter.content


def _allocate_shared(size, _, comm):
    meeting = comm._meet("Allocate_shared", size)
    memory = meeting.made.setdefault(0, bytearray(b"\xa5" * sum(meeting.given.values())))
    return SimpleNamespace(Shared_query=lambda _: (memory, 1), Free=_free)


def _free():
    """Free a window, when the process ends."""


MPI = SimpleNamespace(IN_PLACE=object(), MAX=np.maximum, DOUBLE=None, FLOAT=None)
MPI.Query_thread, MPI.THREAD_MULTIPLE, MPI.COMM_TYPE_SHARED = lambda: 3, 3, None
MPI.Status, MPI.REQUEST_NULL = SimpleNamespace, SimpleNamespace(Test=lambda: True)
MPI.Win = SimpleNamespace(Allocate_shared=_allocate_shared)
