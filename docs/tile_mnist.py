"""Writes a data set of any size: the bundled MNIST over and over, each image moved and darkened a little.

The folder holds .npy files. Training reads such files block by block, so they can be larger than memory. The
test images are those of MNIST.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import checkout  # noqa: F401  it ends with one line where xpnet is not installed
import numpy as np
from numpy.lib.format import open_memmap
from numpy.lib.stride_tricks import sliding_window_view
from shared import whole_number

from xpnet.data import datasets

ROWS_AT_ONCE = 4096
FARTHEST = 2
"""Pixels that an image moves by at most, in each direction."""
SHADES = 32
"""A pixel is darkened by fewer grey levels than this."""


def write_folder(out: Path, count: int) -> None:
    """Write the four files of `count` training images, row i a variation of image i mod m, into a folder.

    What an image is moved and darkened by comes from its word of Philox's stream.
    """
    mnist, shape = datasets.load(), (28, 28)
    np.save(out / "y_train.npy", np.resize(mnist.y_train.astype(np.uint8), count))
    np.save(out / "x_test.npy", mnist.x_test.reshape(-1, *shape))
    np.save(out / "y_test.npy", mnist.y_test)
    x_train = open_memmap(out / "x_train.npy", "w+", np.uint8, (count, *shape))  # need not fit into memory
    margin = (FARTHEST, FARTHEST)
    padded = np.pad(mnist.x_train.reshape(-1, *shape), ((0, 0), margin, margin))
    moved = sliding_window_view(padded, shape, axis=(1, 2))
    shifts = np.uint64(2 * FARTHEST + 1)
    stream = np.random.Philox(key=0)
    for start in range(0, count, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, count))
        word = stream.random_raw(len(rows))
        images = moved[rows % len(moved), word % shifts, word // shifts % shifts]
        darker = ((word >> np.uint64(32)) % np.uint64(SHADES)).astype(np.uint8).reshape(-1, 1, 1)
        x_train[rows] = np.maximum(images, darker) - darker


def main(arguments: list[str] | None = None) -> int:
    """Write the folder that the arguments name; return 2, and leave none, if that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=whole_number, help="number of training images")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True)
    except OSError as error:
        print(
            f"tile_mnist: {options.out}: cannot be made ({error.strerror}): name another folder",
            file=sys.stderr,
        )
        return 2
    try:
        write_folder(options.out, options.rows)
    except BaseException as error:
        shutil.rmtree(options.out)
        if not isinstance(error, OSError):
            raise
        print(f"tile_mnist: {options.out}: cannot be written ({error.strerror or error})", file=sys.stderr)
        return 2
    print(f"{options.out}: {options.rows} training images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
