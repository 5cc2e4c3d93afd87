"""sums.json: folded sums, the tree of blocks, and the rounding [x]."""

from typing import TYPE_CHECKING

from vectors.functions import pairs
from vectors.numbers import Content, Device, hexadecimal, hexadecimals, reals
from xpnet.arithmetic.blocks import block_bounds, tree_sum
from xpnet.backends.base import Backend
from xpnet.nn.functional import flush_tiny

if TYPE_CHECKING:
    from xpnet._typing import Array


def folded(device: Device, case: Content) -> Content:
    """Return terms and their folded sum."""
    terms = reals(case["terms"])
    total = device.get(device.ops.sum(device.put(terms), axis=0))[0]
    return {"terms": hexadecimals(terms), "sum": hexadecimal(total)}


def tree(device: Device, case: Content) -> Content:
    """Return the sums of blocks, a number each, and their sum in the tree."""
    numbers = reals(case["blocks"])
    blocks: list[list[Array]] = [[device.put([number])] for number in numbers]
    return {"blocks": hexadecimals(numbers), "sum": hexadecimal(device.get(tree_sum(blocks)[0])[0])}


def block_sizes(samples: int) -> list[int]:
    """Return the numbers of samples of the blocks."""
    return [stop - start for start, stop in block_bounds(samples)]


def content(backend: Backend, file: Content) -> Content:
    """Return the file."""
    device = Device.of(backend)
    return {
        "folded": [folded(device, case) for case in file["folded"]],
        "tree": [tree(device, case) for case in file["tree"]],
        "[x]": pairs(device, flush_tiny, file["[x]"]),
        "blocks": [[samples, block_sizes(samples)] for samples, _ in file["blocks"]],
    }
