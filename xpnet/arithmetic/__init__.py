"""The few operations whose rounding depends on how a library carries them out."""

from xpnet.arithmetic.base import Arithmetic
from xpnet.arithmetic.native import Native
from xpnet.arithmetic.reproducible import Reproducible

__all__ = ["ARITHMETICS", "Arithmetic", "Native", "Reproducible"]

ARITHMETICS = {arithmetic.name: arithmetic for arithmetic in (Reproducible, Native)}
"""By name, as in ``--arithmetic``."""
