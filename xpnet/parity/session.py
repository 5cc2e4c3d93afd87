"""The backends of a pytest session: the plugin selects them, and reports which took part.

Importing this module loads no array library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xpnet.parity.devices import BackendDevice


@dataclass(eq=False)
class Session:
    """The backends of a pytest session.

    Attributes
    ----------
    selected
        The backends that ``--xp-backends`` names; none without the option.
    of_test
        The backend of the running test, if it has one of its own.
    absence
        The reasons why backends could not take part, by name; empty for those on which tests ran.
    """

    selected: Sequence[BackendDevice] = ()
    of_test: BackendDevice | None = None
    absence: dict[str, str] = field(default_factory=dict)


SESSIONS = [Session()]
"""The pytest sessions in this process, the last one running, after one that selects nothing."""


def current_session() -> Session:
    """Return the running pytest session; outside of pytest, the one that selects nothing."""
    return SESSIONS[-1]
