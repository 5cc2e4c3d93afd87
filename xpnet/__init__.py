"""A from-scratch neural network whose mathematics is written once for every array library.

``fit`` trains a network, ``load`` reads one from a file, and ``XPNetClassifier`` is a scikit-learn
estimator. Importing this package loads no array library: each name brings what it needs when it is used.
"""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, without loading it
if TYPE_CHECKING:
    from xpnet.api import Epoch, Model, fit, load
    from xpnet.errors import BackendError, ConfigError, DataError, DivergedError, XPNetError
    from xpnet.estimator import XPNetClassifier
    from xpnet.inference.evaluation import Evaluation

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "Epoch",
    "Evaluation",
    "Model",
    "XPNetClassifier",
    "XPNetError",
    "__version__",
    "fit",
    "load",
]

_MODULES = {
    "api": ("Epoch", "Model", "fit", "load"),
    "errors": ("BackendError", "ConfigError", "DataError", "DivergedError", "XPNetError"),
    "estimator": ("XPNetClassifier",),
    "inference.evaluation": ("Evaluation",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker would take any other name for one of them

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        found: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
