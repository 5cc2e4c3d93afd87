# ruff: noqa: N802 - the names of mpi4py
"""Ranks as threads of which one runs at a time: a seed chooses which, at each communication and write.

Time passes when nothing else can happen. `MPI` stands for the module of mpi4py: what MPI leaves open, as the
order of messages and of sums, is drawn.
"""

from collections import defaultdict
from itertools import count
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
        if self.process.is_dead:
            return True
        return not self.process.hangs and (self.ready is None or self.deadline <= time or self.ready())


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
                self.broken.append(error)
            finally:
                self.tasks.remove(task)
                self._pass_on()

        self.tasks.append(task)
        Thread(target=run, daemon=True).start()

    def run(self):
        """Run all tasks to their ends."""
        self._pass_on()
        self.ended.acquire()
        self.current = None

    def switch(self, ready=None, seconds=inf):
        """Let another task run, until this one is ready or time has passed, and is chosen."""
        task = self.current
        if task.process.is_dead:
            raise Killed
        task.ready, task.deadline = ready, self.time + seconds
        chosen = self._choose()
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

    def wait(self, event, limit=None):
        """Do as ``clock.wait``."""
        self.switch(event.is_set, inf if limit is None else limit)


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
        return cls(
            SimpleNamespace(world=world, group=group, rank=rank, size=group.size, host=host, calls=count())
        )

    def _meet(self, name, given, facts=None, sources=None):
        """Give something in the next collective call; return what those ranks gave whose data are needed."""
        self._check(name)
        number = next(self.calls)
        meeting = self.group.meetings.setdefault(
            number, SimpleNamespace(facts=(name, facts), given={}, made={})
        )
        if meeting.facts != (name, facts):
            raise BrokenProtocol(f"rank {self.rank} calls {name} {facts}, another one {meeting.facts}")
        meeting.given[self.rank] = given
        needed = range(self.size) if sources is None else sources
        self.world.switch(lambda: all(rank in meeting.given for rank in needed))
        return meeting

    def _check(self, name):
        if self.rank in self.group.freed:
            raise BrokenProtocol(f"rank {self.rank} calls {name} of a communicator that it has freed")
        self.world.point("call", name)

    def Allgather(self, sent, received):
        given = self._meet("Allgather", sent.copy(), (sent.dtype, sent.size)).given
        received[...] = np.concatenate([given[rank] for rank in range(self.size)])

    def Allgatherv(self, sent, received):
        memory, counts = received[0], received[1]
        widths, starts = counts if sent is MPI.IN_PLACE else (counts, np.cumsum([0, *counts])[:-1].tolist())
        own = memory[starts[self.rank] :][: widths[self.rank]] if sent is MPI.IN_PLACE else sent
        if own.size != widths[self.rank]:
            raise BrokenProtocol(
                f"rank {self.rank} sends {own.size} numbers, received are {widths[self.rank]}"
            )
        sources = [rank for rank, width in enumerate(widths) if width]
        given = self._meet("Allgatherv", own.copy(), (*widths, memory.dtype), sources).given
        for rank in sources:
            memory[starts[rank] : starts[rank] + widths[rank]] = given[rank]

    def Allreduce(self, _, message, operation):
        memory = message[0] if isinstance(message, list) else message
        given = self._meet("Allreduce", memory.copy(), (memory.dtype, memory.size, operation)).given
        first, *others = self.world.random.sample(range(self.size), self.size)
        memory[...] = given[first]
        for rank in others:
            memory[...] = operation(given[rank], memory)

    def Alltoallv(self, outgoing, incoming):
        (sent, (counts, starts), kind), (received, (expected, places), _) = outgoing, incoming
        flat = sent.reshape(-1)
        given = {
            rank: flat[start:][:number].copy()
            for rank, (start, number) in enumerate(zip(starts, counts, strict=True))
        }
        sources = [rank for rank, number in enumerate(expected) if number]
        everyone = self._meet("Alltoallv", given, kind, sources).given
        for rank in sources:
            part = everyone[rank][self.rank]
            if part.size != expected[rank]:
                raise BrokenProtocol(
                    f"rank {self.rank} expects {expected[rank]} numbers, rank {rank} sends {part.size}"
                )
            received.reshape(-1)[places[rank] : places[rank] + part.size] = part

    def Barrier(self):
        self._meet("Barrier", None)

    def Split_type(self, _):
        meeting = self._meet("Split_type", self.host)
        members = [rank for rank in range(self.size) if meeting.given[rank] == self.host]
        group = meeting.made.setdefault(self.host, Group(len(members)))
        return Comm.of(self.world, group, members.index(self.rank), self.host)

    def Dup(self):
        meeting = self._meet("Dup", None)
        return Comm.of(self.world, meeting.made.setdefault(0, Group(self.size)), self.rank, self.host)

    def Free(self):
        self._check("Free")
        self.group.freed.add(self.rank)

    def Isend(self, sent, rank):
        self._check("Isend")
        delay, is_copied = 0.02 * self.world.random.random(), self.world.random.random() < 0.5
        letter = SimpleNamespace(content=sent.copy(), arrives=self.world.time + delay, taken=is_copied)
        self.group.letters[self.rank, rank].append(letter)
        return SimpleNamespace(Test=lambda: letter.taken)

    def Iprobe(self, status):
        self._check("Iprobe")
        letters = {
            source: queue[0]
            for (source, to), queue in self.group.letters.items()
            if to == self.rank and queue
        }
        arrived = [source for source, letter in letters.items() if letter.arrives <= self.world.time]
        status.source = self.world.random.choice(arrived) if arrived else None
        return bool(arrived)

    def Recv(self, received, source):
        self._check("Recv")
        letter = self.group.letters[source, self.rank].pop(0)
        letter.taken = True
        received[...] = letter.content


def _allocate_shared(size, itemsize, comm):
    del itemsize
    meeting = comm._meet("Allocate_shared", size)
    memory = meeting.made.setdefault(0, bytearray(b"\xa5" * sum(meeting.given.values())))
    return SimpleNamespace(Shared_query=lambda _: (memory, 1), Free=_free)


def _free():
    """Free a window, when the process ends."""


MPI = SimpleNamespace(
    IN_PLACE=object(),
    MAX=np.maximum,
    SUM=np.add,
    DOUBLE="double",
    FLOAT="float",
    COMM_TYPE_SHARED=object(),
    THREAD_MULTIPLE=3,
    Query_thread=lambda: 3,
    Status=SimpleNamespace,
    REQUEST_NULL=SimpleNamespace(Test=lambda: True),
    Win=SimpleNamespace(Allocate_shared=_allocate_shared),
)
