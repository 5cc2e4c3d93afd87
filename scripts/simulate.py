"""Trainings on simulated ranks, disks and clocks: ``python scripts/simulate.py --schedules 10000``.

tests/helpers/simulation.py says what a schedule is. Printed are how those of so many seeds end, what happened
in them, and how often each communication and write of the package was reached. ``--replay SEED`` runs one and
prints each communication, write and fault: seconds, job, rank, what, file and line. Exit code 1 if a schedule
fails, or if a communication or write was reached less than 20 times in 10,000 of them.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from checkout import ROOT, need
from shared import whole_number

from xpnet._lib.machine import available_cpus

FEWEST = 20 / 10_000
"""Times that each communication and write is to be reached, for each schedule."""


def run_schedules(
    jobs: int, first: int, last: int
) -> tuple[Counter[str], Counter[str], Counter[str], list[str]]:
    """Run one in so many schedules; return the ends, the faults, the points reached and the failures."""
    from simulation import Failure, Simulator

    failures = list[str]()
    with Simulator() as simulator:
        for seed in range(first, last, jobs):
            try:
                simulator.run(seed)
            except Failure as failure:
                failures.append(str(failure))
        return simulator.ends, simulator.faults, simulator.hits, failures


def replay(seed: int) -> int:
    """Run a schedule and print what happens in it."""
    from simulation import Failure, Simulator

    with Simulator() as simulator:
        try:
            simulator.run(seed)
            problem = ""
        except Failure as failure:
            problem = str(failure)
        for seconds, job, rank, name, file, line in simulator.world.trace:
            print(f"{seconds:12.3f}  {job:8} rank {rank}  {name:24} {file}:{line}")
    print(problem or f"schedule {seed}: right")
    return int(bool(problem))


def main(words: Sequence[str] | None = None) -> int:
    """Run the schedules, print what they came to, and return the exit code."""
    need("pytest", fix='pip install -e ".[test]"')
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers")]
    parser = argparse.ArgumentParser(description="Train on simulated ranks, disks and clocks.")
    add = parser.add_argument
    add("--schedules", type=whole_number, default=10_000, help="how many (default: %(default)s)")
    add("--first", type=int, default=0, metavar="SEED", help="the first seed (default: %(default)s)")
    add("--jobs", type=whole_number, default=available_cpus(), help="processes (default: %(default)s)")
    add("--replay", type=int, metavar="SEED", help="only run one, and print what happens in it")
    options = parser.parse_args(words)
    if options.replay is not None:
        return replay(options.replay)
    from simulation import list_points

    start, jobs, last = time.perf_counter(), options.jobs, options.first + options.schedules
    starts = [options.first + job for job in range(jobs)]
    with ProcessPoolExecutor(jobs) as executor:
        parts = [*executor.map(partial(run_schedules, jobs, last=last), starts)]
    ends, faults, hits = (sum((part[index] for part in parts), Counter()) for index in range(3))
    failures = [failure for part in parts for failure in part[3]]
    points = sorted({*list_points().values()})
    for title, counts in (
        ("faults", faults),
        ("ends", ends),
        ("reached", {point: hits[point] for point in points}),
    ):
        print(f"{title}:", *(f"{number:9}  {name}" for name, number in sorted(counts.items())), sep="\n")
    rare = [point for point in points if hits[point] < FEWEST * options.schedules]
    print(*failures[:20], *(f"{point}: reached {hits[point]} times" for point in rare), sep="\n")
    minutes = (time.perf_counter() - start) / 60
    print(f"{options.schedules} schedules in {minutes:.1f} minutes, {len(failures)} of them wrong")
    return int(bool(failures or rare))


if __name__ == "__main__":
    sys.exit(main())
