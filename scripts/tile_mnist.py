"""Writes a data set of any size: the bundled MNIST over and over, each image moved and darkened a little.

The folder holds .npy files. Training reads such files block by block, so they can be larger than memory. The
test images are those of MNIST.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from shared import whole_number

from xpnet._lib.files import make_write_error
from xpnet.data import datasets
from xpnet.errors import XPNetError

ROWS_AT_ONCE = 4096
SIDE = 28
FARTHEST = 2
"""Pixels that an image moves by at most, in each direction."""
SHADES = 32
"""A pixel is darkened by fewer grey levels than this."""


def image_blocks(x: NDArray[Any], count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images in blocks (rows, 28, 28): row i is a variation of image i mod m of `x`.

    `x` is (m, 784) uint8. What an image is moved and darkened by comes from its word of Philox's stream.
    """
    margin = (FARTHEST, FARTHEST)
    padded = np.pad(x.reshape(-1, SIDE, SIDE), ((0, 0), margin, margin))
    moved = sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    shifts = np.uint64(2 * FARTHEST + 1)
    stream = np.random.Philox(key=0)
    for start in range(0, count, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, count)) % len(x)
        word = stream.random_raw(len(rows))
        images = moved[rows, word % shifts, word // shifts % shifts]
        darker = (word >> np.uint64(32)) % np.uint64(SHADES)
        darker = darker.astype(np.uint8).reshape(-1, 1, 1)
        yield np.maximum(images, darker) - darker


def write_folder(out: Path, count: int) -> None:
    """Write the four files of `count` training images into the new folder `out`.

    Raises
    ------
    ConfigError
        The folder exists, or it cannot be written.
    """
    mnist, shape = datasets.load(), (SIDE, SIDE)
    try:
        out.mkdir(parents=True)
        with (out / "x_train.npy").open("xb") as file:  # which need not fit into memory
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
            write_array_header_1_0(file, header)
            for block in image_blocks(mnist.x_train, count):
                file.write(np.ascontiguousarray(block).data)
        np.save(out / "y_train.npy", np.resize(mnist.y_train.astype(np.uint8), count))
        np.save(out / "x_test.npy", mnist.x_test.reshape(-1, *shape))
        np.save(out / "y_test.npy", mnist.y_test)
    except OSError as error:
        raise make_write_error(out, error) from error


def main(arguments: list[str] | None = None) -> int:
    """Write the folder and return the exit code: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=whole_number, help="number of training images")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    options = parser.parse_args(arguments)
    try:
        write_folder(options.out, options.rows)
    except XPNetError as error:
        print(f"tile_mnist: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {options.rows} training images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
