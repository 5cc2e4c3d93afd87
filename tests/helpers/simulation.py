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
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from networks import pixels
from simulated_disk import Disk
from simulated_ranks import MPI, BrokenProtocol, Comm, Group, Killed, Scheduler

import xpnet
from xpnet._lib import clock, files
from xpnet.arithmetic import Arithmetic
from xpnet.backends.workers import find_blas
from xpnet.cli import train as commands
from xpnet.compute import context
from xpnet.config import parse
from xpnet.distributed import ranks as connection, watchdog
from xpnet.errors import XPNetError
from xpnet.storage import locks, run as runs
from xpnet.storage.environment import collect_environment
from xpnet.training import shared_step
from xpnet.training.console import TrainingConsole

PACKAGE = Path(xpnet.__file__).parent
PREFIX = len(f"{PACKAGE}/")
POINT, OWN_POINT = (
    re.compile(r"(comm|MPI\.Win)\.[A-Z]\w+|\bfiles\.change\("),
    re.compile(r"(?<!def )\bchange\("),
)
SETTINGS = {
    "blocks": "--batch-size full --keep-checkpoint-every 1",
    "shared": "--batch-size 600 --optimizer adam --checkpoint-seconds 0.05",
    "whole": "--batch-size 600 --batch-norm --validation 100 --patience 9 --log-every 2",
}
"""Batches of several blocks; of one, which ranks share; and those that every rank computes."""
KINDS = dict.fromkeys(
    ("rank killed", "job killed", "power cut", "power cut, lying disk", "rank hangs"), "killed"
)
KINDS |= dict.fromkeys(("disk full", "disk fails", "two jobs"), "refused")
KINDS |= dict.fromkeys(("rank late", "clock goes back"), "right")
"""What happens, and how the job may end, if not right."""
REASONS = re.compile(
    "No space left on device|No such file or directory|Input/output error|was replaced or removed"
    "|another process is working on this run|exists already|nothing is left to resume"
    "|differs between the ranks"
)
SEAMS = {files: ("change", "draw_name"), clock: ("now", "seconds", "wait", "start")}
SEAMS |= {connection: ("_connect", "rank_and_size"), watchdog: ("kill_process", "complain")}
"""The functions in whose places those of a world stand."""
LIMITS = (locks, "WAIT"), (shared_step, "SENT_SAMPLES"), (shared_step, "WAIT_MULTIPLICATIONS")
SECONDS = 30.0
"""Of waiting, after which a job ends."""


class Failure(Exception):  # noqa: N818
    """What a schedule has found."""


class Job:
    """A command on some ranks."""

    def __init__(self, name, words, size, hosts=1, faults=()):
        self.name, self.words, self.size, self.hosts, self.faults = name, words, size, hosts, faults
        self.codes, self.lines, self.is_killed, self.delay = [], [], False, 0.0

    def judge(self, kind, *, is_doubtful):
        """Return how the job has ended; raise Failure if what happened does not explain it."""
        end = "right" if {*self.codes} == {0} else "refused" if {*self.codes} == {2} else "killed"
        is_said = is_doubtful or any(map(REASONS.search, self.lines))
        if kind == "rank hangs" and end == "killed" and not self.codes:
            named = f"rank {self.faults[0].rank} on host", "the ranks have not all connected"
            is_said = any(line.startswith(named) for line in self.lines)
        elif end != "refused":
            is_said = True
        if not is_said or not (end in ("right", KINDS[kind]) or (is_doubtful and end == "refused")):
            raise Failure(f"{self.name}, {kind}, is {end}, with {self.codes}: {self.lines}")
        return f"{kind}: {end}"


@cache
def list_points():
    """Return the text of each communication and write in the package, by its file and line."""
    points = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if POINT.search(line) or (file == "_lib/files.py" and OWN_POINT.search(line)):
                points[file, number] = f"{file}:{number} {line.strip()}"
    return points


environment, read = cache(collect_environment), cache(lambda *words: parse(words, "xpnet train"))


class World(Scheduler):
    """Everything outside of xpnet: the ranks, their clock and their disk."""

    def __init__(self, random, root):
        super().__init__(random)
        self.disk, self.processes, self.names, self.set_back = Disk(root, random), [], 0, 0
        self.hits, self.struck, self.trace = Counter(), Counter(), []
        self.kept = set()  # names of files whose removal a fault has prevented
        self.mine, self.has_saved = root / "runs" / "mine", False
        self._old = self.disk.find(self.mine)

    def draw_name(self):
        self.names += 1
        return f"{self.names:016x}"

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time - self.set_back)

    def seconds(self):
        return self.time

    def connect(self):
        return self.current.process.ranks

    def rank_and_size(self):
        return (self.connect().rank, self.connect().size) if self.current else (0, 1)

    def complain(self, text):
        self.current.process.job.lines.append(text)

    def run_jobs(self, *jobs):
        """Run jobs to their ends, beside each other."""
        for job in jobs:
            group = Group(job.size)
            for rank in range(job.size):
                points = {"call": [], "write": []}
                state = {"is_dead": False, "hangs": False, "ranks": connection.ALONE, "points": points}
                self.processes.append(process := SimpleNamespace(job=job, rank=rank, **state))
                comm = Comm.of(self, group, rank, f"host{rank % job.hosts}")
                self.begin(process, partial(self._run_rank, process, comm))
        self.run()
        for problem in self.broken:
            raise Failure(f"{type(problem).__name__}: {problem}") from problem

    def _run_rank(self, process, comm):
        job = process.job
        self.switch(lambda: False, job.delay)
        try:
            if job.size == 1:
                run_command(job)
            else:
                process.ranks = connection.make_ranks(comm, comm.host, "simulated MPI")
                with process.ranks.together(debug=False):
                    process.ranks.compare(read(*job.words).list_facts())
                    run_command(job)
            job.codes.append(0)
            if sum(task.process is process for task in self.tasks) > 1:
                self.broken.append(BrokenProtocol(f"rank {process.rank} ends, and its thread goes on"))
        except (XPNetError, OSError) as error:
            if not process.is_dead:
                job.codes.append(getattr(error, "exit_code", 2))
                job.lines.append(str(error))
                self._end(job, shared=getattr(error, "shared", False))
        finally:
            process.is_dead |= sys.exception() is None

    def _end(self, job, *, shared=False):
        """Let the launcher end a job, after a moment."""
        process = SimpleNamespace(job=job, is_dead=shared, hangs=False)
        moment = 0.05 * self.random.random()
        self.begin(process, lambda: (self.switch(lambda: False, moment), self.kill(job)))

    def kill(self, *jobs):
        """Kill all ranks of some jobs, or of all."""
        for process in self.processes:
            if not process.is_dead and process.job in (jobs or (process.job,)):
                process.is_dead = process.job.is_killed = True

    def kill_process(self):
        self.current.process.is_dead = True
        self._end(self.current.process.job)
        raise Killed

    def point(self, kind, name):
        """Be at a communication or write, where something may happen."""
        process, frame = self.current.process, sys._getframe(2)
        if process.is_dead:
            raise Killed
        points = list_points()
        while (where := (frame.f_code.co_filename[PREFIX:], frame.f_lineno)) not in points:
            frame = frame.f_back
        self.time += 0.001
        self.hits[where] += 1
        process.points[kind].append(where)
        self.trace.append((self.time, process.job.name, process.rank, name, *where))
        for fault in process.job.faults:
            late = len(process.points[kind]) - fault.number
            if (fault.rank, fault.point) == (process.rank, kind) and 0 <= late <= fault.more:
                self.struck[fault.kind] += 1
                self.trace.append((self.time, process.job.name, process.rank, f"*** {fault.kind}", *where))
                self._strike(process, fault.kind)

    def _strike(self, process, kind):
        if kind == "rank killed":
            self.kill_process()
        if kind in ("job killed", "power cut", "power cut, lying disk"):
            self.kill(*[process.job] * (kind == "job killed"))
            raise Killed
        if kind == "clock goes back":
            self.set_back += 86400
        if kind.startswith("rank"):
            process.hangs = kind == "rank hangs"
            self.switch(lambda: False, self.random.choice((0.1, 0.6 * SECONDS)))
        if kind.startswith("disk"):
            number = errno.ENOSPC if kind == "disk full" else errno.EIO
            raise OSError(number, os.strerror(number))

    def change(self, call, *arguments, **options):
        name = call.__name__
        if self.current is None:
            return call(*arguments, **options)
        if self.current.process.is_dead:  # whose handlers of errors would still write
            null = os.open(os.devnull, os.O_WRONLY) if name == "open" else None
            return null if call is os.open or null is None else os.fdopen(null, "wb")
        try:
            self.point("write", name)
            self.switch()
        except (Killed, OSError) as error:
            if options.get("ignore_errors") and isinstance(error, OSError):
                return None
            self.disk.has_failed |= name == "fsync"
            if name == "unlink":
                self.kept.add(call.__self__.name)
            if name == "write":
                self.disk.perform(call, arguments, options, self.random.choice((0, 0.5)))
            raise
        result = self.disk.perform(call, arguments, options)
        mine = self.disk.find(self.mine)
        if name == "fsync" and not self.disk.lies and mine not in (None, self._old):
            self.has_saved |= "checkpoint.safetensors" in mine.synced
        return result


def run_command(job):
    """Train as ``xpnet train`` does once its ranks are connected."""
    command, line = read(*job.words), ["xpnet", "train", *job.words]
    config, parent = command.config, None
    if config.resume_or_start:
        return commands.resume_or_start(command, line)
    if config.resume is not None:
        return commands.resume(command, config.resume, line)
    if config.extend is not None:
        with commands.connect().agreement():
            config, parent = commands.read_extension(command, config.extend)
    return commands.train_run(config, line, parent=parent)


class Simulator:
    """Runs schedules in a folder of its own. It is a context manager, in which xpnet is in their world."""

    def __enter__(self):
        self._stack, self._known, self.world = ExitStack(), {}, None
        self.ends, self.faults, self.hits = Counter(), Counter(), Counter()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        # As of a training alone, for those that overlap.
        self._stack.enter_context(find_blas().limit(limits=1))
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        self.root, self._data = folder / "work", folder / "data.npz"
        x, y = pixels(1140, 5, 3)
        np.savez(self._data, x_train=x[:1100], y_train=y[:1100], x_test=x[1100:], y_test=y[1100:])
        for module, names in SEAMS.items():
            for name in names:
                patch.setattr(module, name, partial(self._call, name.removeprefix("_")))
        patch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=MPI))
        patch.setenv("XPNET_RANK_TIMEOUT", str(SECONDS))
        patch.setenv("XPNET_COMPILE", "0")
        # What takes long, and what makes small batches not shared.
        patch.setattr(runs, "collect_environment", environment)
        patch.setattr(context.selfcheck, "check", lambda *_: True)
        patch.setattr(TrainingConsole, "print_line", lambda *_: None)
        patch.setattr(Arithmetic, "_constants", {})
        for module, name in LIMITS:
            patch.setattr(module, name, 0)
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _call(self, name, *arguments, **options):
        return getattr(self.world, name)(*arguments, **options)

    def _begin(self, random, folder):
        """Begin a world with a copy of a folder, if it exists."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(folder, self.root) if folder.exists() else self.root.mkdir()
        self.world = World(random, self.root)

    def _start_words(self, how, setting):
        words = ["--out", f"{self.root}/runs", "--name", "mine", "--quiet", "--no-report", "--device", "cpu"]
        words += ["--workers", "1", "--epochs", "2"]
        if how == "extend":
            return [*words, "--extend", f"{self.root}/runs/parent"]
        words += ["--data", str(self._data), "--hidden", "4", *SETTINGS[setting].split()]
        return [*words, "--overwrite"] if how == "overwrite" else words

    def _learn(self, how, setting):
        """Return a folder to begin with, the outcome of one process, and the points that two ranks reach."""
        if (how, setting) not in self._known:
            folder = self.root.with_name(f"{how}-{setting}")
            self._begin(Random(0), folder)  # noqa: S311
            if how != "start":
                words = ["--seed", "5"] if how == "overwrite" else ["--name", "parent"]
                self.world.run_jobs(Job("before", [*self._start_words("start", setting), *words], 1))
            shutil.copytree(self.root, folder)
            points = []
            for size in (2, 1):
                self._begin(Random(0), folder)  # noqa: S311
                self.world.run_jobs(Job("alone", self._start_words(how, setting), size))
                points.append(self.world.processes[0].points)
            self._known[how, setting] = folder, outcome(self.world.mine), points[0]
        return self._known[how, setting]

    def run(self, seed):
        """Run the schedule of a seed; raise Failure for what is wrong."""
        random = Random(seed)  # noqa: S311
        how = random.choice(("start", "overwrite", "overwrite", "extend"))
        setting = random.choice([*SETTINGS])
        try:
            folder, expected, points = self._learn(how, setting)
            ends = Counter()
            while not ends or not self.world.struck:  # where nothing has happened, begin again
                self._begin(random, folder)
                ends = Counter(self._harm(random, how, setting, points))
            self._finish(random, how, setting, expected)
        except (Failure, OSError, ValueError) as failure:
            trace = f"python scripts/simulate.py --replay {seed} prints what happened"
            raise Failure(f"schedule {seed}: {failure}: {trace}") from failure
        self.ends += ends
        self.faults += self.world.struck
        self.hits += self.world.hits

    def _harm(self, random, how, setting, points):
        """Run jobs to which something happens; yield how they end."""
        world, disk = self.world, self.world.disk
        for _ in range(random.choice((1, 1, 1, 2))):
            if self._state() == "completed":
                return
            kind = random.choice([*KINDS, "power cut"])
            disk.lies = kind == "power cut, lying disk"
            jobs = self._draw_jobs(random, kind, self._next_words(random, how, setting), points)
            world.run_jobs(*jobs)
            yield from [job.judge(kind, is_doubtful=disk.has_lied) for job in jobs]
            if kind.startswith("power cut"):
                disk.cut_power()
            is_lost = self._state() in ("none", "old", "damaged")
            if is_lost and world.has_saved and not (disk.has_lied or disk.has_failed):
                raise Failure("a run with a saved checkpoint is lost")

    def _finish(self, random, how, setting, expected):
        """Run a job to which nothing happens, unless all is done; compare the run with what is expected."""
        world, disk, is_start = self.world, self.world.disk, False
        for _ in range(4):
            if (state := self._state()) == "completed":
                break
            is_start = state in ("none", "old")
            job = Job("last", self._next_words(random, how, setting), random.choice((1, 1, 2)))
            world.run_jobs(job)
            if {*job.codes} != {0}:
                if not disk.has_lied:
                    raise Failure(
                        f"the last job, to which nothing happens, ends with {job.codes}: {job.lines}"
                    )
                checkpoint = world.mine / "checkpoint.safetensors"  # to be removed, its line says
                checkpoint.unlink() if checkpoint.exists() else shutil.rmtree(world.mine)
                disk.tree = disk.read(self.root)
        for name in world.kept:  # which verify names
            if name.endswith(".tmp"):
                (world.mine / name).unlink(missing_ok=True)
        found = outcome(world.mine)
        for name, value in expected.items():
            lost = {*value} - {*found[name]} if name == "files" else set()  # of kept ones, which none needs
            is_lost = name == "rows" or (lost and all(file.startswith("checkpoint-") for file in lost))
            if found[name] != value and not (disk.has_lied and is_lost):
                raise Failure(f"{name}: expected {value}, found {found[name]}")
        left = {path.name for path in world.mine.parent.iterdir()} - {"mine", "parent"}
        if is_start and left and not disk.has_lied:
            raise Failure(f"a start leaves {left}")

    def _state(self):
        """Return the status of the run, or what is in its place."""
        path = self.world.mine / "run.json"
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return "damaged" if path.exists() else "none"
        is_whole = (
            record["status"] != "completed" or not self.world.disk.has_lied or outcome(path.parent)["whole"]
        )
        return "old" if record["seed"] == 5 else record["status"] if is_whole else "damaged"

    def _next_words(self, random, how, setting):
        """Return the command with which a user starts the run, or goes on with it."""
        if (state := self._state()) in ("none", "old"):
            return self._start_words(how, setting)
        if how == "start" and state != "damaged" and random.random() < 0.5:
            return [*self._start_words(how, setting), "--resume-or-start"]
        return ["--resume", str(self.world.mine), "--quiet"]

    def _draw_jobs(self, random, kind, words, points):
        lock = self.world.mine / ".lock"
        if random.random() < 0.1 and lock.parent.exists():  # which is no lock of xpnet's
            lock.unlink(missing_ok=True)
            lock.symlink_to("nowhere")
        if kind == "two jobs":
            self.world.struck[kind] += 1
            words = [*words, *["--resume-or-start"] * ("--data" in words and "--overwrite" not in words)]
            jobs = [Job("first", words, 2), Job("second", words, random.choice((1, 2)))]
            jobs[1].delay = random.choice((0.0, 0.3 * random.random()))
            return jobs
        size, more = random.choice((2, 2, 2, 3)), random.choice((0, 0, 3, 999))
        is_of_disk, is_of_ranks = kind.startswith("disk"), kind in ("rank late", "rank hangs")
        point = "write" if is_of_disk or (not is_of_ranks and random.random() < 0.6) else "call"
        places = [*dict.fromkeys(points[point])] if random.random() < 0.5 else points[point]
        place = random.choice(places)  # of the source, or of the training
        number = random.choice([number for number, each in enumerate(points[point], 1) if each == place])
        rank = 0 if point == "write" else random.randrange(size)
        # It happens at the communication or write of this number, and at so many that follow.
        fault = {"kind": kind, "rank": rank, "point": point, "number": number, "more": more * is_of_disk}
        return [Job("job", words, size, random.choice((1, 2)), [SimpleNamespace(**fault)])]


def outcome(folder):
    """Return what no harm may change of a run; whether its files are those whose digests are recorded."""
    record, contents = json.loads((folder / "run.json").read_bytes()), {"metrics.jsonl": b""}
    contents |= {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    names = sorted(contents.keys() - {".lock", "run.json"})
    digests = {name: sha256(contents[name]).hexdigest() for name in names}
    try:
        rows = [json.loads(line) | {"seconds": 0} for line in contents["metrics.jsonl"].splitlines()]
    except ValueError:
        rows = []
    return {
        "fingerprint": record["fingerprint"],
        "metrics": {**(record["metrics"] or {}), "seconds": 0},
        "files": names,
        "whole": digests | {"run.json": ""} == (record["digests"] or {}) | {"run.json": ""},
        "rows": rows,
    }
