"""Trainings on simulated ranks, disks and clocks: ``python scripts/simulate.py --schedules 10000``.

tests/helpers/simulation.py says what a schedule is. Printed is how often what happens to jobs and how they
end, and each communication and write of the package. ``--replay SEED`` runs one and prints each of its
communications and writes: seconds, job, rank, what has happened, what it does, and where. Exit code 1 if a
schedule fails, or if a communication or write is reached less than 20 times in 10,000 of them.
"""

import argparse
import multiprocessing
import sys
from collections import Counter

from shared import ROOT, whole_number

from xpnet._lib.machine import available_cpus

sys.path.append(str(ROOT / "tests" / "helpers"))
from simulation import POINTS, simulation


def run_schedules(seeds: range) -> tuple[Counter[str], list[str], list[tuple[object, ...]]]:
    """Run schedules; return how many jobs end how and reach each point, what is wrong, and the last trace."""
    with simulation() as world:
        return world.counts, [*filter(None, map(world.find_problem, seeds))], world.trace


def main(words: list[str] | None = None) -> int:
    """Run the schedules, print what they came to, and return the exit code."""
    parser = argparse.ArgumentParser(description="Train on simulated ranks, disks and clocks.")
    parser.add_argument("--schedules", type=whole_number, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one, and print what happens in it")
    options = parser.parse_args(words)
    if options.replay is not None:
        _, problems, trace = run_schedules(range(options.replay, options.replay + 1))
        for reached in trace:
            print("{:10.3f}  job {}  rank {}  {:16}  {:16}  {}".format(*reached))
        print(*problems or [f"schedule {options.replay}: right"])
        return len(problems)
    number, jobs, counts, problems = options.schedules, available_cpus(), Counter[str](), list[str]()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:  # no fork: libraries have threads
        for some, wrong, _ in pool.imap(run_schedules, [range(job, number, jobs) for job in range(jobs)]):
            counts += some
            problems += wrong
    problems += [f"reached too seldom: {x}" for x in POINTS.values() if counts[x] < number / 500]
    print(*(f"{counts[name]:9}  {name}" for name in sorted({*counts, *POINTS.values()})), sep="\n")
    print(f"{number} schedules", *problems, sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
