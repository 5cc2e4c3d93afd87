"""Writes a data set of any size: the bundled MNIST over and over, each image moved and darkened a little.

The folder holds uncompressed IDX or .npy files. Training reads such files block by block, so it can be
larger than memory. The test images are those of MNIST.
"""

import argparse
import io
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401  it ends with one line where xpnet is not installed
import numpy as np
from numpy.lib import format as npy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from xpnet._lib.files import make_write_error
from xpnet.data import datasets
from xpnet.data.array_files import IDX_NAMES
from xpnet.errors import ConfigError, XPNetError

ROWS_AT_ONCE = 4096
SIDE = 28
FARTHEST = 2
"""Pixels that an image moves by at most, in each direction."""
SHADES = 32
"""A pixel is darkened by fewer grey levels than this."""

Blocks = Iterator[NDArray[np.uint8]]


def image_blocks(x: NDArray[Any], count: int, seed: int) -> Blocks:
    """Yield `count` images in blocks (rows, 28, 28): row i is a variation of image i mod m of `x`.

    `x` is (m, 784) uint8. What an image is moved and darkened by comes from its word of Philox's stream.
    """
    margin = (FARTHEST, FARTHEST)
    padded = np.pad(x.reshape(-1, SIDE, SIDE), ((0, 0), margin, margin))
    moved = sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    shifts = np.uint64(2 * FARTHEST + 1)
    stream = np.random.Philox(key=seed)
    for start in range(0, count, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, count)) % len(x)
        word = stream.random_raw(len(rows))
        images = moved[rows, word % shifts, word // shifts % shifts]
        darker = (word >> np.uint64(32)) % np.uint64(SHADES)
        darker = darker.astype(np.uint8).reshape(-1, 1, 1)
        yield np.maximum(images, darker) - darker


def label_blocks(y: NDArray[Any], count: int) -> Blocks:
    """Yield the labels of `count` images in blocks: that of row i is label i mod m of `y`."""
    y = y.astype(np.uint8)
    for start in range(0, count, ROWS_AT_ONCE):
        yield y[np.arange(start, min(start + ROWS_AT_ONCE, count)) % len(y)]


def header(form: str, shape: tuple[int, ...]) -> bytes:
    """Return what precedes values of uint8 in an IDX or a .npy file."""
    if form == "idx":
        return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def write(path: Path, start: bytes, blocks: Blocks) -> None:
    """Write a file of a header and of values, and bring it to the disk."""
    with path.open("xb") as file:
        file.write(start)
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)
        file.flush()
        os.fsync(file.fileno())


def write_folder(out: Path, count: int, form: str, seed: int) -> None:
    """Write the four files of `count` training images in `form` into the new folder `out`.

    They are written into a temporary folder beside it, which gets the name when it is complete.

    Raises
    ------
    ConfigError
        The folder exists, or it cannot be written.
    """
    mnist = datasets.load()
    shape = (count, SIDE, SIDE)
    arrays = {
        "x_train": (shape, image_blocks(mnist.x_train, count, seed)),
        "y_train": (shape[:1], label_blocks(mnist.y_train, count)),
        "x_test": ((len(mnist.x_test), *shape[1:]), iter([mnist.x_test])),
        "y_test": (mnist.y_test.shape, iter([mnist.y_test.astype(np.uint8)])),
    }
    if out.exists():
        msg = f"{out}: exists already: remove it, or choose another folder with --out"
        raise ConfigError(msg)
    temporary = out.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        temporary.mkdir(parents=True)
        _check_space(out, sum(int(np.prod(sizes)) for sizes, _ in arrays.values()))
        for key, (sizes, blocks) in arrays.items():
            name = f"{key}.npy" if form == "npy" else "-".join(IDX_NAMES[key])
            write(temporary / name, header(form, sizes), blocks)
        temporary.replace(out)
    except OSError as error:
        raise make_write_error(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        msg = f"{out}: needs {needed} bytes, {free} are free there: free some space or choose another folder"
        raise ConfigError(msg)


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count < 1 << 32:
        msg = f"expected a whole number from 1 to {(1 << 32) - 1}, got {text}"
        raise argparse.ArgumentTypeError(msg)
    return count


def main(arguments: list[str] | None = None) -> int:
    """Write the folder and return the exit code: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=_count, help="number of training images")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--form", choices=("idx", "npy"), default="idx", help="(default: idx)")
    parser.add_argument("--seed", type=int, default=0, help="fixes the variations (default: 0)")
    options = parser.parse_args(arguments)
    try:
        write_folder(options.out, options.rows, options.form, options.seed)
    except XPNetError as error:
        print(f"tile_mnist: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {options.rows} training images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
