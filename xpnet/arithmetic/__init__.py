"""The operations whose rounding depends on the library: matrix products, sums, exp, log and square root."""

from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.native import Native
from xpnet.arithmetic.reproducible import Reproducible

__all__ = ["ARITHMETICS", "Arithmetic", "Native", "Reproducible"]

ARITHMETICS = {arithmetic.name: arithmetic for arithmetic in (Reproducible, Native)}
"""The arithmetics by name, as in ``--arithmetic``."""
