"""Parity: the same results from every array library, as a command, a function and a pytest plugin.

Importing this package, or its plugin, loads no array library.
"""

from importlib import import_module

_MODULES = {
    "Difference": "compare",
    "assert_close": "assertion",
    "assert_parity": "assertion",
    "first_difference": "compare",
}
__all__ = [*_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] == "compare":
        from xpnet._lib.extras import need_train

        need_train(f"xpnet.parity.{name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
