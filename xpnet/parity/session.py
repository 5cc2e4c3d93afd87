"""The backends of a pytest session: the plugin selects them, and reports which took part.

Importing this module loads no array library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xpnet.parity.devices import BackendDevice


@dataclass(eq=False)
class Session:
    """The backends of a pytest session.

    Attributes
    ----------
    selected
        The backends that ``--xp-backends`` names; None without the option.
    of_test
        The backend of the running test, if it has one of its own.
    took_part
        The names of the backends on which tests ran.
    absent
        The reasons why others could not, by name.
    """

    selected: list[BackendDevice] | None = None
    of_test: BackendDevice | None = None
    took_part: set[str] = field(default_factory=set)
    absent: dict[str, str] = field(default_factory=dict)


SESSIONS: Final[list[Session]] = []
"""The pytest sessions in this process; the last one is running."""


def current_session() -> Session:
    """Return the running pytest session; outside of pytest, one that selects nothing."""
    return SESSIONS[-1] if SESSIONS else Session()
