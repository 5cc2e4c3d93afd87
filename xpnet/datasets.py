"""The old name of ``xpnet.data.datasets``."""

import warnings

from xpnet.data.datasets import Dataset, digest, load

__all__ = ["Dataset", "digest", "load"]

warnings.warn("xpnet.datasets is now xpnet.data.datasets", DeprecationWarning, stacklevel=2)
