"""Trainings on simulated ranks, disks and clocks, to which a seed does harm: all end with the same bits.

A schedule is one training, by a job or several. Of each are drawn what happens to it, and who runs at each
communication and write. Whatever happens, a job ends well or with a line that says why, or it is killed; and
a last one, to which nothing happens, ends with the record of one process that nothing ever happened to.
"""

import errno
import json
import os
import re
import shutil
import sys
from collections import Counter
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from networks import pixels
from simulated_disk import Disk, Node
from simulated_ranks import Comm, Killed, Process, Scheduler

import xpnet
from xpnet.cli.train import train
from xpnet.config import parse
from xpnet.distributed.ranks import ALONE, make_ranks
from xpnet.distributed.watchdog import Activity

PACKAGE = Path(xpnet.__file__).parent
POINT = re.compile(r"_lib/files\.py.*(?<!def )\bchange\(|\bfiles\.change\(|(comm|MPI\.Win)\.[A-Z]\w+")
WORDS = "--name mine --no-report --device cpu --workers 1 --epochs 2 --hidden 4 --data data.npz"
SETTINGS = (
    "--batch-size full --keep-checkpoint-every 1",
    "--batch-size 600 --optimizer adam --checkpoint-seconds 0.05",
    "--batch-size 1000 --batch-norm --validation 100 --patience 9 --log-every 2",
)
"""Batches of several blocks; of one, which ranks share; and those that every rank computes."""
STARTS = {"": "", "--overwrite": "--seed 5", "--extend runs/parent": "--name parent"}
"""How a run starts, and the one that is there before it."""
OF_TWO = "was replaced|another process|exists already|nothing is left|differs between|No such file"
KINDS = dict.fromkeys(("rank killed", "job killed", "power cut", "power cut, lying disk"), ("killed", ""))
KINDS |= {"rank hangs": ("killed", "rank {} on host|have not all connected"), "two jobs": ("refused", OF_TWO)}
KINDS |= {"disk full": ("refused", "No space left"), "disk fails": ("refused", "I/O error")}
KINDS |= dict.fromkeys(("rank late", "clock goes back"), ("right", ""))
"""What happens, how the job may then end, if not right, and what one of its lines has to say."""
ERRORS = {"disk full": (errno.ENOSPC, "No space left on device"), "disk fails": (errno.EIO, "I/O error")}


class Job:
    """A command on some ranks, with a fault: what happens, on which rank, where, and the how manieth time."""

    def __init__(self, words, size=1, fault=("nothing",), kind="nothing"):
        self.words, self.size, self.fault, self.kind = words, size, fault, kind
        self.codes, self.lines, self.hits = [], [], Counter()

    def judge(self, *, is_doubtful):
        """Return how the job has ended; AssertionError if what has happened does not explain it."""
        end = {(0,): "right", (2,): "refused"}.get((*{*self.codes},), "killed")
        allowed, reason = KINDS.get(self.kind, ("right", ""))
        is_said = re.search(reason.format(*self.fault[1:2]), "\n".join(self.lines))
        is_right = end == "right" or (end == allowed and is_said) or (end == "refused" and is_doubtful)
        assert is_right, f"the job is {end} after {self.kind}, with {self.codes}: {self.lines}"
        return f"{self.kind}: {end}"


POINTS = {
    (str(path), number): text
    for path in sorted(PACKAGE.rglob("*.py"))
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if POINT.search(text := f"{path.relative_to(PACKAGE).as_posix()}:{number} {line.strip()}")
}
"""The text of each communication and write in the package, by its file and line."""


read = cache(lambda words: parse(words.split(), "xpnet train"))


class Simulation(Scheduler):
    """Everything outside of xpnet: the ranks, their clock and their disk, below a folder."""

    def __init__(self, root):
        self.root, self.mine, self.counts = root, root / "runs" / "mine", Counter()

    def reset(self, random, node):
        """Begin a schedule with a disk that holds what a node does."""
        super().__init__(random)
        self.disk, self.jobs, self.trace, self.set_back = Disk(self.root, random, node), [], [], 0.0

    def run_jobs(self, *jobs):
        """Run jobs beside each other to their ends; return how they end."""
        self.jobs += jobs
        for job in jobs:
            hosts, facts = self.random.choice((1, 2)), {"world": self, "group": {}, "size": job.size}
            for rank in range(job.size):
                work = partial(self._run_rank, job, Comm(rank=rank, host=f"host{rank % hosts}", **facts))
                self.spawn(Process(job=job, rank=rank, activity=Activity()), work)
        with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
            self.switch(lambda: len(self.tasks) == 1)
        assert not self.problems, self.problems
        return [job.judge(is_doubtful=self.disk.has_lied) for job in jobs]

    def _run_rank(self, job, comm):
        process, command, activity = self.current.process, read(job.words), self.current.process.activity
        activity.complain, activity.end = job.lines.append, partial(self._strike, "rank killed")
        self.switch(lambda: False, self.random.choice((0, 0.3 * self.random.random())))
        try:
            ranks = make_ranks(comm, comm.host, "simulated MPI", activity) if job.size > 1 else ALONE
            with ranks.together(debug=False) if job.size > 1 else nullcontext():
                ranks.compare(command.list_facts())
                train(command, job.words.split(), ranks)
            job.codes.append(0)
        except (xpnet.errors.XPNetError, OSError) as error:
            if self.time >= process.end:
                raise
            job.codes.append(getattr(error, "exit_code", 2))
            job.lines.append(str(error))
            if not getattr(error, "shared", False):
                self._end(job)
        process.end = self.time

    def _end(self, job):
        """Let the launcher end a job, soon."""
        for process in (task.process for task in self.tasks if task.process.job is job):
            process.end = min(process.end, self.time + 0.05 * self.random.random())

    def _strike(self, kind):
        """Let something happen to the rank that runs, or to its job."""
        process = self.current.process
        if kind == "rank late":
            self.switch(lambda: False, self.random.choice((0.1, 1.8)))
        self.set_back += 86400 * (kind == "clock goes back")
        if "killed" in KINDS.get(kind, ()):
            process.end = self.time
            if kind != "rank hangs":  # of which its launcher knows nothing
                self._end(process.job)

    def point(self, name):
        """Be at a communication or write, where something may happen."""
        process, frame = self.current.process, sys._getframe(1)
        if self.time >= process.end:
            raise Killed
        while (place := (frame.f_code.co_filename, frame.f_lineno)) not in POINTS:
            frame = frame.f_back
        self.time += 0.001
        job, at = process.job, (process.rank, place)
        job.hits[at] += 1
        is_struck = (*at, job.hits[at]) == job.fault[1:]
        job.kind = job.fault[0] if is_struck else job.kind
        self.trace.append((self.time, self.jobs.index(job), process.rank, job.kind, name, POINTS[place]))
        self._strike(job.kind if is_struck else "nothing")

    def change(self, call, *arguments, **options):
        """Take the place of ``files.change``. A full or failing disk does half of what it should."""
        name = call.__name__
        try:
            self.point(name)
            self.switch()
            error = ERRORS.get(self.current.process.job.kind, ())
            if error and name not in ("unlink", "rmtree") and self.random.random() < 0.7:
                raise OSError(*error)  # noqa: TRY301
        except (Killed, OSError):
            if name in ("write", "fsync"):
                self.disk.perform(call, arguments, options, self.random.choice((0, 0.5)))
            raise
        return self.disk.perform(call, arguments, options)

    @cache  # noqa: B019 - there are few simulations
    def _learn(self, start, settings):
        """Return a disk to begin with, the outcome of one process, and the points that two ranks reach."""
        self.reset(Random(0), Node({}))  # noqa: S311
        if before := STARTS[start]:
            self.run_jobs(Job(f"{WORDS} {settings} {before}"))
        node, jobs = self.disk.tree, [Job(f"{WORDS} {settings} {start}", size) for size in (2, 1)]
        for job in jobs:
            self.reset(Random(0), node)  # noqa: S311
            self.run_jobs(job)
        return node, (*outcome(self.mine)[:-1], True), jobs[0].hits

    def find_problem(self, seed):
        """Run the schedule of a seed; return what is wrong with it, or None."""
        random, ends, every = Random(seed), Counter(), sorted(os.sched_getaffinity(0))  # noqa: S311
        self.cpus = {every[seed % len(every)]}
        start, settings = random.choice([*STARTS, "--overwrite"]), random.choice(SETTINGS)
        node, expected, hits = self._learn(start, settings)
        try:
            while {*ends} <= {"nothing: right"}:  # begin again
                self.reset(random, node)
                ends.clear()
                faults = random.choices([*KINDS, "two jobs", "power cut"], k=random.choice((1, 1, 1, 1, 2)))
                for kind in (*faults, *["nothing"] * 3):
                    if self._status() != "completed":
                        ends.update(self._run_segment(kind, f"{WORDS} {settings} {start}", hits))
            found, compared = outcome(self.mine), slice(1 if self.disk.has_lied else None)
            assert found[compared] == expected[compared], f"expected {expected}, found {found}"
        except (AssertionError, OSError, ValueError) as failure:
            return f"schedule {seed}: {failure}: scripts/simulate.py --replay {seed} prints what happened"
        self.counts += ends + Counter(place for *_, place in self.trace)
        return None

    def _run_segment(self, kind, words, hits):
        """Start or resume the training, to which something happens; return how jobs end."""
        random, disk, is_start, lock = self.random, self.disk, self._status() == "none", self.mine / ".lock"
        if words.endswith(" ") and random.random() < 0.5:
            words += "--resume-or-start"
        elif not is_start:
            words = "--resume runs/mine"
        if lock.exists() and random.random() < 0.5:  # becomes one that is no lock of xpnet's
            lock.unlink()
            lock.symlink_to("nowhere")
        size, is_two = random.choice((1, 1, 2) if kind == "nothing" else (2, 2, 2, 3)), kind == "two jobs"
        disk.lies, is_write = kind.endswith("lying disk"), kind in ERRORS or random.random() < 0.6
        places = [x for x, text in POINTS.items() if hits[0, x] and ("change(" in text) == is_write]
        place, rank = random.choice(places), 0 if is_write else random.randrange(size)
        fault = kind, rank, place, random.choice((1, random.randint(1, hits[0, place])))
        jobs = [Job(words, size, fault, kind if is_two else "nothing") for _ in range(1 + is_two)]
        ends = self.run_jobs(*jobs)
        is_saved = self._status() != "none" and "checkpoint.safetensors" in disk.find(self.mine).synced
        if jobs[0].kind.startswith("power cut"):
            disk.restart(random.choice((0, 0.5, 0.9)))
        is_lost = is_saved and self._status() == "none"
        if ends == ["nothing: refused"]:  # a lying disk has left a damaged run
            disk.perform(shutil.rmtree, [self.mine], {})
        left = {path.name for path in disk.root.glob("runs/*")} - {"mine", "parent"}
        is_left = left and is_start and jobs[0].kind == "nothing"
        assert disk.has_lied or not (is_lost or is_left), f"lost: {is_lost}, left: {left}"
        return ends

    def _status(self):
        """Return the status of the run; "none" if there is none, or the one that it replaces."""
        with suppress(OSError, ValueError):
            record = json.loads((self.mine / "run.json").read_bytes())
            return "none" if record["seed"] == 5 else record["status"]
        return "none"


def outcome(run):
    """Return what no harm may change of a run, without seconds: results; rows, files, and true digests."""
    contents = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    record, rows = json.loads(contents.pop("run.json")), contents.get("metrics.jsonl", b"").decode()
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    is_true = {**digests, "run.json": ""} == {**(record["digests"] or {}), "run.json": ""}
    texts = json.dumps([record["fingerprint"], record["metrics"]]), rows
    return *(re.sub(r'"seconds": [\d.e-]+', "", text) for text in texts), sorted(contents), is_true


@contextmanager
def simulation():
    """Give the body a simulation in which xpnet is, with data, and with little of what takes long."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world = Simulation(Path(folder).resolve())
        patch.chdir(world.root)
        x, y = pixels(1140, 5, 3)
        np.savez("data.npz", x_train=x[:1100], y_train=y[:1100], x_test=x[1100:], y_test=y[1100:])
        for name, value in {
            "_lib.files.change": world.change,
            "_lib.files.draw_name": lambda: f"{world.random.getrandbits(64):016x}",
            "_lib.clock.now": lambda: datetime.fromtimestamp(1.8e9 + world.time - world.set_back, UTC),
            "_lib.clock.seconds": lambda: world.time,
            "_lib.clock.wait": world.wait,
            "_lib.clock.start": world.start,
            "storage.locks.WAIT": 0,
            "training.shared_step.WAIT_MULTIPLICATIONS": 0,
        }.items():
            patch.setattr(f"xpnet.{name}", value)
        patch.setitem(sys.modules, "mpi4py", sys.modules[Comm.__module__])  # which has an MPI
        # A job ends after 3 seconds of waiting.
        for name, value in {"XPNET_RANK_TIMEOUT": "3", "XPNET_COMPILE": "0", "PATH": ""}.items():
            patch.setenv(name, value)
        yield world
