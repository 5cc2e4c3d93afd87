"""Ranks on one machine take its GPUs in turn; shown with stand-ins for GPUs."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from harmed_trial import harmed

from xpnet.__main__ import main
from xpnet.backends import resolve
from xpnet.cli.trials import Trial, TrialProcesses
from xpnet.config import TrainConfig
from xpnet.distributed.ranks import ALONE, Ranks

JAX = "XLA_PYTHON_CLIENT_PREALLOCATE"
HOSTS = ("a", "b", "a", "a", "b")


def test_ranks_are_numbered_on_each_machine():
    ranks = [Ranks(rank, len(HOSTS), HOSTS) for rank in range(len(HOSTS))]
    assert [each.local_rank for each in ranks] == [0, 0, 1, 2, 1]


@pytest.mark.parametrize("name", ["MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"])
def test_a_training_of_one_rank_knows_its_number_on_the_machine(monkeypatch, name):
    assert ALONE.local_rank == 0
    monkeypatch.setenv(name, "3")
    assert ALONE.local_rank == 3


def test_a_training_side_by_side_takes_the_gpu_of_its_number_and_jax_reserves_none():
    trial = Trial(TrainConfig(), command=[], jobs=3, advise=False)
    with harmed("tells", "trial"), ThreadPoolExecutor(1) as thread:  # whose signals are blocked
        outcome = thread.submit(TrialProcesses().run, trial, 2).result()
    assert (outcome.code, outcome.output) == (2, "false")


@pytest.mark.parametrize("command", [["doctor"], ["parity", "--epochs", "-1"]])
def test_jax_reserves_no_memory_where_other_libraries_compute_too(monkeypatch, capsys, command):
    for value, expected in (("", "false"), ("true", "true")):
        monkeypatch.setenv(JAX, value)
        if not value:
            monkeypatch.delenv(JAX)
        assert main(command) in (0, 2)
        assert os.environ[JAX] == expected


@pytest.mark.parametrize(
    ("device", "gpus", "used"),
    [
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 1, ["cuda:0", "cuda:0", "cuda:0"]),  # as if each sees its own GPU alone
        ("cuda", 0, ["cuda:0", "cuda:0", "cuda:0"]),  # which then says that there is none
        ("cuda:1", 4, ["cuda:1", "cuda:1", "cuda:1"]),
        ("cpu", 4, ["cpu", "cpu", "cpu"]),
    ],
)
def test_each_rank_takes_the_gpu_of_its_number(monkeypatch, device, gpus, used):
    monkeypatch.setattr(resolve, "count_cuda_devices", lambda: gpus)
    monkeypatch.setattr(resolve, "_find_gpu_backend", lambda device, _: ("cupy", None))
    monkeypatch.setattr(resolve, "make", lambda name, device: (name, device))
    selections = [resolve.resolve(device, local_rank=rank) for rank in range(3)]
    assert [selection.device_used for selection in selections] == used
    assert {selection.device_requested for selection in selections} == {device}
