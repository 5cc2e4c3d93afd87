"""Extras, the optional dependencies of the package, and the commands that install them."""

from importlib.util import find_spec
from pathlib import Path

from xpnet.errors import ConfigError

TRAIN = ("filelock", "jinja2", "pandas", "PIL", "rich", "safetensors", "threadpoolctl")
"""The modules of the extra ``train``, which trainings, commands and reports need."""


class MissingExtraError(ConfigError, ImportError):
    """Libraries of an extra that are not installed."""


def is_installed(module: str) -> bool:
    """Return whether a module of the first level can be imported, without importing it."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # a plain folder of that name has no origin


def install_command(extra: str) -> str:
    """Return the command that installs an extra, in a checkout or in an installation."""
    in_checkout = Path(__file__).resolve().parents[2].joinpath("pyproject.toml").is_file()
    return f'pip install -e ".[{extra}]"' if in_checkout else f'pip install "xpnet[{extra}]"'


def missing_of_train() -> list[str]:
    """Return the modules of the extra ``train`` that are not installed."""
    return [module for module in TRAIN if not is_installed(module)]


def need_train(name: str) -> None:
    """Check that the extra ``train`` is installed, for a command or a public name.

    Raises
    ------
    MissingExtraError
        One of its modules is not installed.
    """
    if missing := missing_of_train():
        lacking = f"not installed: {', '.join(missing)}"
        raise MissingExtraError(f"{name} needs the extra train ({lacking}): {install_command('train')}")
