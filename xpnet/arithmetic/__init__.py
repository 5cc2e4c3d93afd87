"""The few operations whose rounding depends on how a library carries them out."""

from xpnet.arithmetic.base import Arithmetic

__all__ = ["Arithmetic"]
