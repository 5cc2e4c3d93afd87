"""Parity: the same results from every array library, as a command, a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.parity.assertion import assert_parity
    from xpnet.parity.compare import Difference, first_difference

__all__ = ["Difference", "assert_parity", "first_difference"]


def __getattr__(name: str) -> Any:
    if name == "assert_parity":
        from xpnet.parity.assertion import assert_parity

        return assert_parity
    if name in ("Difference", "first_difference"):
        from xpnet.parity import compare

        return getattr(compare, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
