"""Each rank updates a slice of the parameters, and reads its own samples: shown on simulated ranks."""

import sys
from random import Random

import numpy as np
import pytest
from hooks import OnStep, calling
from networks import pixels
from simulated_disk import Node
from simulation import WORDS, Job, outcome, simulation

from xpnet._lib.tree import leaves
from xpnet.data import array_files
from xpnet.storage.checkpoint import load_checkpoint
from xpnet.training import trainer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds open files in /proc")


@pytest.fixture(scope="module")
def world():
    with simulation() as world:
        yield world


SHARED = [
    "--batch-size full --optimizer momentum --max-norm 0.5 --average-epochs 2",
    "--batch-size full --optimizer adam --batch-norm --checkpoint-seconds 0.01",
    "--batch-size 700 --optimizer adam --clip-norm 0.01 --weight-decay 0.1 --max-norm 0.5",
]
"""Settings with which each rank updates a slice of the parameters."""


@pytest.mark.parametrize("settings", SHARED)
def test_any_number_of_slices_has_the_bits_of_all_and_a_share_of_the_state(world, settings, tmp_path):
    x, y = pixels(2200, 5, 3)
    np.savez(tmp_path / "data.npz", x_train=x[:2100], y_train=y[:2100], x_test=x[2100:], y_test=y[2100:])
    shares, expected = [], None
    words = f"{WORDS} --data {tmp_path}/data.npz --hidden 6 {settings}"

    def count(state):
        parameters, _, kept = state.variables
        kept = kept.m if "adam" in settings else kept
        own, every = (sum(array.size for array in leaves(each)) for each in (kept, parameters))
        shares.append(own / every)

    for size in (1, 2, 3, 5):
        shares.clear()
        world.reset(Random(0), Node({}))  # noqa: S311
        with calling(OnStep(count)):
            world.run_jobs(Job(words, size))
        arrays, _ = load_checkpoint(world.mine / "checkpoint.safetensors")
        result = {name: array.tobytes() for name, array in arrays.items()}, outcome(world.mine)
        expected = expected or result
        assert result == expected, size
        assert size == 1 or max(shares) < 1 / size + 0.15


class Reader(np.ndarray):
    """Rows in a mapped file, which tells which ones are read."""

    note = staticmethod(lambda rows: None)

    def __array_function__(self, function, types, arguments, options):
        if function is np.take:
            self.note(arguments[1].tolist())
        return super().__array_function__(function, types, arguments, options)


def test_a_step_reads_a_ranks_own_samples_of_a_mapped_file_and_those_that_it_compares(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 0)
    monkeypatch.setattr(
        trainer, "with_random_access", lambda x: array_files.with_random_access(x).view(Reader)
    )
    x, y = pixels(5100, 5, 3)
    arrays = {"x_train": x[:5000], "y_train": y[:5000], "x_test": x[5000:], "y_test": y[5000:]}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    rows = [set(), set(), set()]

    def note(numbers):
        process = world.current.process
        rows[process.rank] |= {*numbers} if process.activity.phase else set()

    monkeypatch.setattr(Reader, "note", staticmethod(note))
    world.reset(Random(0), Node({}))  # noqa: S311
    world.run_jobs(Job(f"{WORDS} --data {tmp_path} --batch-size 2500 --epochs 1", 3))
    # Of each of two batches a rank has one block of 1,024, and of the first it compares that of another one.
    assert (len(set.union(*rows)), max(map(len, rows))) == (5000, 3 * 1024)
