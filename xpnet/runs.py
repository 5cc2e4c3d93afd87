"""The old name of ``xpnet.storage.find``."""

import warnings

from xpnet.storage.find import FoundRun, Survey, survey

__all__ = ["FoundRun", "Survey", "survey"]

warnings.warn("xpnet.runs is now xpnet.storage.find", DeprecationWarning, stacklevel=2)
