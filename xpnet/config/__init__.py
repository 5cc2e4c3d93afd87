"""The settings of a training run, from flags, TOML files and recipes.

``settings`` declares them, with their defaults, rules and help; ``constraints`` lists the combinations that
are refused. This package loads no array library, so that `--help` answers at once.
"""

from xpnet.config.flags import Command, parse
from xpnet.config.training import TrainConfig, from_json, list_recipes, to_json, to_toml

__all__ = ["Command", "TrainConfig", "from_json", "list_recipes", "parse", "to_json", "to_toml"]
