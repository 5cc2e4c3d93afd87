"""Each rank updates a slice of the parameters, and reads its own samples: shown on simulated ranks."""

import sys
from collections import Counter
from random import Random

import numpy as np
import pytest
from networks import pixels
from simulated_disk import Node
from simulation import WORDS, Job, outcome, simulation

from xpnet._lib.tree import leaves
from xpnet.arithmetic.random import permutation
from xpnet.data import array_files
from xpnet.storage.checkpoint import load_checkpoint
from xpnet.training import trainer
from xpnet.training.shared_step import SharedStep, share

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds open files in /proc")


@pytest.fixture(scope="module")
def world():
    with simulation() as world:
        yield world


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
    world, settings, tmp_path, monkeypatch
):
    """As metrics, model and checkpoint tell."""
    x, y = pixels(2200, 5, 3)
    np.savez(tmp_path / "data.npz", x_train=x[:2100], y_train=y[:2100], x_test=x[2100:], y_test=y[2100:])
    to_host, shares, expected = SharedStep.to_host, [], None
    words = f"{WORDS} --data {tmp_path}/data.npz --hidden 6 {settings}"

    def count(step, variables, **options):
        state = variables.optimizer.m if "adam" in settings else variables.optimizer
        own, every = (sum(array.size for array in leaves(each)) for each in (state, variables.parameters))
        shares.append(own / every)
        return to_host(step, variables, **options)

    monkeypatch.setattr(SharedStep, "to_host", count)
    for size in (1, 2, 3, 4, 5, 7):
        shares.clear()
        world.reset(Random(0), Node({}))  # noqa: S311
        world.run_jobs(Job(words, size))
        arrays, _ = load_checkpoint(world.mine / "checkpoint.safetensors")
        result = {name: array.tobytes() for name, array in arrays.items()}, outcome(world.mine)
        expected = expected or result
        assert result == expected, size
        assert size == 1 or sum(shares) / len(shares) == pytest.approx(1 / size)
        assert size == 1 or max(shares) < 1 / size + 0.15


class Reader(np.ndarray):
    """Rows in a mapped file, of which those alone may be read that `allowed` says of this rank's step."""

    allowed = staticmethod(lambda: None)

    def __array_function__(self, function, types, arguments, options):
        if function is np.take and (rows := self.allowed()) is not None:
            assert {*arguments[1].tolist()} <= rows, "another rank's rows are read"
        return super().__array_function__(function, types, arguments, options)

    def __getitem__(self, rows):
        assert self.allowed() is None, "rows are read by their numbers"
        return super().__getitem__(rows)


@pytest.mark.parametrize("batch_size", [2500, 700])
def test_a_step_reads_a_ranks_own_samples_of_a_mapped_file_and_those_that_it_compares(
    world, batch_size, tmp_path, monkeypatch
):
    monkeypatch.setattr(array_files, "MIN_MAPPED_BYTES", 0)
    monkeypatch.setattr(
        trainer, "with_random_access", lambda x: array_files.with_random_access(x).view(Reader)
    )
    x, y = pixels(5200, 5, 3)
    arrays = {"x_train": x[:5100], "y_train": y[:5100], "x_test": x[5100:], "y_test": y[5100:]}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    words = f"{WORDS} --data {tmp_path} --batch-size {batch_size} --epochs 1"
    in_step, steps, call = {}, Counter(), SharedStep.__call__

    def call_step(step, variables, batch, *rates):
        ranks = step.context.ranks
        rank, begin = ranks.rank, steps[ranks.rank]
        steps[rank] += batch.size

        def bounds(rank):
            if batch.size <= 1024:
                return share(step.context, batch.size, rank)
            blocks = ranks.shares(batch.size)[rank]
            return blocks.start * 1024, min(blocks.stop * 1024, batch.size)

        def allowed():
            (start, stop), (after, end) = bounds(rank), bounds((rank + 1) % ranks.size)
            others = range(after, min(after + 1024, end)) if step._own is not None else ()
            return {*order[[begin + position for position in (*range(start, stop), *others)]].tolist()}

        in_step[rank] = allowed
        variables = call(step, variables, batch, *rates)
        del in_step[rank]
        return variables

    order = permutation(0, 5100, epoch=1)
    monkeypatch.setattr(SharedStep, "__call__", call_step)

    def allowed_now():
        current = in_step.get(world.current.process.rank)
        return current and current()

    monkeypatch.setattr(Reader, "allowed", staticmethod(allowed_now))
    world.reset(Random(0), Node({}))  # noqa: S311
    job = Job(words, 3)
    world.run_jobs(job)
    assert (job.codes, [*steps.values()], job.lines) == ([0] * 3, [5100] * 3, [])
