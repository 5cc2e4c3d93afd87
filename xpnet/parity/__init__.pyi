# The public names, for type checkers; ``__init__.py`` imports each at its first use.

from xpnet.parity.assertion import assert_close, assert_parity
from xpnet.training_parity.difference import Difference, first_difference

__all__ = ["Difference", "assert_close", "assert_parity", "first_difference"]
