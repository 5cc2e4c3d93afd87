"""Trainings on simulated ranks, disks and clocks, to which a seed does harm: all end with the same bits.

A schedule is one training, by a job or some jobs. Of each are drawn what happens to it, and who runs at each
communication and write. Whatever happens, a job ends well or with a line that says why, or it is killed; and a
last one, to which nothing happens, ends with the record of one process that nothing ever happened to.
"""

import ast
import errno
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from math import inf
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
from xpnet.cli import train as commands
from xpnet.config import parse
from xpnet.distributed import ranks as ranks_module, watchdog
from xpnet.errors import XPNetError
from xpnet.inference import context
from xpnet.storage import locks, run as runs
from xpnet.storage.environment import collect_environment
from xpnet.storage.folder import digest_file
from xpnet.training.console import TrainingConsole

PACKAGE = Path(xpnet.__file__).parent
CALLS = {*watchdog.COLLECTIVE, "Split_type", "Dup", "Free", "Isend", "Iprobe", "Recv", "Allocate_shared"}
SETTINGS = {
    "blocks": "--batch-size full --keep-checkpoint-every 1",
    "shared": "--batch-size 1000 --optimizer adam --checkpoint-seconds 0.05",
    "whole": "--batch-size 1000 --batch-norm --validation 100 --patience 9 --log-every 2",
}
"""Batches of several blocks; of one, which ranks share; and those that every rank computes."""
WAYS = ("start", "overwrite", "overwrite", "extend")
FAULTS = ("rank killed", "job killed", "power cut", "power cut, lying disk", "disk full", "disk fails")
FAULTS += ("rank late", "rank hangs", "clock goes back", "two jobs")
KILL = {"rank killed", "job killed", "power cut", "power cut, lying disk", "rank hangs"}
REFUSE = {"disk full", "disk fails", "two jobs"}
REASONS = ("No space left on device", "Input/output error", "another process is working on this run")
REASONS += ("exists already", "nothing is left to resume", "differs between the ranks")
SEAMS = {files: ("change", "draw_name"), clock: ("now", "seconds", "wait", "start")}
SEAMS |= {ranks_module: ("_connect", "rank_and_size"), watchdog: ("kill_process", "complain")}
"""The functions that have others in a world."""
START = "the ranks have not all connected"
SECONDS = 30.0
"""Of waiting, after which a job ends."""


class Failure(Exception):  # noqa: N818
    """What a schedule has found."""


@dataclass
class Process:
    """A rank of a job."""

    job: object
    rank: int = 0
    is_dead: bool = False
    hangs: bool = False
    ranks: object = ranks_module.ALONE
    points: dict = field(default_factory=lambda: {"call": [], "write": []})


@dataclass
class Fault:
    """What happens to a rank at a communication or write of a number, and so many that follow."""

    kind: str
    rank: int
    point: str
    number: int
    more: float = 0


class Job:
    """A command on some ranks."""

    def __init__(self, name, words, size, hosts, faults=()):
        self.name, self.words, self.size, self.hosts, self.faults = name, words, size, hosts, faults
        self.command, self.codes, self.lines, self.is_killed = read(tuple(words)), [], [], False


@cache
def read(words):
    return parse(words, "xpnet train")


@cache
def environment():
    return collect_environment()


@cache
def list_points():
    """Return the name of each communication and write in the package, by the file and the lines of its call."""
    points = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        for call in ast.walk(ast.parse(path.read_text())) if not file.startswith("emulation/") else ():
            if isinstance(call, ast.Call):
                name = ast.unparse(call.args[0] if ast.unparse(call.func) == "partial" else call.func)
                is_change = name == "files.change" or (name == "change" and file == "_lib/files.py")
                if name.rpartition(".")[2] in CALLS or is_change:
                    lines = range(call.lineno, call.end_lineno + 1)
                    name = f"{file}:{call.lineno} {ast.unparse(call)}"
                    points |= {(file, line): name for line in lines}
    return points


class World(Scheduler):
    """Everything outside of xpnet: the ranks, their clock and their disk."""

    def __init__(self, random, root):
        super().__init__(random)
        self.disk, self.set_back, self.names, self.processes = Disk(root, random), 0, 0, []
        self.hits, self.struck, self.trace = Counter(), Counter(), []
        self.old, self.has_saved = self.disk.find(root / "runs" / "mine"), False

    def draw_name(self):
        self.names += 1
        return f"{self.names:016x}"

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time - self.set_back)

    def rank_and_size(self):
        return (self.connect().rank, self.connect().size) if self.current else (0, 1)

    def connect(self):
        return self.current.process.ranks

    def seconds(self):
        return self.time

    def complain(self, text):
        self.current.process.job.lines.append(text)

    def start_job(self, job):
        group = Group(job.size)
        for rank in range(job.size):
            process = Process(job, rank)
            self.processes.append(process)
            comm = Comm.of(self, group, rank, f"host{rank % job.hosts}") if job.size > 1 else None
            self.begin(process, partial(self._run_rank, process, comm))

    def _run_rank(self, process, comm):
        job = process.job
        try:
            if comm is None:
                run_command(job)
            else:
                process.ranks = ranks_module.make_ranks(comm, comm.host, "simulated MPI")
                with process.ranks.together(debug=False):
                    process.ranks.compare(job.command.list_facts())
                    run_command(job)
            job.codes.append(0)
            if any(task is not self.current and task.process is process for task in self.tasks):
                raise BrokenProtocol(f"rank {process.rank} ends, and its thread goes on")
        except (XPNetError, OSError) as error:
            if process.is_dead:
                raise Killed from error
            job.codes.append(getattr(error, "exit_code", 2))
            job.lines.append(" ".join(str(error).split()))
            if not getattr(error, "shared", False):
                self._end(job)
        except Exception as error:
            self.broken += [error] * (not process.is_dead)
        finally:
            process.is_dead = True

    def _end(self, job):
        """Let the launcher of a job end it, after a moment."""

        def launch():
            self.switch(lambda: False, 0.05 * self.random.random())
            self.kill(job)

        self.begin(Process(job), launch)

    def kill(self, *jobs):
        """Kill all ranks of some jobs, or of all."""
        for process in self.processes:
            if not process.is_dead and process.job in (jobs or (process.job,)):
                process.is_dead = process.job.is_killed = True

    def kill_process(self):
        process = self.current.process
        process.is_dead = process.job.is_killed = True
        self._end(process.job)
        raise Killed

    def point(self, kind, name):
        """Be at a communication or write, where something may happen."""
        process = self.current.process
        if process.is_dead:
            raise Killed
        self.time += 0.001
        frame = sys._getframe(2)
        while not frame.f_code.co_filename.startswith(str(PACKAGE)) or frame.f_code.co_name in (
            "<lambda>",
            "wait",
        ):
            frame = frame.f_back
        where = frame.f_code.co_filename[len(str(PACKAGE)) + 1 :], frame.f_lineno
        self.hits[where] += 1
        self.trace.append((self.time, process.job.name, process.rank, name, *where))
        process.points[kind].append(where)
        for fault in process.job.faults:
            late = len(process.points[kind]) - fault.number
            if (fault.rank, fault.point) == (process.rank, kind) and 0 <= late <= fault.more:
                self.struck[fault.kind] += late == 0
                self.trace.append((self.time, process.job.name, process.rank, f"*** {fault.kind}", *where))
                self._strike(process, fault)

    def _strike(self, process, fault):
        if fault.kind == "rank killed":
            self.kill_process()
        if fault.kind == "job killed":
            self.kill(process.job)
        if fault.kind.startswith("power cut"):
            self.kill()
        if process.is_dead:
            raise Killed
        if fault.kind == "rank late":
            self.switch(lambda: False, self.random.choice((0.1, 0.6 * SECONDS)))
        if fault.kind == "clock goes back":
            self.set_back += 86400
        if fault.kind == "rank hangs":
            process.hangs = True
            self.switch()
        if fault.kind in ("disk full", "disk fails"):
            number = errno.ENOSPC if fault.kind == "disk full" else errno.EIO
            raise OSError(number, os.strerror(number), "the disk")

    def change(self, call, *arguments, **options):
        if self.current is None:
            return call(*arguments, **options)
        if self.current.process.is_dead:  # whose handlers of errors would still write
            return (
                Path(os.devnull).open("wb")
                if call.__name__ == "open" and call is not os.open
                else (os.open(os.devnull, os.O_WRONLY) if call is os.open else None)
            )
        try:
            self.point("write", call.__name__)
            self.switch()
        except (Killed, OSError) as error:
            if options.get("ignore_errors") and isinstance(error, OSError):
                return None
            self.disk.has_failed |= call.__name__ == "fsync"
            if call.__name__ == "write":
                self.disk.perform(call, arguments, options, self.random.choice((0, 0.5)))
            raise
        result = self.disk.perform(call, arguments, options)
        if call.__name__ == "fsync" and not self.disk.lies and not self.has_saved:
            mine = self.disk.find(self.disk.root / "runs" / "mine")
            is_new = mine not in (None, self.old)
            self.has_saved = is_new and "checkpoint.safetensors" in mine.synced
        return result


def run_command(job):
    """Train as ``xpnet train`` does once its ranks are connected."""
    command, line = job.command, ["xpnet", "train", *job.words]
    config = command.config
    if config.resume_or_start:
        commands.resume_or_start(command, line)
    elif config.resume is not None:
        commands.resume(command, config.resume, line)
    elif config.extend is not None:
        with commands.connect().agreement():
            config, parent = commands.read_extension(command, config.extend)
        commands.train(config, line, parent=parent)
    else:
        commands.train(config, line)


class Simulator:
    """Runs schedules in a folder of its own. It is a context manager, in which xpnet is in their world."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.root = Path(self._folder.name).resolve() / "work"
        self.world, self._known = None, {}
        self.ends, self.faults, self.hits = Counter(), Counter(), Counter()
        x, y = pixels(2160, 5, 3)
        self._data = self.root.parent / "data.npz"
        np.savez(self._data, x_train=x[:2100], y_train=y[:2100], x_test=x[2100:], y_test=y[2100:])
        environment()
        self._patch = patch = pytest.MonkeyPatch()
        patch.setattr(context.selfcheck, "check", lambda *_: True)
        patch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=MPI))
        patch.setenv("XPNET_RANK_TIMEOUT", str(SECONDS))
        patch.setenv("XPNET_COMPILE", "0")
        patch.setattr(TrainingConsole, "print_line", lambda *_: None)
        for module, names in SEAMS.items():
            for name in names:
                patch.setattr(module, name, partial(self._call, name.removeprefix("_")))
        patch.setattr(runs, "collect_environment", environment)
        patch.setattr(locks, "WAIT", 0)
        patch.setattr(context, "LEAST_SAMPLES", 0)
        patch.setattr(context, "LEAST_MULTIPLICATIONS", 0)
        return self

    def __exit__(self, *_):
        self._patch.undo()
        self._folder.cleanup()

    def _call(self, name, *arguments, **options):
        """Call what takes the place of a function of xpnet in the present world."""
        return getattr(self.world, name)(*arguments, **options)

    def _begin(self, random, *templates):
        """Begin a world with copies of some folders."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for template in templates:
            shutil.copytree(template, self.root / "runs" / template.name)
        self.world = World(random, self.root)

    def _run(self, *jobs):
        for job in jobs:
            self.world.start_job(job)
        self.world.run()
        if self.world.broken:
            raise Failure(
                f"{type(self.world.broken[0]).__name__}: {self.world.broken[0]}"
            ) from self.world.broken[0]

    def _words(self, how, setting, name="mine"):
        common = ["--out", f"{self.root}/runs", "--name", name, "--quiet", "--no-report", "--device", "cpu"]
        common += ["--workers", "1", "--epochs", "2"]
        if how == "extend":
            return [*common, "--extend", f"{self.root}/runs/parent"]
        return [*common, "--data", str(self._data), "--hidden", "4", *SETTINGS[setting].split()]

    def _learn(self, how, setting):
        """Return the outcome of one process, the calls and writes of two ranks, and folders to begin with."""
        if (how, setting) not in self._known:
            templates = []
            if how != "start":
                self._begin(Random(0))
                name, words = ("parent", []) if how == "extend" else ("mine", ["--seed", "5"])
                self._run(Job("old", [*self._words("start", setting, name), *words], 1, 1))
                templates = [
                    Path(shutil.copytree(self.root / "runs" / name, self.root.parent / setting / name))
                ]
            words = [*self._words(how, setting), *["--overwrite"] * (how == "overwrite")]
            points = []
            for size in (2, 1):
                self._begin(Random(0), *templates)
                self._run(Job("alone", words, size, 1))
                points.append(self.world.processes[0].points)
            self._known[how, setting] = outcome(self.root / "runs" / "mine"), points[0], templates
        return self._known[how, setting]

    def run(self, seed):
        """Run the schedule of a seed; raise Failure for what is wrong."""
        try:
            self._run_schedule(Random(seed))
        except Failure as failure:
            trace = f"python scripts/simulate.py --replay {seed} prints what happened"
            raise Failure(f"schedule {seed}: {failure}: {trace}") from failure

    def _run_schedule(self, random):
        how, setting = random.choice(WAYS), random.choice([*SETTINGS])
        expected, points, templates = self._learn(how, setting)
        self._begin(random, *templates)
        world, has_lied, ends = self.world, False, []
        for number in range(random.choice((1, 1, 1, 2))):
            kind = random.choice(FAULTS)
            jobs = self._draw_jobs(random, kind, how, setting, points, number)
            world.disk.lies = kind.endswith("lying disk")
            self._run(*jobs)
            ends += [(kind, self._judge(job, kind, has_lied)) for job in jobs]
            if kind.startswith("power cut"):
                world.kill()
                world.disk.cut_power()
                has_lied |= world.disk.lies
                world.disk.lies = False
            mine = self.root / "runs" / "mine"
            if (
                world.has_saved
                and not (has_lied or world.disk.has_failed)
                and self._state() in ("none", "old", "damaged")
            ):
                raise Failure("a run with a saved checkpoint is lost")
            if self._state() == "completed" and not has_lied:
                break
        if (
            has_lied and self._state() == "completed" and not self._is_whole(expected)
        ):  # by a lying disk, and a digest tells
            shutil.rmtree(mine)
            self._begin_again()
        is_start = self._state() in ("none", "old")
        for attempt in range(4) if how == "start" or self._state() != "completed" else ():
            job = Job("last", self._next_words(random, how, setting), random.choice((1, 1, 2)), 1)
            self._run(job)
            if {*job.codes} == {0}:
                break
            if not has_lied or attempt == 3:
                raise Failure(f"the last job, to which nothing happens: {job.lines}")
            checkpoint = mine / "checkpoint.safetensors"
            checkpoint.unlink() if checkpoint.exists() else shutil.rmtree(mine, ignore_errors=True)
            self._begin_again()
        found = outcome(mine)
        for name, value in expected.items():
            if found[name] != value and not (has_lied and name == "rows"):
                raise Failure(f"{name}: {found[name]} in place of {value}")
        left = [path.name for path in mine.parent.iterdir() if path.name not in ("mine", "parent")]
        if is_start and left:
            raise Failure(f"a start leaves {left}")
        self.ends.update(f"{kind}: {end}" for kind, end in ends)
        self.faults.update(world.struck)
        for place, number in world.hits.items():
            self.hits[list_points()[place]] += number

    def _is_whole(self, expected):
        try:
            return outcome(self.root / "runs" / "mine") == expected
        except (OSError, ValueError):
            return False

    def _begin_again(self):
        """Take what is on the disk as synced."""
        self.world.disk.tree = self.world.disk._read(self.root)

    def _state(self):
        """Return the status of the run, or what is in its place."""
        folder = self.root / "runs" / "mine"
        try:
            record = json.loads((folder / "run.json").read_bytes())
        except (OSError, ValueError):
            return "damaged" if (folder / "run.json").exists() else "none"
        return "old" if record["seed"] == 5 else record["status"]

    def _next_words(self, random, how, setting):
        """Return the command with which a user starts the run, or goes on with it."""
        state = self._state()
        if state in ("none", "old"):
            return [*self._words(how, setting), *["--overwrite"] * (how == "overwrite")]
        if state == "completed" or (how == "start" and random.random() < 0.5):
            return [*self._words("start", setting), "--resume-or-start"]
        return ["--resume", f"{self.root}/runs/mine", "--quiet"]

    def _draw_jobs(self, random, kind, how, setting, points, number):
        size, hosts, words = (
            random.choice((2, 2, 3)),
            random.choice((1, 2)),
            self._next_words(random, how, setting),
        )
        lock = self.root / "runs" / "mine" / ".lock"
        if random.random() < 0.1 and lock.parent.exists():  # which is no lock of xpnet's
            lock.unlink(missing_ok=True)
            lock.symlink_to("nowhere")
        if kind == "two jobs":
            self.world.struck[kind] += 1
            if how == "start":
                words = [*self._words(how, setting), "--resume-or-start"]
            return [Job(name, words, random.choice((1, 2)), 1) for name in ("first", "second")]
        point = "call"
        if kind.startswith("disk") or (kind not in ("rank late", "rank hangs") and random.random() < 0.6):
            point = "write"
        rank = 0 if point == "write" else random.randrange(size)
        more = random.choice((0, 0, 3, inf)) if kind.startswith("disk") else 0
        fault = Fault(kind, rank, point, self._draw_number(random, points[point]), more)
        return [Job(f"job {number}", words, size, hosts, [fault])]

    @staticmethod
    def _draw_number(random, places):
        """Return the number of one of the points: each place in the source is as likely as any other."""
        place = random.choice([*dict.fromkeys(places)])
        return random.choice([number for number, each in enumerate(places, start=1) if each == place])

    def _judge(self, job, kind, has_lied):
        """Return in a word how a job has ended; raise Failure if nothing that happened explains it."""
        if job.is_killed:
            named = f"rank {job.faults[0].rank} on host" if job.faults else ""
            if (
                kind == "rank hangs"
                and 0 not in job.codes
                and not any(line.startswith((named, START)) for line in job.lines)
            ):
                raise Failure(f"a rank that hangs is not named: {job.lines}, {job.codes}")
            if kind in KILL or (kind in REFUSE and 2 in job.codes):
                return "killed" if kind in KILL else "line"
            raise Failure(f"{job.name} was killed, although {kind}: {job.lines}")
        if {*job.codes} == {0}:
            return "right"
        explained = kind in REFUSE and any(reason in line for line in job.lines for reason in REASONS)
        if {*job.codes} != {2} or not (explained or has_lied):
            raise Failure(f"{job.name} ends with {job.codes}, although {kind}: {job.lines}")
        return "line"


def outcome(folder):
    """Return what no harm may change of a run, and its files with those whose digests are recorded."""
    record = json.loads((folder / "run.json").read_bytes())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    present = {
        path.name: digest_file(path) for path in folder.iterdir() if path.name not in (".lock", "run.json")
    }
    return {
        "fingerprint": record["fingerprint"],
        "status": record["status"],
        "metrics": {**(record["metrics"] or {}), "seconds": 0},
        "digests": {**(record["digests"] or {}), "run.json": ""} == {**present, "run.json": ""},
        "files": sorted(present),
        "rows": [{**row, "seconds": 0} for row in rows],
    }
