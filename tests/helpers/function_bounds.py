"""Bounds of the errors of the elementwise functions of rp.Array."""

import function_errors

BOUNDS = dict.fromkeys([*function_errors.POINTS, *function_errors.PAIRS], 0.55)
BOUNDS |= {"cosh": 1.1, "exp": 1.3, "expm1": 0.7, "log": 2.1, "log1p": 0.7, "logaddexp": 1.0, "sinh": 0.65}
BOUNDS |= {"sqrt": 0.76, "tanh": 1.9, "sin": 0.85, "cos": 0.85, "tan": 1.0}
"""Largest errors in units of the last place, as the page states them."""
