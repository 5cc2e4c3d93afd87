"""From a picture of one digit, of any size and in any light, to the inputs that MNIST would give.

MNIST's digits are bright ink, 0 to 255, on 0; the longer side of the ink is 20 pixels, and in the field
of 28 x 28 pixels the centre of mass lies in the pixel with the number 14 both ways, counted from 0
(http://yann.lecun.com/exdb/mnist/; measured: so it is in every one of the 10,000 test images). The picture of
another digit is brought to that form:

1. The paper is a plane of grey levels fitted to the border of the picture, whatever lies far from it left
   out. Ink is what differs from it, in the direction that differs more: dark on light or light on dark.
2. Ink is what stands out from the noise of the paper and has a fifth of the full strength or more; specks
   of less than 2 % of the largest stroke's mass are none.
3. Strokes much thinner than any pen's in MNIST are thickened, for they would fade when they are reduced.
4. The ink is scaled, by averages over areas, and laid into the field.
"""

import math
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from xpnet.data.source import open_data_file
from xpnet.errors import DataError

Grey: TypeAlias = NDArray[np.float64]
"""Grey levels or ink, (height, width), mostly 0 to 255."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is read, by Pillow's names: formats that start no other program and hold pixels only."""

MAX_PIXELS = 1 << 26
"""Pixels of a picture, at most: 8192 x 8192. Decoded they take up to half a gigabyte."""

WORKING_SIDE = 1024
"""Pictures are worked on with sides below twice this."""

FIELD, BOX = 28, 20
"""Sides of MNIST's images, and of the box that its digits fill."""

MIN_CONTRAST = 24.0
"""Grey levels between paper and ink, at least: a picture with less is blank."""

DIGIT_THRESHOLD, DUST_THRESHOLD = 0.2, 0.03
"""Shares of the full strength from which ink counts as part of the digit, and below which it is dust."""

SPECK_THRESHOLD = 0.02
"""Share of the largest stroke's mass below which a separate stroke is a speck."""

MIN_STROKE_WIDTH = 0.08
"""Width of a stroke, as a share of the digit's longer side, to which thinner ones are thickened."""

_NOISE = 4.0
"""Standard deviations of the paper's noise that ink must stand out by."""

_DEVIATION = 1.4826
"""The standard deviation of normal noise over the median of its magnitudes."""

_COARSE = 64
"""Cells along the longer side of the grid on which strokes are told apart."""


def read_digit(path: Path, side: int = FIELD) -> NDArray[np.uint8]:
    """Return the digit in the image file `path` as MNIST would hold it, (side, side).

    For another side than 28, the numbers of the form are scaled by side / 28.

    Raises
    ------
    DataError
        The file cannot be read (see `read_grey`), or holds no ink (see `to_mnist_form`).
    """
    grey = read_grey(path)
    try:
        return to_mnist_form(grey, side)
    except DataError as error:
        raise DataError.at(path, error) from None


# From the file to grey levels


def read_grey(path: Path) -> Grey:
    """Return the grey levels, 0 (black) to 255, of an image file, upright.

    Colours count by their luminance. What is transparent gets the level of the paper: that of the border,
    or if the border is transparent itself, black behind light ink and white behind dark. Pixels of more
    than 8 bits are stretched so that the darkest is 0 and the brightest 255. Of several frames, the first
    is read. Sides of 2048 pixels or more are reduced by averaging.

    Raises
    ------
    DataError
        The file is missing, no image of a known format, damaged or cut short, or has more than `MAX_PIXELS`
        pixels, which its header tells before any is decoded.
    """
    with open_data_file(path, "an image file") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow's, about details that do not matter here
                return _decode_grey(Image.open(file, formats=FORMATS))
        except Exception as error:  # a decoder given damaged bytes raises almost anything
            raise DataError.at(path, _describe_problem(error)) from error


def _decode_grey(image: Image.Image) -> Grey:
    """Return the grey levels of an open image; raise DataError if it is too large."""
    if math.prod(image.size) > MAX_PIXELS:
        size = f"{image.width} x {image.height} pixels"
        msg = f"has {size}, at most {MAX_PIXELS} are read: scale the image down"
        raise DataError(msg)
    image.draft("L", (WORKING_SIDE, WORKING_SIDE))  # a JPEG is then decoded smaller
    image.load()
    with suppress(Exception):  # damaged EXIF spoils no pixel
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
        return _stretch(_to_levels(image.convert("F")))
    if not {"A", "a"} & set(image.getbands()) and "transparency" not in image.info:
        return _to_levels(image.convert("L"))
    coloured = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha, grey = coloured.getchannel("A"), coloured.convert("L")
    visible = _to_levels(ImageChops.multiply(grey, alpha))
    opacity = _to_levels(alpha) / 255.0
    return visible + (1.0 - opacity) * _choose_backdrop(visible, opacity)


def _stretch(values: Grey) -> Grey:
    """Return values of an image of decimals or of more than 8 bits as levels from 0 to 255."""
    darkest, brightest = float(values.min()), float(values.max())
    if not math.isfinite(brightest - darkest):
        msg = "a pixel is not finite"
        raise ValueError(msg)
    return (values - darkest) * (255.0 / ((brightest - darkest) or 1.0))


def _to_levels(image: Image.Image) -> Grey:
    """Return the values of an image of one band, reduced to the working size."""
    return np.asarray(image.reduce(max(1, max(image.size) // WORKING_SIDE)), np.float64)


def _choose_backdrop(visible: Grey, opacity: Grey) -> float:
    """Return the level to put behind an image; `visible` is its grey level times its opacity."""
    border = _border_mask(visible.shape)
    if opacity[border].mean() >= 0.5:
        return float(visible[border].sum() / opacity[border].sum())
    return 0.0 if visible.sum() > 127.5 * opacity.sum() else 255.0


def _describe_problem(error: Exception) -> str:
    match error:
        case DataError():
            return str(error)
        case UnidentifiedImageError():
            return f"is no image that can be read: expected {', '.join(FORMATS)}"
        case Image.DecompressionBombError():
            return f"has more pixels than the {MAX_PIXELS} that are read: scale the image down"
        case MemoryError():
            return "does not fit in this machine's memory: scale the image down"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"the image is damaged or cut short ({reason})"


# From grey levels to MNIST's form


def to_mnist_form(grey: Grey, side: int = FIELD) -> NDArray[np.uint8]:
    """Return the digit in a picture, (height, width) grey levels from 0 to 255, as MNIST would hold it.

    The result is (side, side): ink up to 255 on 0. For another side than 28, the numbers of the form are
    scaled by side / 28.

    Raises
    ------
    DataError
        The picture is blank: nothing in it stands out from its border.
    """
    ink, noise = _extract_ink(grey)
    strongest = float(ink.max())
    if strongest < max(MIN_CONTRAST, (_NOISE + 2.0) * noise):
        msg = "no digit found: nothing stands out from the border of the picture"
        raise DataError(msg)
    full = float(np.percentile(ink[ink > strongest / 2], 95))
    digit = _remove_specks(ink, ink > max(DIGIT_THRESHOLD * full, _NOISE * noise))
    ink[ink < max(DUST_THRESHOLD * full, _NOISE * noise)] = 0.0
    ink = np.minimum(ink, full) * (255.0 / full)
    start, stop = _bounding_box(digit)
    grown = round((MIN_STROKE_WIDTH * (stop - start).max() - _stroke_width(digit & (ink > 127.5))) / 2)
    if grown > 0:
        ink, stop = _maximum_filter(np.pad(ink, grown), grown), stop + 2 * grown
    return _center_in_field(_resize(ink, start, stop, side), side)


def _extract_ink(grey: Grey) -> tuple[Grey, float]:
    """Return how far each pixel is from the paper, in the direction of the ink, and the paper's noise.

    In the shade, dark ink differs less from the paper, in proportion to the light: that is made up for.
    """
    border = _border_mask(grey.shape)
    level = grey[border]
    row, column = np.nonzero(border)
    plane = np.stack([np.ones(level.size), row, column], axis=1)
    coefficients, rest = np.zeros(3), np.asarray(level - np.median(level), np.float64)
    for _ in range(3):
        near = np.abs(rest) <= max(3.0 * _robust_deviation(rest), 4.0)
        coefficients = np.asarray(np.linalg.lstsq(plane[near], level[near])[0], np.float64)
        rest = np.asarray(level - plane @ coefficients, np.float64)
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    paper = coefficients[0] + coefficients[1] * rows + coefficients[2] * columns
    brighter = np.maximum(grey - paper, 0.0)
    darker = np.maximum(paper - grey, 0.0)
    if np.square(brighter).sum() >= np.square(darker).sum():
        return brighter, _robust_deviation(rest)
    usual = paper.mean()
    return darker * (usual / np.maximum(paper, usual / 4)), _robust_deviation(rest)


def _border_mask(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixels make the border: 3 % of the shorter side, and one pixel at least."""
    width = max(1, round(0.03 * min(shape)))
    border = np.ones(shape, np.bool_)
    border[width:-width, width:-width] = False
    return border


def _robust_deviation(rest: NDArray[np.float64]) -> float:
    return _DEVIATION * float(np.median(np.abs(rest)))


def _remove_specks(ink: Grey, digit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask `digit` without the strokes that have little ink."""
    height, width = ink.shape
    cell = -(-max(ink.shape) // _COARSE)
    padded = np.pad(np.where(digit, ink, 0.0), [(0, -height % cell), (0, -width % cell)])
    cells = padded.reshape(padded.shape[0] // cell, cell, -1, cell).sum(axis=(1, 3))
    strokes = _label_components(cells > 0)
    mass = np.bincount(strokes.ravel(), cells.ravel())
    large = mass >= SPECK_THRESHOLD * mass.max()
    large[0] = False  # the paper
    kept = large[strokes].repeat(cell, axis=0).repeat(cell, axis=1)
    strong: NDArray[np.bool_] = digit & kept[:height, :width]
    return strong


def _label_components(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a number for each true cell, the same for those that touch, corners included; else 0."""
    numbers = np.where(cells, 1 + np.arange(cells.size).reshape(cells.shape), 0)
    while not np.array_equal(numbers, largest := np.where(cells, _maximum_filter(numbers, 1), 0)):
        numbers = np.append(0, largest)[largest]  # what the cell that had this number has by now
    return numbers


def _maximum_filter(values: np.ndarray, reach: int) -> np.ndarray:
    """Return the maximum of the values around each element, up to `reach` away both ways; 0 is outside."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = reach, reach
        values = sliding_window_view(np.pad(values, padding), 2 * reach + 1, axis=axis).max(axis=-1)
    return values


def _bounding_box(digit: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row and column with a true value, and those after the last."""
    indices = np.argwhere(digit)
    return indices.min(axis=0), indices.max(axis=0) + 1


def _stroke_width(digit: NDArray[np.bool_]) -> float:
    """Return the mean width of strokes, in pixels: twice their area over the length of their outline.

    An outline in all directions is π/4 as long as the sides of the pixels along it.
    """
    padded = np.pad(digit, 1)
    sides = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
    return 2.0 * int(np.count_nonzero(digit)) / (sides * math.pi / 4) if sides else 0.0


def _resize(ink: Grey, start: NDArray[np.int64], stop: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return the ink so that the longer side of its extent fills the box, with its faint edge around it.

    The edge is a pixel wide, where the field has room for it.
    """
    box = max(1, round(BOX * side / FIELD))
    longer = (stop - start).max()
    sizes = -((start - stop) * box // longer) + 2 * min(1, (side - box) // 2)
    step = longer / box  # of the picture's pixels for one of the field's
    down, across = map(_averaging_weights, (start + stop - sizes * step) / 2, (step, step), sizes, ink.shape)
    small = down @ ink @ across.T
    levels: NDArray[np.int64] = np.rint(small * (255.0 / small.max())).astype(np.int64)
    return levels


def _averaging_weights(begin: float, step: float, size: int, length: int) -> NDArray[np.float64]:
    """Return the share (size, length) of each of `length` pixels in each interval of `step` from `begin`."""
    starts = begin + step * np.arange(size)[:, np.newaxis]
    pixels = np.arange(length)
    overlap = np.minimum(starts + step, pixels + 1) - np.maximum(starts, pixels)
    shares: NDArray[np.float64] = np.maximum(overlap, 0.0) / step
    return shares


def _center_in_field(digit: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Return the field with the digit in it, its centre of mass in the middle, none of it cut off."""
    start, stop = _bounding_box(digit > 0)
    digit = digit[start[0] : stop[0], start[1] : stop[1]]
    middles = 2 * np.indices(digit.shape) + 1  # in half pixels
    centre = (digit * middles).sum(axis=(1, 2)) // (2 * digit.sum())
    top, left = np.clip(side // 2 - centre, 0, side - np.array(digit.shape))
    field = np.zeros((side, side), np.uint8)
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field
