"""Augmented images of docs/reproducibility.md, written from that page alone: 12, and the cosine of 10.4."""

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from itertools import islice
from typing import Any, NamedTuple

from reference import AUGMENTATION, Matrix, product, signed, uniform, words

Image = list[list[int]]
Axis = tuple[float, float, float]
"""a, b and c, for the column or for the row."""
SETTINGS = ("shift", "rotate", "scale", "shear", "elastic_alpha", "thickness")

DIGITS = 60
with localcontext(prec=DIGITS):
    PI, _term = Decimal(2), Decimal(2)  # 2 · (1 + 1/3 + 1·2/(3·5) + …)
    for _k in range(1, 250):
        _term = _term * _k / (2 * _k + 1)
        PI += _term
    RADIANS_OF_A_DEGREE = float(PI / 180)


def cosine_share(t: int, of: int) -> float:
    """Return fl((1 + cos(π·t/T))/2) (10.4)."""
    with localcontext(prec=DIGITS):
        x, term, total = PI * t / of, Decimal(1), Decimal(1)
        for k in range(2, 80, 2):
            term *= -x * x / (k * (k - 1))
            total += term
        return float((1 + total) / 2)


def is_augmented(settings: dict[str, Any]) -> bool:
    """Return whether training takes variants (12)."""
    return any(settings[f"augment_{name}"] > 0 for name in SETTINGS)


def strength(settings: dict[str, Any], epoch: int) -> int:
    """Return f (12.1)."""
    fade = settings["augment_fade_epochs"]
    left = max(settings["epochs"] - epoch + 1, 1)
    return 256 * left // (fade + 1) if left <= fade else 256


def to_whole(x: float) -> float:
    """Return x rounded to whole; a zero has the sign of x (3)."""
    return math.copysign(round(x), x)


def sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Return the sine and the cosine of θ degrees (12.1)."""
    n = to_whole(degrees * (1 / 90))
    x = (degrees - 90 * n) * RADIANS_OF_A_DEGREE
    z = x * x
    s = c = 1.0
    for j in range(16, 0, -2):
        c = 1 - (z * c) * (1 / ((j - 1) * j))
        s = 1 - (z * s) * (1 / (j * (j + 1)))
    s = x * s
    return [(s, c), (c, -s), (-s, -c), (-c, s)][int(n) % 4]


def transform(r: Sequence[float], settings: dict[str, Any], width: int, height: int) -> tuple[Axis, Axis]:
    """Return a, b and c for the column and for the row (12.1)."""
    shift, rotate, scale, shear = (settings[f"augment_{name}"] for name in SETTINGS[:4])
    sine, cosine = sine_and_cosine(rotate * r[2])
    size, k = 1 + scale * r[3], shear * r[4]
    s, c = sine / size, cosine / size

    def axis(a: float, b: float, length: int) -> Axis:
        return a, b, (length - 1) / 2 - (a * (shift * r[0]) + b * (shift * r[1]))

    return axis(c + k * s, (-s) + k * c, width), axis(s, c, height)


def gaussian(side: int, sigma: float) -> Matrix:
    """Return G (12.2)."""
    reach = math.floor(4 * sigma + 0.5)
    with localcontext(prec=DIGITS):
        e = [(-Decimal(k * k) / (2 * Decimal(sigma) ** 2)).exp() for k in range(reach + 1)]
        total = 2 * sum(e) - 1
        values = [float(each / total) for each in e] + [0.0] * side
    return [[values[abs(i - j)] for j in range(side)] for i in range(side)]


def displacements(
    integers: list[int], settings: dict[str, Any], f: int, width: int, height: int
) -> list[Matrix]:
    """Return D across and down, a list of rows each (12.2)."""
    sigma = settings["augment_elastic_sigma"] or 4.0
    amount = settings["augment_elastic_alpha"] * 2.0**-8
    of_rows, of_columns = gaussian(height, sigma), gaussian(width, sigma)
    scaled = [[g * amount for g in row] for row in of_columns]
    result = []
    for down in (0, 1):
        # The columns of N, which are the rows of its transpose.
        n = [[integers[(2 * x + down) * height + y] * f // 256 for y in range(height)] for x in range(width)]
        smoothed = product(n, of_rows)  # the transpose of E; G is symmetric
        result.append(product([list(row) for row in zip(*smoothed, strict=True)], scaled))
    return result


def place(axis: Axis, x: float, y: float, displacement: float | None) -> float:
    """Return where a pixel is fetched from, in 1/128 pixel, for its column or its row (12.3)."""
    a, b, c = axis
    start = (128 * a) * x + (128 * c + 128.5)
    return (start if displacement is None else displacement + start) + (128 * b) * y


def clamped(value: float, length: int) -> int:
    """Return a place clamped and rounded down (12.3)."""
    return math.floor(min(max(value, 0.0), 128 * (length + 1)))


def pixel_of(image: Image, row: int, column: int) -> int:
    """Return a pixel, 0 outside the image (12.3)."""
    inside = 0 <= row < len(image) and 0 <= column < len(image[0])
    return image[row][column] if inside else 0


def interpolated(image: Image, column: int, row: int) -> int:
    """Return the new pixel from its place, clamped and rounded down (12.3)."""
    left, top, fx, fy = column // 128 - 1, row // 128 - 1, column % 128, row % 128

    def between(y: int) -> int:
        p, r = pixel_of(image, y, left), pixel_of(image, y, left + 1)
        return p * 128 + (r - p) * fx

    upper, lower = between(top), between(top + 1)
    return (upper * 128 + (lower - upper) * fy + 2**13) // 2**14


def thickened(image: Image, row: int, column: int, k: int) -> int:
    """Return the pixel of thicker or thinner lines (12.4)."""
    p = image[row][column]
    places = [(row, column), (row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
    around = [pixel_of(image, y, x) for y, x in places]
    if k > 0:
        return p + ((max(around) - p) * k + 64) // 128
    return p + ((p - min(around)) * k + 64) // 128


class Drawn(NamedTuple):
    """The random parts of a variant: r1 to r6, and D across and down, if there is any."""

    r: list[float]
    d: list[Matrix]


def draw(settings: dict[str, Any], width: int, height: int, *, seed: int, epoch: int, index: int) -> Drawn:
    """Return the random parts of the variant of a sample (12.1, 12.2)."""
    f = strength(settings, epoch)
    first = 6 if settings["augment_thickness"] > 0 else 5
    count = first + 2 * width * height // 4 + 1
    w = list(islice(words(AUGMENTATION, index=index, epoch=epoch, seed=seed), count))
    r = [(2 * uniform(word) - 1) * f / 256 for word in w[:6]]
    if not settings["augment_elastic_alpha"] > 0:
        return Drawn(r, [])
    integers = [signed(word >> 16 * part & 0xFFFF) for word in w[first:] for part in range(4)]
    return Drawn(r, displacements(integers, settings, f, width, height))


def warped(image: Image, settings: dict[str, Any], drawn: Drawn) -> Image:
    """Return all pixels of 12.3."""
    height, width = len(image), len(image[0])
    of_column, of_row = transform(drawn.r, settings, width, height)
    result = [[0] * width for _ in range(height)]
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            across, down = (d[row][column] for d in drawn.d) if drawn.d else (None, None)
            places = (
                clamped(place(of_column, x, y, across), width),
                clamped(place(of_row, x, y, down), height),
            )
            result[row][column] = interpolated(image, *places)
    return result


def variant_of(image: Image, settings: dict[str, Any], drawn: Drawn) -> Image:
    """Return the variant of an image (12)."""
    result, thickness = warped(image, settings, drawn), settings["augment_thickness"]
    if not thickness > 0:
        return result
    k = math.floor(128 * (thickness * drawn.r[5]))
    columns = range(len(image[0]))
    return [[thickened(result, row, column, k) for column in columns] for row in range(len(image))]


def variant(
    pixels: Sequence[float], settings: dict[str, Any], *, seed: int, epoch: int, index: int
) -> list[int]:
    """Return the features of the variant of a sample, whose features are a square image (12)."""
    side = math.isqrt(len(pixels))
    image = [[int(p) for p in pixels[side * row : side * (row + 1)]] for row in range(side)]
    drawn = draw(settings, side, side, seed=seed, epoch=epoch, index=index)
    return [p for row in variant_of(image, settings, drawn) for p in row]
