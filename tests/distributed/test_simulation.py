"""Simulated trainings: whatever happens to ranks, disks and clocks, they end with the bits of one process."""

import re
import sys

import pytest
import simulate
from simulation import PACKAGE, simulation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds open files in /proc")


world = pytest.fixture(simulation.__wrapped__, scope="module")


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_the_bits_are_those_of_one_process(world, seed):
    assert world.find_problem(seed) is None


def test_a_seed_replays(world):
    traces = [world.find_problem(10) or world.trace for _ in range(2)]
    assert traces[0] == traces[1]


@pytest.mark.slow
@pytest.mark.parametrize("schedules", [2000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_thousands_of_schedules_reach_each_communication_and_write(schedules, capsys):
    assert simulate.main(["--schedules", str(schedules)]) == 0, capsys.readouterr().out[-5000:]


WRITES = re.compile(
    r"\bos\.(fsync|replace|remove|truncate|write)\(|\.(rename|unlink|rmtree|r?mdir|makedirs|touch|savez|move)\("
    r"|\.(write_(bytes|text)|(sym|hard)link(_to)?|copy(file|tree)|to_csv|tofile|save_file)\("
    r"|(?<!fd)open\(.*(O_CREAT|O_TRUNC|O_APPEND|flags|['\"][wxa]b?\+?['\"])"
)
OTHERS = "np.savez(archive", "os.write(int(os.environ[", "devnull", ").to_csv('new.csv'"
"""What a parity check writes for a process of its own, a rank to its launcher, and a user for xpnet."""


def test_all_writes_syncs_and_renames_go_through_one_function():
    """Nothing calls what writes, but `change`. The emulated GPU, for tests, keeps compiled kernels itself."""
    paths = [path for path in PACKAGE.rglob("*.py") if "emulation" not in path.parts]
    lines = [f"{path}: {line}" for path in paths for line in path.read_text().splitlines()]
    assert [x for x in lines if WRITES.search(x) and not any(known in x for known in OTHERS)] == []
