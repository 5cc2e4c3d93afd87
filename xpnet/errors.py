"""Errors that a user can fix. Commands print them as one line and end with their exit code."""

from contextvars import ContextVar
from typing import Any, Self

IN_PYTHON = ContextVar("IN_PYTHON", default=False)
"""True while messages are for the caller of a Python function, who gives settings as keywords."""


def in_words(command: str, python: str) -> str:
    """Return the words that the user of the command line, or of the Python function, knows."""
    return python if IN_PYTHON.get() else command


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def setting(name: str, value: str = "") -> str:
    """Name a setting, perhaps with a value, as the user gives it: ``--init he``, in Python ``init="he"``."""
    return in_words(f"{flag(name)} {value}".rstrip(), f'{name}="{value}"' if value else name)


class XPNetError(Exception):
    """An error that the user can fix: the message says what is wrong, where, and what to do."""

    exit_code = 2
    shared = False
    """True if all ranks of an MPI job raise it."""

    @classmethod
    def at(cls, where: object, problem: object, **position: object) -> Self:
        """Return the error for a problem in a file, perhaps at a position in it, such as ``line=3``."""
        suffix = "".join(f", {name} {number}" for name, number in position.items())
        return cls(f"{where}{suffix}: {problem}")

    def of_all_ranks(self) -> Self:
        """Return the error, as one that all ranks of an MPI job raise."""
        self.shared = True
        return self


class DataError(XPNetError):
    """Data that are missing, damaged or not in the expected format."""

    @classmethod
    def refuse_newer(cls, where: object, name: str, found: Any, known: int) -> None:
        """Raise the error for a file of a later version of its format than the ``known`` one."""
        if float(found) > known:
            versions = f"{name} {found}, this one reads up to {known}"
            raise cls.at(where, f"written by a newer xpnet ({versions}): update xpnet")


class BackendError(XPNetError):
    """A backend or a device that cannot be used here."""


class ConfigError(XPNetError):
    """A setting that is unknown, out of range, or contradicts another."""


class DivergedError(XPNetError):
    """Training reached a loss that is not finite."""

    exit_code, shared = 3, True

    @classmethod
    def in_epoch(cls, epoch: int) -> Self:
        """Return the error for an epoch, counted from 1; 0 is the state before training."""
        remedy = (
            f"try a smaller {setting('learning_rate')}, or {setting('normalize', 'scale')} in place of none"
        )
        return cls(f"training diverged: the loss is not finite in epoch {epoch}: {remedy}")
