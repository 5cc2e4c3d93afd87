"""Values of a run's record as text, and the settings that are worth comparing."""

import shlex
from collections.abc import Mapping
from typing import Any

from xpnet.config import TrainConfig, resolved

BOOKKEEPING = {"debug", "name", "out", "overwrite", "print_config", "quiet", "report", "resume", "track"}
"""Settings that change nothing in the training."""
LONGEST = 300
"""Characters of a value that are shown."""


def format_value(value: object) -> str:
    """Return a value of a record for people to read."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    items = value if isinstance(value, list) else [value]
    text = " ".join(map(str, items)) or "none"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def command_line(words: list[str]) -> str:
    """Return a command as one would type it; its first word is the program with its own arguments."""
    return " ".join([*words[:1], shlex.join(words[1:])])


def training_settings(config: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Return the name and the value of each setting of the training, and whether it is not the default."""
    defaults = resolved(TrainConfig())
    return [
        (name, value, value != defaults.get(name, value))
        for name, value in config.items()
        if name not in BOOKKEEPING
    ]
