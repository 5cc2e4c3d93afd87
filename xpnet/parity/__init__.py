"""Parity of functions: the same results with every array library, by a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from importlib import import_module

_TRAINING = ("Difference", "first_difference")
__all__ = ["assert_close", "assert_parity", *_TRAINING]  # noqa: F822, PLE0604  those of __getattr__


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _TRAINING:
        return getattr(import_module("xpnet.parity.assertion"), name)
    from xpnet._lib.extras import need_train

    need_train(f"xpnet.parity.{name}")
    return getattr(import_module("xpnet.training_parity.difference"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
