"""``python -m xpnet.train``: from the command line to trained networks and their records."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xpnet.cli.parser import INTERRUPTED, guarded
from xpnet.config import Command, parse, to_toml

# What is imported below, inside the functions, loads NumPy; --help does without.
if TYPE_CHECKING:
    from xpnet.config import TrainConfig


def main(argv: Sequence[str] | None = None, prog: str = "python -m xpnet.train") -> int:
    """Train as the command line asks and return the exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted; 1 a fault of xpnet.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(words, prog), debug="--debug" in words)


def _command(words: list[str], prog: str) -> int:
    command = parse(words, prog)
    if command.print_config:
        sys.stdout.write(to_toml(command.config))
        return 0
    config, line = command.config, [prog, *words]
    if config.resume is not None:
        return _resume(command, line)
    if config.repeats > 1 or len(config.learning_rates) > 1:
        from xpnet.cli.trials import run_trials

        return run_trials(config, line)
    return train(config, line)


def train(config: "TrainConfig", command: list[str]) -> int:
    """Train once, print and record what happens, and return the exit code."""
    from xpnet.cli.train import run

    return INTERRUPTED if run(config, command).interrupted else 0


def _resume(command: Command, line: list[str]) -> int:
    """Go on with a run from its last checkpoint."""
    from xpnet.cli.resume import reopened
    from xpnet.cli.train import run

    with reopened(command) as (config, record):
        return INTERRUPTED if run(config, line, resumed=record).interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
