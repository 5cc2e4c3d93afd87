"""Going on with a run: its settings, and what may differ from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet.config import Command, TrainConfig, from_resolved, resolved
from xpnet.config.rules import flag
from xpnet.errors import ConfigError
from xpnet.storage.run import Run

FREE = {
    "backend",
    "checkpoint_seconds",
    "debug",
    "device",
    "quiet",
    "report",
    "require_device",
    "track",
    "workers",
}
"""Settings that may be others: they change where and how fast training goes on and what is shown of it, not
what comes of it.

In native arithmetic, another backend goes on with the last digits of its own.
"""


@contextmanager
def reopened(command: Command, folder: Path) -> Iterator[tuple[TrainConfig, Run]]:
    """Give the body the settings and the record of the run that ``--resume FOLDER`` names.

    Raises
    ------
    ConfigError
        The folder holds no run that can go on, or other settings are given than the run's.
    """
    run = Run.reopen(folder)
    try:
        config = from_resolved(run.record["config"], str(run.folder))
        ours, theirs = resolved(command.config), resolved(config)
        for name in sorted(command.given - FREE - {"resume"}):
            if ours[name] != theirs[name]:
                msg = (
                    f"{flag(name)}: {folder} was started with {theirs[name]!r}, got {ours[name]!r}: "
                    "leave it out, or start a new run"
                )
                raise ConfigError(msg)
        changes: dict[str, Any] = {name: getattr(command.config, name) for name in command.given & FREE}
        yield replace(config, **changes), run
    finally:
        run.release()
