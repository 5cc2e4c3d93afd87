# The public names, for type checkers; ``__init__.py`` imports each at its first use.

from xpnet import reproducible as reproducible
from xpnet.api import Callback, Epoch, Model, load
from xpnet.errors import BackendError, ConfigError, DataError, DivergedError, XPNetError
from xpnet.estimator import XPNetClassifier
from xpnet.fitting import Verification, fit, verify
from xpnet.inference.predictor import Evaluation

__version__: str
__all__ = [
    "BackendError",
    "Callback",
    "ConfigError",
    "DataError",
    "DivergedError",
    "Epoch",
    "Evaluation",
    "Model",
    "Verification",
    "XPNetClassifier",
    "XPNetError",
    "__version__",
    "fit",
    "load",
    "verify",
]
