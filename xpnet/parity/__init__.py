"""Parity of functions: the same results with every array library, by a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from importlib import import_module

_MODULES = {
    **dict.fromkeys(("Difference", "first_difference"), "xpnet.training_parity.difference"),
    **dict.fromkeys(("assert_close", "assert_parity"), "xpnet.parity.assertion"),
}
__all__ = [*_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("Difference", "first_difference"):
        from xpnet._lib.extras import need_train

        need_train(f"xpnet.parity.{name}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
