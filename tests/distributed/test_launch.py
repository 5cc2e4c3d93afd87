"""What a rank knows of itself and the others of its job before it is connected to them."""

import pytest

from xpnet.distributed.launch import count_ended, rank_and_size


@pytest.mark.parametrize(
    "names",
    [
        ("PMI_RANK", "PMI_SIZE"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_each_launcher_names_rank_and_size_in_variables_of_its_own(names, monkeypatch):
    for name, value in zip(names, ("2", "3"), strict=True):
        monkeypatch.setenv(name, value)
    assert rank_and_size() == (2, 3)


def test_ranks_that_cannot_be_seen_are_not_taken_for_ended(monkeypatch):
    """As where there is no /proc, or in a container of each rank's own."""
    monkeypatch.setenv("PMI_RANK", "0")  # which is not in the environment that /proc shows of this process
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")
    assert count_ended() == 0
