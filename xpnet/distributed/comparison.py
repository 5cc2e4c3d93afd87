"""The comparison of results of ranks, each with those of the rank before it."""

import math

from xpnet.distributed.ranks import Ranks
from xpnet.errors import BackendError

BLOCKS = 50
"""Blocks of its own for each of which a rank computes one of the next rank's: 2 %."""


class Schedule:
    """The steps in which gradients are compared: the first, and one in so many blocks.

    Parameters
    ----------
    ranks
        The processes that share the training.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._computed = -math.inf if ranks.comm is None else BLOCKS

    def is_due(self, blocks: int) -> bool:
        """Return True if a step is one of these, in which a rank computes so many blocks or more."""
        self._computed += blocks
        if self._computed < BLOCKS:
            return False
        self._computed = 0
        return True


def compare(ranks: Ranks, own: str, following: str, problem: str = "") -> None:
    """Compare the digest of a result of each rank with that which the rank before it has computed.

    All ranks must call this.

    Raises
    ------
    BackendError
        A rank has another one. The message names it, or two that accuse each other, with the `problem`, by
        default a wrong gradient or update.
    """
    problem = problem or f"has computed a wrong gradient or update in step {ranks.activity.step}"
    every = ranks.gather([own, following])
    accused = {
        rank: (rank - 1) % ranks.size for rank, (own, _) in enumerate(every) if every[rank - 1][1] != own
    }
    # The result with which an accused rank accuses another may itself be wrong.
    named = [rank for rank, before in accused.items() if before not in accused] or [*accused]
    if named:
        names = "; ".join(f"{ranks.hosts[rank]}, rank {rank}" for rank in sorted(named))
        remedy = "is its memory or processor faulty, or its xpnet another?"
        doubt = "one of them " if len(named) > 1 else ""
        raise BackendError(f"{names}: {doubt}{problem}: {remedy}").of_all_ranks()
