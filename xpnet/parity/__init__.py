"""Parity: the same results from every array library, as a command, a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpnet.parity.assertion import assert_parity
    from xpnet.parity.compare import Difference, first_difference

__all__ = ["Difference", "assert_parity", "first_difference"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "assertion" if name == "assert_parity" else "compare"
    return getattr(import_module(f"xpnet.parity.{module}"), name)
