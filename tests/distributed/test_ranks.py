"""What ranks know of themselves, share and compare, shown without an MPI job."""

import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from commands import complaint
from harmed_trial import harmed

from xpnet.arithmetic.blocks import tree_sum
from xpnet.backends import resolve
from xpnet.cli.trials import Trial, TrialProcesses
from xpnet.config import TrainConfig
from xpnet.distributed.exchange import finish_tree, list_nodes, node_size, share_blocks
from xpnet.distributed.launch import VARIABLES, count_ended, rank_and_size
from xpnet.distributed.ranks import ALONE, Ranks, count_sharing
from xpnet.errors import BackendError, ConfigError
from xpnet.training.callbacks import CompareRanks


@dataclass(frozen=True)
class Told(Ranks):
    """Ranks that are told what all of them gather."""

    values: tuple[object, ...] = ()

    def gather(self, value):
        return list(self.values) if value else [value] * self.size


@pytest.mark.parametrize("names", VARIABLES)
def test_each_launcher_names_rank_and_size_in_variables_of_its_own(names, monkeypatch):
    assert "SLURM_STEP_NUM_TASKS" in VARIABLES[2]
    for name, value in zip(names, ("2", "3"), strict=True):
        monkeypatch.setenv(name, value)
    assert rank_and_size() == (2, 3)


def test_a_rank_knows_its_number_on_the_machine(monkeypatch):
    hosts = ("a", "b", "a", "a", "b")
    assert [Ranks(rank, 5, hosts).local_rank for rank in range(5)] == [0, 0, 1, 2, 1]
    assert ALONE.local_rank == 0
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert ALONE.local_rank == 3


def test_ranks_that_cannot_be_seen_are_not_taken_for_ended(monkeypatch):
    """As where there is no /proc, or in a container of each rank's own."""
    monkeypatch.setenv("PMI_RANK", "0")  # which is not in the environment that /proc shows of this process
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")
    assert count_ended() == 0


def test_ranks_with_other_facts_are_named():
    ranks = Told(size=3, hosts=("a", "a", "b"), values=({"seed": 0}, {"seed": 0, "more": None}, {"seed": 7}))
    with pytest.raises(ConfigError, match=r"^seed: differs between the ranks: 0 on rank 0, 1 \(a\); 7 on ra"):
        ranks.compare({"seed": 0})
    Told(size=2, values=({"seed": 0}, {"seed": 0})).compare({"seed": 0})


def test_ranks_share_the_processors_that_they_may_both_run_on():
    values = (["0", "1"], ["1"], ["2"], ["0"])
    assert count_sharing(Told(size=4, hosts=("a", "a", "a", "b"), values=values)) == [2, 2, 1, 1]
    assert count_sharing(ALONE) == [1]


def test_without_mpi4py_a_job_is_refused_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    message = complaint(capsys, "train", "--epochs", "0", "--out", tmp_path / "runs")
    start = f"rank 1, on {platform.node()}: mpiexec has started 2 processes, which need mpi4py ("
    assert message.startswith(start)
    assert message.endswith('): pip install -e ".[mpi]"')
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("ranks", [1, 3, 7, 64])
def test_the_nodes_of_all_ranks_are_few_and_add_up_to_the_bits_of_the_tree(ranks):
    generator = np.random.default_rng(0)
    for blocks in (*range(1, 40), 127, 128, 129, 1000):
        terms = generator.normal(size=(blocks, 3)) * 10.0 ** generator.integers(-8, 8, (blocks, 3))
        nodes = [node for each in list_nodes(blocks, ranks) for node in each]
        sums = {
            node: tree_sum([[term] for term in terms[node[0] : node[0] + node_size(node, blocks)]])[0]
            for node in nodes
        }
        assert sum(node_size(node, blocks) for node in nodes) == blocks
        total = np.empty(3)
        finish_tree(sums, blocks, np.add, total)
        np.testing.assert_array_equal(total, tree_sum([[term] for term in terms])[0])
    shares = share_blocks(1000, ranks)
    assert (shares[0][0], shares[-1][1], len(shares)) == (0, 1000, ranks)
    assert max(stop - start for start, stop in shares) <= np.ceil(1200 / ranks) + 1
    assert max(map(len, list_nodes(1000, ranks))) <= 4


@pytest.mark.slow
def test_a_training_side_by_side_takes_the_gpu_of_its_number_and_jax_reserves_none():
    trial = Trial(TrainConfig(), command=[], jobs=3, advise=False)
    with harmed("tells", "trial"), ThreadPoolExecutor(1) as thread:  # whose signals are blocked
        outcome = thread.submit(TrialProcesses().run, trial, 2).result()
    assert (outcome.code, outcome.output) == (2, "false")


@pytest.mark.parametrize(
    ("device", "gpus", "used"),
    [
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 0, ["cuda:0", "cuda:0", "cuda:0"]),  # which then says that there is none
        ("cuda:1", 4, ["cuda:1", "cuda:1", "cuda:1"]),
    ],
)
def test_each_rank_takes_the_gpu_of_its_number(monkeypatch, device, gpus, used):
    monkeypatch.setattr(resolve.probing, "count_cuda_devices", lambda: gpus)
    monkeypatch.setattr(resolve, "_find_gpu_backend", lambda device, _: ("cupy", None))
    monkeypatch.setattr(resolve, "make", lambda name, device: (name, device))
    selections = [resolve.resolve(device, local_rank=rank) for rank in range(3)]
    assert [selection.device_used for selection in selections] == used


def test_the_rank_whose_parameters_are_not_those_of_most_is_named():
    def compare(*digests):
        ranks = SimpleNamespace(hosts=("a", "b", "c"), gather=lambda _: digests)
        trainer = SimpleNamespace(ranks=ranks, fingerprint=lambda _: digests[0])
        CompareRanks().on_epoch_end(trainer, SimpleNamespace(epoch=3, state=None))

    compare("same", "same", "same")
    with pytest.raises(BackendError, match="c, rank 2: has other parameters after epoch 3") as raised:
        compare("same", "same", "other")
    assert raised.value.shared
