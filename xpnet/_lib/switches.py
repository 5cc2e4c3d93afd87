"""Switches: environment variables that are on or off."""

import os

from xpnet.errors import ConfigError

ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def read_switch(variable: str, *, default: bool = False) -> bool:
    """Return whether an environment variable is on, `default` if it is empty or not set.

    Raises
    ------
    ConfigError
        Its value means neither on nor off.
    """
    value = os.environ.get(variable, "")
    state = parse_switch(value) if value else default
    if state is None:
        raise ConfigError(f"{variable}: expected {', '.join((*ON, *OFF[:-1]))} or nothing, got {value!r}")
    return state


def parse_switch(value: str) -> bool | None:
    """Return whether a value means on, None if it means neither on nor off."""
    return value.lower() in ON if value.lower() in ON + OFF else None
