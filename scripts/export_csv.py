"""Writes the bundled MNIST as the notebook's two files, mnist_train.csv and mnist_test.csv."""

import argparse
import sys
from pathlib import Path

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
import numpy as np
from numpy.typing import NDArray
from shared import make_folder

from xpnet._lib.files import save
from xpnet.data import datasets
from xpnet.errors import XPNetError


def csv_text(x: NDArray[np.uint8], y: NDArray[np.int32]) -> bytes:
    """Return the CSV text of images `x` (m, 784) and labels `y` (m,).

    The header is the notebook's: label,1x1,1x2,…,28x28 (row x column of the pixel).
    """
    names = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
    cell = np.array([b"%d," % value for value in range(256)], "S4")
    last_cell = np.array([b"%d\n" % value for value in range(256)], "S4")
    text = cell[np.column_stack([y, x])]
    text[:, -1] = last_cell[x[:, -1]]
    return ",".join(["label", *names]).encode() + b"\n" + text.tobytes().translate(None, b"\0")


def main(arguments: list[str] | None = None) -> int:
    """Write the two files; return 2 if they cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder (default: data)")
    out = parser.parse_args(arguments).out
    mnist = datasets.load()
    try:
        make_folder(out)
        for half, x, y in ("train", mnist.x_train, mnist.y_train), ("test", mnist.x_test, mnist.y_test):
            path = out / f"mnist_{half}.csv"
            save(path, csv_text(x, y))
            print(f"{path}: {len(x)} samples")
    except XPNetError as error:
        print(f"export_csv: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
