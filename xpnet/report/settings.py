"""Values of a run's record as text, and the settings that affect training."""

import shlex
from collections.abc import Mapping

from xpnet.config import TrainConfig, to_json

BOOKKEEPING = {"debug", "name", "out", "overwrite", "print_config", "quiet", "report", "resume", "track"}
"""Settings that do not affect training."""
LONGEST = 300
"""The largest number of characters of a value."""


def format_value(value: object) -> str:
    """Format a value of a record."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    items = value if isinstance(value, list) else [value]
    text = " ".join(map(str, items)) or "none"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def format_command_line(words: list[str]) -> str:
    """Join the words of a command, quoted for a shell; the first word is the program with its arguments."""
    return " ".join([*words[:1], shlex.join(words[1:])])


def list_training_settings(config: Mapping[str, object]) -> list[tuple[str, object, bool]]:
    """Return name and value of each setting of the training, and True if it differs from the default."""
    defaults = to_json(TrainConfig())
    return [
        (name, value, value != defaults.get(name, value))
        for name, value in config.items()
        if name not in BOOKKEEPING
    ]
