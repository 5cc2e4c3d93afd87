"""The settings of a training, from flags, TOML files and recipes.

``settings`` names them all, with their defaults, rules and help; ``constraints`` says which do not go
together. This package loads no array library, so that `--help` answers at once.
"""

from xpnet.config.flags import Command, parse
from xpnet.config.sources import from_resolved, recipes
from xpnet.config.training import TrainConfig, resolved, to_toml

__all__ = [
    "Command",
    "TrainConfig",
    "from_resolved",
    "parse",
    "recipes",
    "resolved",
    "to_toml",
]
