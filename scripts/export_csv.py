"""Writes the bundled MNIST as the notebook's two files, mnist_train.csv and mnist_test.csv."""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
import numpy as np
from numpy.typing import NDArray
from shared import make_folder

from xpnet._lib.files import save
from xpnet.data import datasets
from xpnet.errors import XPNetError

_BLOCK = 4096


def csv_blocks(x: NDArray[Any], y: NDArray[np.int32]) -> Iterator[bytes]:
    """Yield the CSV text of pixels `x` (m, side * side) uint8 and labels `y` (m,) below 256.

    The header is the notebook's: label,1x1,1x2,…,28x28 (row x column of the pixel).
    """
    side = math.isqrt(x.shape[1])
    names = [f"{row}x{column}" for row in range(1, side + 1) for column in range(1, side + 1)]
    yield ",".join(["label", *names]).encode() + b"\n"
    cell = np.array([b"%d," % value for value in range(256)], "S4")
    last_cell = np.array([b"%d\n" % value for value in range(256)], "S4")
    for start in range(0, len(x), _BLOCK):
        pixels = x[start : start + _BLOCK]
        text = np.empty((len(pixels), 1 + x.shape[1]), "S4")
        text[:, 0] = cell[y[start : start + _BLOCK]]
        text[:, 1:] = cell[pixels]
        text[:, -1] = last_cell[pixels[:, -1]]
        yield text.tobytes().translate(None, b"\0")


def main(arguments: list[str] | None = None) -> int:
    """Write the two files and return the exit code: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder (default: data)")
    out = parser.parse_args(arguments).out
    try:
        mnist = datasets.load()
        for name, x, y in (
            ("mnist_train.csv", mnist.x_train, mnist.y_train),
            ("mnist_test.csv", mnist.x_test, mnist.y_test),
        ):
            path = out / name
            make_folder(out)
            save(path, b"".join(csv_blocks(x, y)))
            print(f"{path}: {len(x)} samples")
    except XPNetError as error:
        print(f"export_csv: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
