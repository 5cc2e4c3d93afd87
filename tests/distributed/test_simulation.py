"""Simulated trainings: whatever happens to ranks, disks and clocks, they end with the bits of one process."""

import ast
import re
import sys
from random import Random

import numpy as np
import pytest
import simulate
from networks import pixels
from simulation import PACKAGE, Job, Simulator, outcome

from xpnet._lib.tree import leaves
from xpnet.storage.checkpoint import load_checkpoint
from xpnet.training.shared_step import SharedStep

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


SHARED = [
    "--batch-size full --optimizer momentum --max-norm 0.5 --average-epochs 2",
    "--batch-size full --optimizer adam --batch-norm --checkpoint-seconds 0.01",
    "--batch-size 1500 --optimizer adamw --clip-norm 0.01 --input-dropout 0.1",  # and a batch of one block
    "--batch-size 1500 --optimizer nesterov --weight-decay 0.1 --batch-norm",  # which all compute
    "--batch-size 700 --optimizer adam --clip-norm 0.01 --weight-decay 0.1 --max-norm 0.5",
]
"""Settings with which each rank updates a slice of the parameters."""


@pytest.mark.parametrize("settings", SHARED)
def test_any_number_of_slices_has_the_bits_of_all_and_a_share_of_the_state(
    simulator, settings, tmp_path, monkeypatch
):
    """As metrics, model and checkpoint tell."""
    x, y = pixels(2200, 5, 3)
    np.savez(tmp_path / "data.npz", x_train=x[:2100], y_train=y[:2100], x_test=x[2100:], y_test=y[2100:])
    to_host, shares, expected = SharedStep.to_host, [], None
    words = [*simulator._start_words("start", "blocks"), "--data", str(tmp_path / "data.npz")]
    words += ["--hidden", "6", *settings.split()]

    def count(step, variables, **options):
        state = variables.optimizer.m if "adam" in settings else variables.optimizer
        own, every = (sum(array.size for array in leaves(each)) for each in (state, variables.parameters))
        shares.append(own / every)
        return to_host(step, variables, **options)

    monkeypatch.setattr(SharedStep, "to_host", count)
    for size in (1, 2, 3, 4, 5, 7):
        shares.clear()
        simulator._begin(Random(0), tmp_path / "nothing")  # noqa: S311
        simulator.world.run_jobs(Job("job", words, size))
        arrays, _ = load_checkpoint(simulator.world.mine / "checkpoint.safetensors")
        result = {name: array.tobytes() for name, array in arrays.items()}, outcome(simulator.world.mine)
        expected = expected or result
        assert result == expected, size
        assert size == 1 or sum(shares) / len(shares) == pytest.approx(1 / size)
        assert size == 1 or max(shares) < 1 / size + 0.15


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
