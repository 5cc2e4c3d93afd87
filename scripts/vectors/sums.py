"""sums.json: folded sums, the tree of blocks, and the rounding [x]."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vectors.numbers import Device, Reals, hexadecimal, hexadecimals, reals
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.backends.base import Backend
from xpnet.nn.functional import flush_tiny

if TYPE_CHECKING:
    from xpnet._typing import Array

TINY = [0.0, -0.0, 1.0, -1.0, 2.0**-846, -(2.0**-846), 2.0**-953, 2.0**-954, 3 * 2.0**-954, 5 * 2.0**-954]
TINY += [-(2.0**-953), -(2.0**-954), -3 * 2.0**-954, 2.0**-955, 2.0**-1022, -(2.0**-1000), 2.0**-900]
TINY += [2.0**-900 + 2.0**-952, 1.5 * 2.0**-950, math.nextafter(2.0**-846, 1.0)]
TINY += [math.nextafter(2.0**-846, 0.0), math.nextafter(2.0**-899, 0.0), math.nextafter(2.0**-900, 1.0)]


def terms(count: int, index: int) -> Reals:
    """Return terms of both signs and several magnitudes: their sum depends on the order."""
    scales: Reals = np.array([2.0 ** ((5 * term) % 8) for term in range(count)], dtype=np.float64)
    return reals(count, index=index, low=-3.0, high=4.0) * scales


def folded(device: Device, count: int, variant: int) -> dict[str, Any]:
    """Return terms and their folded sum."""
    numbers = terms(count, 2400 + 10 * count + variant)
    result = device.get(device.ops.sum(device.put(numbers), axis=0))[0]
    return {"terms": hexadecimals(numbers), "sum": hexadecimal(result)}


def tree(device: Device, count: int, variant: int) -> dict[str, Any]:
    """Return the sums of blocks, a number each, and their sum in the tree."""
    numbers = terms(count, 1200 + 10 * count + variant)
    blocks: list[list[Array]] = [[device.put([number])] for number in numbers.tolist()]
    return {"blocks": hexadecimals(numbers), "sum": hexadecimal(device.get(tree_sum(blocks)[0])[0])}


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    device = Device.of(backend)
    scales = reals(20, index=350, low=-1.0, high=1.0)
    tiny = [*TINY, *np.ldexp(scales, np.arange(-955, -835, 6)).tolist()]
    pairs = zip(tiny, device.get(flush_tiny(device.put(tiny))).tolist(), strict=True)
    return {
        "folded": [folded(device, count, each) for count in range(1, 18) for each in range(3)],
        "tree": [tree(device, count, each) for count in range(1, 10) for each in range(3)],
        "[x]": hexadecimals([list(pair) for pair in pairs]),
        "blocks": [
            [samples, [stop - start for start, stop in block_bounds(samples)]]
            for samples in (1, 1023, 1024, 1025, 2048, 5500)
        ],
    }
