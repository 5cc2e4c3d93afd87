"""A from-scratch neural network whose mathematics is written once for every array library.

``fit`` trains a network, ``load`` loads one from a file, ``verify`` proves a record of a training, and
``XPNetClassifier`` is a scikit-learn estimator. The functions of ``xpnet.reproducible`` have the same bits on
every array library. Importing this package loads no array library: each name is
imported at its first use.
"""

import sys

__version__ = "0.4.0"

_MODULES = {
    **dict.fromkeys(("Callback", "Epoch", "Model", "load"), "api"),
    **dict.fromkeys(("BackendError", "ConfigError", "DataError", "DivergedError", "XPNetError"), "errors"),
    "XPNetClassifier": "estimator",
    "Evaluation": "inference.predictor",
    **dict.fromkeys(("Verification", "fit", "verify"), "fitting"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # here, because Ctrl-C during the start of a command interrupts it

    if name == "reproducible":
        return import_module("xpnet.reproducible")
    if name == "__all__":
        return ["__version__", *_find_names()]
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_MODULES[name]}"
    if module != "xpnet.errors" and module not in sys.modules:
        from xpnet._lib.extras import need_train

        need_train(f"xpnet.{name}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), "reproducible", *_find_names()})


def _find_names() -> list[str]:
    """Return the public names that can be imported here: without the extra train, the errors."""
    from xpnet._lib.extras import missing_of_train

    missing = missing_of_train()
    return [name for name, module in _MODULES.items() if module == "errors" or not missing]
