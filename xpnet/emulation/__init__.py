"""An emulated CUDA device, on which the unmodified CuPy wheel computes without a GPU.

``XPNET_EMULATED_CUDA=1 pytest`` and ``python -m xpnet.emulation script.py`` install it in their
process before CuPy is imported. It depends on nothing else of xpnet but errors, switches and files.
"""

from xpnet.emulation.device import check, describe, install, is_installed, is_requested, read_counts

__all__ = ["check", "describe", "install", "is_installed", "is_requested", "read_counts"]
