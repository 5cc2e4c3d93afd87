"""A from-scratch neural network whose mathematics is written once for every array library.

``fit`` trains a network, ``load`` loads one from a file, ``verify`` proves a record of a training, and
``XPNetClassifier`` is a scikit-learn estimator. The functions of ``xpnet.reproducible`` have the same bits on
every array library. Importing this package loads no array library: each name is
imported at its first use.
"""

from importlib import import_module

__version__ = "0.4.0.dev0"

_MODULES = {
    **dict.fromkeys(("Callback", "Epoch", "Model", "load"), "api"),
    **dict.fromkeys(("BackendError", "ConfigError", "DataError", "DivergedError", "XPNetError"), "errors"),
    "XPNetClassifier": "estimator",
    "Evaluation": "inference.predictor",
    **dict.fromkeys(("Verification", "fit", "verify"), "fitting"),
}
__all__ = ["__version__", *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name == "reproducible":
        return import_module("xpnet.reproducible")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
