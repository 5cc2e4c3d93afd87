"""The errors a user can mend. Each prints as one line and ends the command with its exit code."""

from typing import Self


class XPNetError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do."""

    exit_code = 2


class DataError(XPNetError):
    """A data file that is missing, damaged or not of the form that was asked for."""

    @classmethod
    def at(cls, where: object, problem: object, **place: object) -> Self:
        """Return the error that names a file, perhaps a place in it (``line=3``), and what is wrong there."""
        words = "".join(f", {name} {number}" for name, number in place.items())
        return cls(f"{where}{words}: {problem}")


class BackendError(XPNetError):
    """A backend or a device that cannot be used here."""


class ConfigError(XPNetError):
    """A setting that is unknown, out of range or contradicts another."""


class DivergedError(XPNetError):
    """Training reached a loss that is not finite."""

    exit_code = 3

    @classmethod
    def in_epoch(cls, epoch: int) -> Self:
        """Return the error of an epoch, counted from 1; 0 is the state before training."""
        return cls(
            f"training diverged: the loss is not finite in epoch {epoch}: "
            "try a smaller --learning-rate, or --normalize scale"
        )
