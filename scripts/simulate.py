"""Trainings on simulated ranks, disks and clocks: ``python scripts/simulate.py --schedules 10000``.

tests/helpers/simulation.py says what a schedule is. Printed are what happens in those of so many seeds, how
they end, and how often they reach each communication and write of the package. ``--replay SEED`` runs one and
prints each communication, write and fault: seconds, job, rank, what, file and line. Exit code 1 if a schedule
fails, or if a communication or write is reached less than 20 times in 10,000 of them.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from checkout import ROOT, need
from shared import whole_number

from xpnet._lib.machine import available_cpus

FEWEST = 20 / 10_000
"""Times that each communication and write is to be reached, for each schedule."""


def run_schedules(seeds: Sequence[int], *, trace: bool = False) -> list[Any]:
    """Run schedules; return counts of the faults, ends and points reached, and the failures."""
    from simulation import Failure, Simulator

    failures = list[str]()
    with Simulator() as simulator:
        for seed in seeds:
            try:
                simulator.run(seed)
            except Failure as failure:
                failures.append(str(failure))
        for seconds, job, rank, name, file, line in simulator.world.trace if trace else ():
            print(f"{seconds:12.3f}  {job:8} rank {rank}  {name:24} {file}:{line}")
        return [simulator.faults, simulator.ends, simulator.hits, failures]


def main(words: Sequence[str] | None = None) -> int:
    """Run the schedules, print what they came to, and return the exit code."""
    need("pytest", fix='pip install -e ".[test]"')
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers")]
    parser = argparse.ArgumentParser(description="Train on simulated ranks, disks and clocks.")
    add = parser.add_argument
    add("--schedules", type=whole_number, default=10_000, help="how many (default: %(default)s)")
    add("--jobs", type=whole_number, default=available_cpus(), help="processes (default: %(default)s)")
    add("--replay", type=int, metavar="SEED", help="run one, and print what happens in it")
    options = parser.parse_args(words)
    if options.replay is not None:
        failures = run_schedules([options.replay], trace=True)[-1]
        print(*failures or [f"schedule {options.replay}: right"])
        return len(failures)
    from simulation import list_points

    start, count, jobs = time.perf_counter(), options.schedules, options.jobs
    spawn = multiprocessing.get_context("spawn")  # a process may have libraries that no fork survives
    with ProcessPoolExecutor(jobs, mp_context=spawn) as executor:
        parts = [*executor.map(run_schedules, [range(job, count, jobs) for job in range(jobs)])]
    faults, ends, hits = (sum((part[index] for part in parts), Counter[Any]()) for index in range(3))
    reached = {name: hits[place] for place, name in sorted(list_points().items())}
    for title, counts in ("what happened", faults), ("how jobs ended", ends), ("what was reached", reached):
        print(f"{title}:", *(f"{number:9}  {name}" for name, number in sorted(counts.items())), sep="\n")
    problems = [failure for part in parts for failure in part[-1]]
    minutes = (time.perf_counter() - start) / 60
    print(f"{count} schedules in {minutes:.1f} minutes, {len(problems)} of them wrong")
    problems += [
        f"{name}: reached {number} times" for name, number in reached.items() if number < FEWEST * count
    ]
    print(*problems, sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
