"""Measures the largest errors of the elementwise functions of rp.Array, in units of the last place.

``python docs/function_errors.py [--points 1000000] [NAME ...]`` prints rows for docs/arrays.md.
Of the points of a function, the 1,000 where numbers of 64 bits show the largest errors are computed to 200
bits by mpmath, so that the figure is that of all points to within 0.01 ulp.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import numpy as np
from checkout import need
from numpy.typing import NDArray

import xpnet.reproducible as rp

Reals = NDArray[np.float64]
RANDOM = np.random.default_rng(0)
CHOSEN = 1000


def uniform(low: float, high: float) -> Callable[[int], Reals]:
    """Return a function that draws numbers between two."""
    return lambda count: RANDOM.uniform(low, high, count)


def magnitudes(
    low: float, high: float, *, signed: bool = True, offset: float = 0.0
) -> Callable[[int], Reals]:
    """Return a function that draws offset ± 2^k, with k between two numbers."""

    def draw(count: int) -> Reals:
        sign = RANDOM.choice([-1.0, 1.0], count) if signed else 1.0
        return np.asarray(offset + sign * np.exp2(RANDOM.uniform(low, high, count)))

    return draw


ANGLES = (uniform(-10, 10), uniform(-(2.0**20), 2.0**20), magnitudes(-1022, 20), magnitudes(20, 1023.9))
POSITIVE = (magnitudes(-1074, 1023.9, signed=False), uniform(0.5, 2.0))
POINTS: dict[str, tuple[Callable[[int], Reals], ...]] = {
    "acos": (uniform(-1, 1), magnitudes(-50, 0, signed=False, offset=-1.0), magnitudes(-1022, 0)),
    "acosh": (magnitudes(-50, 3, signed=False, offset=1.0), magnitudes(1, 1023.9, signed=False)),
    "asin": (uniform(-1, 1), magnitudes(-50, 0, signed=False, offset=-1.0), magnitudes(-1022, 0)),
    "asinh": (magnitudes(-40, 10), uniform(-5, 5), magnitudes(-1022, 1023.9)),
    "atan": (magnitudes(-40, 60), uniform(-3, 3), magnitudes(-1022, 1023.9)),
    "atanh": (uniform(-1, 1), magnitudes(-1022, 0), magnitudes(-50, 0, signed=False, offset=-1.0)),
    "cos": ANGLES,
    "cosh": (uniform(-2, 2), uniform(-710.4, 710.4)),
    "exp": (uniform(-708, 709.7), uniform(-2, 2)),
    "expm1": (magnitudes(-60, 5), uniform(-2, 2), uniform(-40, 709.7)),
    "log": POSITIVE,
    "log10": POSITIVE,
    "log1p": (magnitudes(-60, 0), magnitudes(-60, 1023.9, signed=False), uniform(-0.999, 1)),
    "log2": POSITIVE,
    "sin": ANGLES,
    "sinh": (magnitudes(-40, 2), uniform(-710.4, 710.4)),
    "sqrt": POSITIVE,
    "tan": ANGLES,
    "tanh": (magnitudes(-40, 5), uniform(-2, 2)),
}
PAIRS = {
    "atan2": [(magnitudes(-30, 30), magnitudes(-30, 30)), (magnitudes(-500, 500), magnitudes(-500, 500))],
    "hypot": [(magnitudes(-1022, 1022), magnitudes(-1022, 1022)), (uniform(-3, 3), uniform(-3, 3))],
    "logaddexp": [(uniform(-30, 30), uniform(-30, 30)), (uniform(-3, 3), uniform(-300, 300))],
    "pow": [
        (magnitudes(-20, 20, signed=False), uniform(-50, 50)),
        (magnitudes(-1074, 1023.9, signed=False), uniform(-1, 1)),
    ],
}
LONG: dict[str, Any] = {name: getattr(np, name) for name in (*POINTS, *PAIRS)}
"""NumPy's functions, which have 64 bits for the type longdouble on x86-64."""


def arguments(name: str, count: int) -> list[Reals]:
    """Return so many arguments of a function."""
    if name in PAIRS:
        rows = PAIRS[name]
        share = -(-count // len(rows))
        return [np.concatenate([row[place](share) for row in rows]) for place in (0, 1)]
    return [np.concatenate([draw(-(-count // len(POINTS[name]))) for draw in POINTS[name]])]


def unit(name: str, result: Any, args: list[Any]) -> Any:
    """Return the unit in which errors are measured."""
    size = np.abs(result)
    if name == "logaddexp":
        size = np.maximum(size, np.minimum(1.0, np.maximum(*map(np.abs, args))))
    return np.spacing(size.astype(np.float64))


def largest_error(name: str, count: int) -> float:
    """Return the largest error of a function over so many points."""
    import mpmath as mp

    true = {
        "pow": mp.power,
        "logaddexp": lambda a, b: mp.log(mp.exp(a) + mp.exp(b)),
        "log2": partial(mp.log, b=2),
    }
    args = arguments(name, count)
    xp = rp.namespace("numpy")
    result = np.asarray(getattr(xp, name)(*map(rp.asarray, args)))
    with np.errstate(all="ignore"):
        long = LONG[name](*(x.astype(np.longdouble) for x in args))
        kept = np.isfinite(long.astype(np.float64)) & (np.abs(long) >= 2.0**-1022)
        if not np.all(np.isfinite(result[kept])):
            return math.inf
        error = np.where(kept, np.abs(result - long) / unit(name, long, args), 0.0)
    worst = 0.0
    for index in np.argsort(error)[-CHOSEN:]:
        point = [float(x[index]) for x in args]
        with mp.workprec(1300 if name in {"sin", "cos", "tan"} else 200):
            exact = true.get(name, getattr(mp, name, None))(*map(mp.mpf, point))
            size = float(unit(name, np.float64(exact), [np.float64(x) for x in point]))
            worst = max(worst, float(abs(mp.mpf(float(result[index])) - exact) / size))
    return worst


def main() -> None:
    """Print the table."""
    need("mpmath", fix="pip install mpmath")
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("names", nargs="*", help="functions; by default all")
    options = parser.parse_args()
    for name in options.names or sorted({**POINTS, **PAIRS}):
        print(f"| `{name}` | {largest_error(name, options.points):.2f} |", flush=True)


if __name__ == "__main__":
    main()
