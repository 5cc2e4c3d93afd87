"""What a rank knows of the others of its job before it is connected to them."""

from xpnet._lib.launch import count_ended


def test_ranks_that_cannot_be_seen_are_not_taken_for_ended(monkeypatch):
    """As where there is no /proc, or in a container of each rank's own."""
    monkeypatch.setenv("PMI_RANK", "0")  # which is not in the environment that /proc shows of this process
    monkeypatch.setenv("MPI_LOCALNRANKS", "3")
    assert count_ended() == 0
