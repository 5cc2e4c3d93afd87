"""The errors a user can mend. Each prints as one line and ends the command with its exit code."""


class XPNetError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do."""

    exit_code = 2


class DataError(XPNetError):
    """A data file that is missing, damaged or not of the form that was asked for."""


class BackendError(XPNetError):
    """A backend or a device that cannot be used here."""


class ConfigError(XPNetError):
    """A setting that is unknown, out of range or contradicts another."""


class DivergedError(XPNetError):
    """Training reached a loss that is not finite."""

    exit_code = 3
