"""Parity: the same results from every array library, as a command, a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xpnet.parity.assertion import assert_parity
    from xpnet.parity.compare import Difference, first_difference
    from xpnet.parity.devices import BackendDevice

__all__ = ["Difference", "assert_parity", "first_difference"]


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

    selected: "list[BackendDevice] | None" = None
    of_test: "BackendDevice | None" = None
    took_part: set[str] = field(default_factory=set)
    absent: dict[str, str] = field(default_factory=dict)


SESSIONS: Final[list[Session]] = []
"""The pytest sessions in this process; the last one is running."""


def current_session() -> Session:
    """Return the running pytest session; outside of pytest, one that selects nothing."""
    return SESSIONS[-1] if SESSIONS else Session()


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = "assertion" if name == "assert_parity" else "compare"
    return getattr(import_module(f"xpnet.parity.{module}"), name)
