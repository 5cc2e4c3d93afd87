"""Preprocessing of images of handwritten digits, of any size and lighting, to the form of MNIST.

MNIST's digits are bright ink, up to 255, on 0. The longer side of the ink is 20 pixels, and its centre of
mass lies in row and column 14, counted from 0, of the field of 28 x 28 pixels
(http://yann.lecun.com/exdb/mnist/; measured: in each of the 10,000 test images). An image is preprocessed in
four steps:

1. The background is a plane of grey levels fitted to the border of the image, without outliers. Ink is the
   difference from it, of the sign with the larger energy: dark on light or light on dark.
2. The digit is the ink above the background's noise and above a fifth of the full strength, without specks
   of less than 2 % of the largest stroke's mass.
3. Strokes much thinner than those of MNIST are thickened, because they would fade when scaled down.
4. The ink is scaled by area averaging, and centred in the field.
"""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from xpnet._lib.text import join_lines
from xpnet._typing import Function, HostArray, Shape
from xpnet.data.table import open_data_file
from xpnet.errors import DataError

Grey: TypeAlias = NDArray[np.float64]
"""Grey levels or ink, (height, width), mostly 0 to 255."""

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Supported formats, by Pillow's names: those that hold only pixels and need no external program."""

MAX_PIXELS = 1 << 26
"""Maximum number of pixels, 8192 x 8192: up to half a gigabyte when decoded."""

MAX_WEBP_PIXELS = 25_000_000
"""Maximum number of pixels of a WebP image, whose decoder needs four times the memory of the image."""

WORKING_SIDE = 1024
"""Images are reduced to sides below twice this, in pixels."""

FIELD, BOX = 28, 20
"""Sides of MNIST's images, and of the box that its digits fill, in pixels."""

MIN_CONTRAST = 24.0
"""Minimum difference in grey levels between background and ink; an image with less is blank."""

DIGIT_THRESHOLD, DUST_THRESHOLD = 0.2, 0.03
"""Fractions of the full strength: minimum of ink in the digit, and that below which ink is removed."""

SPECK_THRESHOLD = 0.02
"""Fraction of the largest stroke's mass below which a separate stroke is a speck."""

PART_THRESHOLD = 0.1
"""Fraction of that mass from which a stroke counts as a part."""
MANY_PARTS = 4
WIDE = 1.5
"""Number of parts, and width over height with at least two parts, from which the ink is not one digit. None
of MNIST's 10,000 test images is beyond either."""

MIN_STROKE_WIDTH = 0.08
"""Minimum width of strokes, as a fraction of the digit's longer side; thinner ones are thickened."""

_NOISE = 4.0
"""Minimum strength of ink, in standard deviations of the background's noise."""

_DEVIATION = 1.4826
"""Ratio of standard deviation and median absolute value of normal noise."""

_COARSE = 64
"""Number of cells along the longer side of the grid for connected components."""


def read_digit(path: Path, side: int = FIELD) -> HostArray:
    """Read an image file of a digit in the form of MNIST, (side, side).

    For another side than 28, the sizes of the form are scaled by side / 28.

    Raises
    ------
    DataError
        The file cannot be read (see `read_grey`), or holds no ink (see `to_mnist_form`).
    """
    grey = read_grey(path)
    try:
        return to_mnist_form(grey, side)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


# Reading of grey levels


def read_grey(path: Path) -> Grey:
    """Read the grey levels (height, width), 0 (black) to 255, of an image file, upright.

    Colours are converted to their luminance. Transparent pixels get the level of the border, or if the
    border is transparent, black behind light ink and white behind dark ink. Pixels of more than 8 bits are
    stretched to the range from 0 to 255. Of several frames, the first is read. Sides of 2048 pixels or more
    are reduced by averaging.

    Raises
    ------
    DataError
        The file is missing, damaged or truncated, its format is not supported, or it has more than
        `MAX_PIXELS` pixels (WebP: `MAX_WEBP_PIXELS`), which is checked before decoding.
    """
    with open_data_file(path, "an image file") as file:
        try:
            # Pillow warns of harmless details.
            with warnings.catch_warnings(action="ignore"), _discard_stderr():
                return _decode_grey(Image.open(file, formats=FORMATS))
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is no image that can be read: expected {', '.join(FORMATS)}") from error
        except Exception as error:  # decoders raise almost any exception for damaged bytes
            reason = join_lines(error) or type(error).__name__
            raise DataError(f"{path}: the image is too large, damaged or cut short ({reason})") from error


def _decode_grey(image: Image.Image) -> Grey:
    """Return the grey levels of an open image. Raise ValueError if it is too large or not finite."""
    largest = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if math.prod(image.size) > largest:
        raise ValueError(f"{image.width} x {image.height} pixels, at most {largest} are read")
    image.draft("L", (WORKING_SIDE, WORKING_SIDE))  # decodes a JPEG at reduced size
    image.load()
    with suppress(Exception):  # damaged EXIF data are ignored
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
        values = _to_levels(image, lambda strip: strip.convert("F"))
        values -= values.min()
        if not math.isfinite(brightest := float(values.max())):
            raise ValueError("a pixel is not finite")
        return values * (255.0 / (brightest or 1.0))
    if not image.has_transparency_data:
        return _to_levels(image, lambda strip: strip.convert("L"))

    def to_visible(strip: Image.Image) -> Image.Image:
        coloured = strip.convert("RGBA")
        return ImageChops.multiply(coloured.convert("L"), coloured.getchannel("A"))

    visible = _to_levels(image, to_visible)
    opacity = _to_levels(image, lambda strip: strip.convert("RGBA").getchannel("A")) / 255.0
    return visible + (1.0 - opacity) * _choose_backdrop(visible, opacity)


def _to_levels(image: Image.Image, convert: Function) -> Grey:
    """Return the values of a single-band conversion of an image, reduced to the working size.

    It is converted in strips: some conversions take several times the memory of the image.
    """
    factor = max(1, max(image.size) // WORKING_SIDE)
    rows = 64 * factor
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    strips = (convert(image.crop(box)).reduce(factor) for box in boxes)
    return np.concatenate([np.array(strip, np.float64) for strip in strips])


@contextmanager
def _discard_stderr() -> Iterator[None]:
    """Discard what libraries print on standard error themselves, as libtiff does of damaged files."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _choose_backdrop(visible: Grey, opacity: Grey) -> float:
    """Return the grey level behind transparent pixels. `visible` is the grey level times the opacity."""
    border = _border_mask(visible.shape)
    if opacity[border].mean() >= 0.5:
        return float(visible[border].sum() / opacity[border].sum())
    return 0.0 if visible.sum() > 127.5 * opacity.sum() else 255.0


# Conversion of grey levels to the form of MNIST


def to_mnist_form(grey: Grey, side: int = FIELD) -> HostArray:
    """Convert grey levels (height, width), 0 to 255, of a digit to the form of MNIST, uint8 (side, side).

    For another side than 28, the sizes of the form are scaled by side / 28. A UserWarning says if the image
    shows clearly more than one digit.

    Raises
    ------
    DataError
        The image is blank: nothing in it differs from its border.
    """
    ink, noise = _extract_ink(grey)
    strongest = float(ink.max())
    if strongest < max(MIN_CONTRAST, (_NOISE + 2.0) * noise):
        raise DataError("no digit found: nothing stands out from the border of the picture")
    full = float(np.percentile(ink[ink > strongest / 2], 95))
    digit, parts = _remove_specks(ink, ink > max(DIGIT_THRESHOLD * full, _NOISE * noise))
    ink[ink < max(DUST_THRESHOLD * full, _NOISE * noise)] = 0.0
    ink = np.minimum(ink, full) * (255.0 / full)
    start, stop = _bounding_box(digit)
    height, width = stop - start
    if parts >= MANY_PARTS or (parts > 1 and width > WIDE * height):
        warnings.warn(f"shows {parts} separate shapes, expected one digit", stacklevel=2)
    grown = round((MIN_STROKE_WIDTH * (stop - start).max() - _stroke_width(digit & (ink > 127.5))) / 2)
    if grown > 0:
        ink, stop = _maximum_filter(np.pad(ink, grown), grown), stop + 2 * grown
    return _center_in_field(_resize(ink, start, stop, side), side)


def _extract_ink(grey: Grey) -> tuple[Grey, float]:
    """Return the ink, each pixel's difference from the background, and the background's noise.

    Dark ink in the shade differs less from the background; it is scaled in proportion to the light.
    """
    border = _border_mask(grey.shape)
    level = grey[border]
    row, column = np.nonzero(border)
    plane = np.stack([np.ones(level.size), row, column], axis=1)
    coefficients: HostArray = np.zeros(3)
    rest: HostArray = level - np.median(level)
    for _ in range(3):
        near = np.abs(rest) <= max(3.0 * _robust_deviation(rest), 4.0)
        coefficients = np.linalg.lstsq(plane[near], level[near])[0]
        rest = level - plane @ coefficients
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    paper = coefficients[0] + coefficients[1] * rows + coefficients[2] * columns
    brighter = np.maximum(grey - paper, 0.0)
    darker = np.maximum(paper - grey, 0.0)
    if np.square(brighter).sum() >= np.square(darker).sum():
        return brighter, _robust_deviation(rest)
    usual = paper.mean()
    return darker * (usual / np.maximum(paper, usual / 4)), _robust_deviation(rest)


def _border_mask(shape: Shape) -> Mask:
    """Return the mask of the border: 3 % of the shorter side wide, at least one pixel."""
    width = max(1, round(0.03 * min(shape)))
    border = np.ones(shape, np.bool_)
    border[width:-width, width:-width] = False
    return border


def _robust_deviation(rest: HostArray) -> float:
    """Return the standard deviation of residuals, estimated from their median absolute value."""
    return _DEVIATION * float(np.median(np.abs(rest)))


def _remove_specks(ink: Grey, digit: Mask) -> tuple[Mask, int]:
    """Return the mask `digit` without strokes of little ink, and the number of its parts."""
    height, width = ink.shape
    cell = -(-max(ink.shape) // _COARSE)
    padded = np.pad(np.where(digit, ink, 0.0), [(0, -height % cell), (0, -width % cell)])
    cells = padded.reshape(padded.shape[0] // cell, cell, -1, cell).sum(axis=(1, 3))
    strokes = _label_components(cells > 0)
    mass = np.bincount(strokes.ravel(), cells.ravel())
    large = mass >= SPECK_THRESHOLD * mass.max()
    large[0] = False  # the background
    kept = large[strokes].repeat(cell, axis=0).repeat(cell, axis=1)
    return digit & kept[:height, :width], int(np.count_nonzero(mass[1:] >= PART_THRESHOLD * mass.max()))


def _label_components(cells: Mask) -> Integers:
    """Label the connected components of true cells, corners included. False cells are 0."""
    numbers = np.where(cells, 1 + np.arange(cells.size).reshape(cells.shape), 0)
    while not np.array_equal(numbers, largest := np.where(cells, _maximum_filter(numbers, 1), 0)):
        numbers = np.append(0, largest)[largest]  # the current label of the cell that had this number
    return numbers


def _maximum_filter(values: HostArray, reach: int) -> HostArray:
    """Return the maximum in squares of side 2 `reach` + 1 around each element, padded with 0."""
    values = np.pad(values, reach)
    for axis in (0, 1):
        values = sliding_window_view(values, 2 * reach + 1, axis=axis).max(axis=-1)
    return values


def _bounding_box(digit: Mask) -> tuple[Integers, Integers]:
    """Return the first row and column with a true value, and the last ones plus one."""
    indices = np.argwhere(digit)
    return indices.min(axis=0), indices.max(axis=0) + 1


def _stroke_width(digit: Mask) -> float:
    """Return the mean width of strokes, in pixels: twice their area over the length of their outline.

    The outline is estimated as π/4 times the number of pixel sides along it.
    """
    padded = np.pad(digit, 1)
    sides = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
    return 2.0 * int(np.count_nonzero(digit)) / (sides * math.pi / 4) if sides else 0.0


def _resize(ink: Grey, start: Integers, stop: Integers, side: int) -> Integers:
    """Scale the ink so that the longer side of its bounding box fills the box, with a faint edge around it.

    The edge is a pixel wide if the field has room for it.
    """
    box = max(1, round(BOX * side / FIELD))
    longer = (stop - start).max()
    sizes = -((start - stop) * box // longer) + 2 * min(1, (side - box) // 2)
    step = longer / box  # pixels of the image per pixel of the field
    down, across = map(_averaging_weights, (start + stop - sizes * step) / 2, (step, step), sizes, ink.shape)
    small = down @ ink @ across.T
    return np.asarray(np.rint(small * (255.0 / small.max())), np.int64)


def _averaging_weights(begin: float, step: float, size: int, length: int) -> HostArray:
    """Return the weights (size, length) of pixels in the means over intervals of `step` from `begin`."""
    starts = begin + step * np.arange(size)[:, np.newaxis]
    pixels = np.arange(length)
    overlap = np.minimum(starts + step, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(np.maximum(overlap, 0.0) / step)


def _center_in_field(digit: Integers, side: int) -> HostArray:
    """Return the field with the digit's centre of mass in the middle, without cutting the digit."""
    start, stop = _bounding_box(digit > 0)
    digit = digit[start[0] : stop[0], start[1] : stop[1]]
    middles = 2 * np.indices(digit.shape) + 1  # in half pixels
    centre = (digit * middles).sum(axis=(1, 2)) // (2 * digit.sum())
    top, left = np.clip(side // 2 - centre, 0, side - np.array(digit.shape))
    field = np.zeros((side, side), np.uint8)
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field
