"""The operations whose rounding depends on the library: matrix products, sums, exp, log and square root."""

from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.reproducible import Reproducible

__all__ = ["ARITHMETICS", "SPECIFICATION_VERSION", "Arithmetic", "Reproducible"]

SPECIFICATION_VERSION = 1
"""The version of the specification, docs/reproducibility.md, that `Reproducible` and all that uses it follow.

It is increased when any bit changes that the specification fixes.
"""

ARITHMETICS = {arithmetic.name: arithmetic for arithmetic in (Reproducible, Arithmetic)}
"""The arithmetics by name, as in ``--arithmetic``."""
