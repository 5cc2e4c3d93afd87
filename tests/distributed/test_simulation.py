"""Simulated trainings: whatever happens to ranks, disks and clocks, they end with the bits of one process."""

import ast
import re
import sys

import pytest
import simulate
from simulation import PACKAGE, Simulator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds open files in /proc")


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


SEEDS = [*range(97), 129, 142, 1211]
"""The last ones reach what is rare: two jobs on one run, a rank that hangs at first, two that replace."""


@pytest.mark.parametrize("part", range(10))
def test_whatever_happens_the_bits_are_those_of_one_process(simulator, part):
    for seed in SEEDS[part::10]:
        simulator.run(seed)


def test_a_seed_replays(simulator):
    traces = []
    for _ in range(2):
        simulator.run(10)
        traces.append(simulator.world.trace)
    assert traces[0] == traces[1]


@pytest.mark.slow
@pytest.mark.parametrize("schedules", [2000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_thousands_of_schedules_reach_each_communication_and_write(schedules, capsys):
    code = simulate.main(["--schedules", str(schedules)])
    assert code == 0, capsys.readouterr().out[-5000:]


WRITES = re.compile(
    r"(os\.(fsync|replace|remove|truncate|write)|.*\.(rename|unlink|rmtree|r?mdir|makedirs|touch|savez|move)"
    r"|.*\.(write_(bytes|text)|(sym|hard)link(_to)?|copy(file|tree)|to_csv|tofile|save_file))"
)
OPENS = re.compile(r"O_CREAT|O_TRUNC|O_APPEND|flags|['\"][wxa]b?\+?['\"]")
OTHERS = {"np.savez": "parity/reproducible.py", "os.write": "distributed/launch.py"}
"""What a parity check writes for a process of its own, and what a rank writes to its launcher."""


def test_all_writes_syncs_and_renames_go_through_one_function():
    """Nothing calls what writes, but `change`. The emulated GPU, for tests, keeps compiled kernels itself."""
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())) if not name.startswith("emulation/") else ():
            if isinstance(node, ast.Call):
                function, text = ast.unparse(node.func), ast.unparse(node)
                is_open = function.endswith("open") and function != "os.fdopen" and "devnull" not in text
                is_write = WRITES.fullmatch(function) and OTHERS.get(function) != name
                assert not is_write, f"{name}: {text}"
                assert not (is_open and OPENS.search(text)), f"{name}: {text}"
