"""The operations whose rounding depends on the library: matrix products, sums, exp, log and square root."""

from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.reproducible import Reproducible

__all__ = ["ARITHMETICS", "SPECIFICATION_VERSION", "Arithmetic", "Native", "Reproducible"]

SPECIFICATION_VERSION = 1
"""The version of the specification, docs/reproducibility.md, that `Reproducible` and all that uses it follow.

It is increased when any bit changes that the specification fixes.
"""

Native = Arithmetic
"""The library's own operations."""

ARITHMETICS = {arithmetic.name: arithmetic for arithmetic in (Reproducible, Native)}
"""The arithmetics by name, as in ``--arithmetic``."""
