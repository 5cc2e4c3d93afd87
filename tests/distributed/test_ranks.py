"""What ranks know of themselves, share and compare, shown without an MPI job."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from checkout import ROOT
from commands import complaint
from harmed_trial import harmed
from simulated_ranks import MPI

from xpnet._lib.extras import install_command
from xpnet.arithmetic.blocks import tree_sum
from xpnet.backends import resolve
from xpnet.cli.trials import Trial, TrialProcesses
from xpnet.config import TrainConfig
from xpnet.distributed import watchdog
from xpnet.distributed.exchange import Gathering, Memory, TreeSum, finish_tree, list_nodes
from xpnet.distributed.launch import end_job, rank_and_size
from xpnet.distributed.ranks import ALONE, Ranks, count_sharing
from xpnet.errors import BackendError, ConfigError
from xpnet.nn.architecture import Network
from xpnet.training.opening import _compare_places
from xpnet.training.shared_step import Schedule, share


@dataclass(frozen=True)
class Told(Ranks):
    """Ranks that are told what all of them gather."""

    values: tuple[object, ...] = ()

    def gather(self, value):
        return list(self.values) if value else [value] * self.size


def test_each_launcher_names_rank_and_size_in_variables_of_its_own(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    assert rank_and_size() == (2, 3)


def test_a_rank_knows_its_number_on_the_machine(monkeypatch):
    assert Ranks(3, 5, ("a", "b", "a", "a", "b")).local_rank == 2
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert ALONE.local_rank == 3


def test_ranks_with_other_facts_are_named():
    ranks = Told(size=3, hosts=("a", "a", "b"), values=({"seed": 0}, {"seed": 0, "more": None}, {"seed": 7}))
    with pytest.raises(ConfigError, match=r"^seed: differs between the ranks: 0 on rank 0, 1 \(a\); 7 on ra"):
        ranks.compare({"seed": 0})


def test_ranks_share_the_processors_that_they_may_both_run_on():
    values = (["0", "1"], ["1"], ["2"], ["0"])
    assert count_sharing(Told(size=4, hosts=("a", "a", "a", "b"), values=values)) == [2, 2, 1, 1]


def test_without_mpi4py_a_job_is_refused_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    message = complaint(capsys, "train", "--epochs", "0", "--out", tmp_path / "runs")
    assert ": mpiexec has started 2 processes, which need mpi4py (" in message
    assert message.endswith(f"): {install_command('mpi')}")


def test_a_rank_that_ends_the_job_first_lets_the_launcher_pass_on_its_words(monkeypatch):
    calls = []
    world = SimpleNamespace(Abort=calls.append)
    module = SimpleNamespace(Is_initialized=lambda: True, COMM_WORLD=world)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
    monkeypatch.setattr("xpnet.distributed.launch.time.sleep", lambda _: calls.append("pause"))
    end_job(2)
    assert calls == ["pause", 2]


def test_a_rank_ends_unless_all_have_connected_in_time(monkeypatch, capsys):
    ended = []
    monkeypatch.setenv("XPNET_RANK_TIMEOUT", "0.01")
    activity = watchdog.Activity()
    activity.end = lambda: ended.append(True)
    activity.end_if_unwatched()
    assert ended == [True]
    line = "xpnet: the ranks have not all connected after 0 s, and the job ends\n"
    assert capsys.readouterr().err == line


def test_the_nodes_of_all_ranks_are_few_and_add_up_to_the_bits_of_the_tree():
    generator, ranks = np.random.default_rng(0), 7
    for blocks in (*range(1, 40), 127, 128, 129, 1000):
        terms = generator.normal(size=(blocks, 3)) * 10.0 ** generator.integers(-8, 8, (blocks, 3))
        nodes = [node for each in list_nodes(blocks, ranks) for node in each]
        ends = [min(first + (1 << level), blocks) for first, level in nodes]
        parts = [terms[node[0] : end, None] for node, end in zip(nodes, ends, strict=True)]
        sums = {node: tree_sum(part)[0] for node, part in zip(nodes, parts, strict=True)}
        total = np.empty(3)
        finish_tree(sums, blocks, np.add, total)
        np.testing.assert_array_equal(total, tree_sum(terms[:, None])[0])
        sizes = [end - first for (first, _), end in zip(nodes, ends, strict=True)]
        assert (sum(sizes), len(nodes) <= 4 * ranks) == (blocks, True)


@pytest.mark.tooling
@pytest.mark.parametrize("ranks", [2, 8, 64, 1000])
@pytest.mark.parametrize("blocks", [59, 1000])
def test_the_page_has_what_many_ranks_send_and_wait_for(monkeypatch, blocks, ranks):
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=MPI))
    sizes = pairwise((784, 1024, 1024, 10))
    shapes = tuple(shape for inputs, units in sizes for shape in ((units, inputs), (units, 1)))
    sent, context = [], SimpleNamespace(size=ranks)
    for context.rank in range(ranks):
        memory = Memory(context, resolve.make("numpy", "cpu"))
        exchanges = TreeSum(memory, blocks, shapes, "float64"), Gathering(memory, shapes, "float64")
        sent.append(sum(exchange.sent for exchange in exchanges) / 1e6)
    shares = [len(share) for share in Ranks(size=ranks).shares(1024 * blocks)]
    most, mean = max(shares), np.mean(sent)
    row = f"| {np.count_nonzero(shares)} | {most} | {blocks / most:.1f} | {max(sent):.1f} | {mean:.1f} |\n"
    assert f"\n| {blocks} | {ranks} {row}" in (ROOT / "docs" / "scaling.md").read_text()


@pytest.mark.slow
def test_a_training_side_by_side_takes_the_gpu_of_its_number():
    trial = Trial(TrainConfig(), command=[], jobs=3, advise=False)
    with harmed("tells", "trial"), ThreadPoolExecutor(1) as thread:  # whose signals are blocked
        assert thread.submit(TrialProcesses(3).run, trial).result()[0] == 2


def test_each_rank_takes_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(resolve.probing, "count_cuda_devices", lambda: 2)
    monkeypatch.setattr(resolve, "_find_gpu_backend", lambda device, _: ("cupy", None))
    monkeypatch.setattr(resolve, "make", lambda name, device: (name, device))
    selections = [resolve.resolve("auto", local_rank=rank) for rank in range(3)]
    assert [selection.device_used for selection in selections] == ["cuda:0", "cuda:1", "cuda:0"]


def test_the_environment_sets_both_limits_of_a_wait(monkeypatch):
    assert watchdog.read_limits(debug=False) == (300, 3600)
    monkeypatch.setenv("XPNET_RANK_TIMEOUT", "600")
    assert (watchdog.read_limits(debug=False), watchdog.read_limits(debug=True)) == (
        (600, 600),
        (math.inf, math.inf),
    )


CPU, SHARED = ["numpy 2 on cpu", "", "", "no driver"], ["cupy 14 on cuda:1", "a", "", ""]
PLACES = [
    ([CPU, ["cupy 14 on cuda:0", "b", "", ""], SHARED], "rank 0 (a): computes on the CPU: no driver"),
    ([SHARED, SHARED, SHARED], "a: 2 ranks share 1 GPU"),
]


@pytest.mark.parametrize(("every", "warning"), PLACES)
def test_ranks_that_use_the_cpu_instead_or_share_a_gpu_are_said(every, warning):
    ranks = Told(size=3, hosts=("a", "a", "b"), values=tuple(every))
    selection, said = resolve.resolve("cpu"), []
    assert _compare_places(ranks, selection, said.append) == tuple(place for place, *_ in every)
    assert said == [warning]


def test_a_batch_of_one_block_is_shared_where_the_model_says_that_it_pays():
    network = Network((784, 1024, 1024, 10))
    context = SimpleNamespace(ranks=Ranks(1, 2), network=network, is_exact=True)
    assert [share(context, count) for count in (201, 202)] == [(0, 201), (101, 202)]


NAMED = [
    ([("a", "b"), ("?", "?"), ("c", "a")], "b, rank 1: has"),  # its other result does not count
    ([("a", "b"), ("?", "?")], "a, rank 0; b, rank 1: one of them has"),
]


@pytest.mark.parametrize(("results", "named"), NAMED)
def test_the_rank_is_named_whose_result_the_one_before_it_has_not(results, named):
    ranks = Told(size=len(results), hosts=("a", "b", "c"), values=tuple(results))
    with pytest.raises(BackendError, match=f"^{named} something else: is its memory"):
        ranks.compare_neighbours("", "", "has something else")


def test_of_fifty_blocks_that_a_rank_computes_one_is_compared():
    schedule, fewest = Schedule(is_exact=True), 7
    compared = [schedule.is_due(fewest) for _ in range(1000)]
    assert compared[0]
    assert sum(compared) - 1 == pytest.approx(0.02 * fewest * 1000, rel=0.25)
    assert not Schedule(is_exact=False).is_due(100)
