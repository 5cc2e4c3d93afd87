"""Augmented images of docs/reproducibility.md, written from that page alone: 12, and the cosine of 10.4."""

import math
from decimal import Decimal, localcontext

import numpy as np
from reference import AUGMENTATION, first_words, product, uniform

SETTINGS = ("shift", "rotate", "scale", "shear", "elastic_alpha", "thickness")

DIGITS = 60
with localcontext(prec=DIGITS):
    PI, _term = Decimal(2), Decimal(2)  # 2 · (1 + 1/3 + 1·2/(3·5) + …)
    for _k in range(1, 250):
        _term = _term * _k / (2 * _k + 1)
        PI += _term
    RADIANS_OF_A_DEGREE = float(PI / 180)


def cosine_share(t, of):  # fl((1 + cos(π·t/T))/2) (10.4)
    with localcontext(prec=DIGITS):
        x, term, total = PI * t / of, Decimal(1), Decimal(1)
        for k in range(2, 80, 2):
            term *= -x * x / (k * (k - 1))
            total += term
        return float((1 + total) / 2)


def is_augmented(settings):
    return any(settings[f"augment_{name}"] > 0 for name in SETTINGS)


def strength(settings, epoch):  # the strength of an epoch (12.1)
    fade = settings["augment_fade_epochs"]
    left = max(settings["epochs"] - epoch + 1, 1)
    return 256 * left // (fade + 1) if left <= fade else 256


def sine_and_cosine(degrees):  # the sine and the cosine of θ degrees (12.1)
    n = degrees * (1 / 90)
    n = math.copysign(round(n), n)
    x = (degrees - 90 * n) * RADIANS_OF_A_DEGREE
    z = x * x
    s = c = 1.0
    for j in range(16, 0, -2):
        c = 1 - (z * c) * (1 / ((j - 1) * j))
        s = 1 - (z * s) * (1 / (j * (j + 1)))
    s = x * s
    return [(s, c), (c, -s), (-s, -c), (-c, s)][int(n) % 4]


def transform(r, settings, side):  # a, b and c for the column and for the row (12.1)
    shift, rotate, scale, shear = (settings[f"augment_{name}"] for name in SETTINGS[:4])
    sine, cosine = sine_and_cosine(rotate * r[2])
    size, k = 1 + scale * r[3], shear * r[4]
    s, c = sine / size, cosine / size
    return [
        (a, b, (side - 1) / 2 - (a * (shift * r[0]) + b * (shift * r[1])))
        for a, b in ((c + k * s, (-s) + k * c), (s, c))
    ]


def gaussian(side, sigma):  # G (12.2)
    reach = math.floor(4 * sigma + 0.5)
    with localcontext(prec=DIGITS):
        e = [(-Decimal(k * k) / (2 * Decimal(sigma) ** 2)).exp() for k in range(reach + 1)]
        total = 2 * sum(e) - 1
        values = [float(each / total) for each in e] + [0.0] * side
    return np.array([[values[abs(i - j)] for j in range(side)] for i in range(side)])


def displacements(integers, settings, f):
    """Return D across and down from the integers of an image of as many columns as rows (12.2)."""
    g = gaussian(len(integers), settings["augment_elastic_sigma"] or 4.0)
    amount = settings["augment_elastic_alpha"] * 2.0**-8
    u = integers * f // 256
    return [product(product(u[:, t], g).T, g * amount) for t in (0, 1)]


def place(axis, x, y, d):
    """Return where pixels are fetched from, in 1/128 pixel, for their column or their row (12.3)."""
    a, b, c = axis
    return (d + ((128 * a) * x + (128 * c + 128.5))) + (128 * b) * y


def clamped(value, length):  # places clamped and rounded down (12.3)
    return np.floor(np.clip(value, 0.0, 128 * (length + 1))).astype(int)


def interpolated(image, column, row):  # the new pixels from their places, clamped and rounded down (12.3)
    padded, left, top = np.pad(image, (1, 2)), column // 128, row // 128

    def between(y):
        p, r = padded[y, left], padded[y, left + 1]
        return p * 128 + (r - p) * (column % 128)

    upper, lower = between(top), between(top + 1)
    return (upper * 128 + (lower - upper) * (row % 128) + 2**13) // 2**14


def thickened(p, k):  # an image with thicker or thinner lines (12.4)
    side, padded = len(p), np.pad(p, 1)
    places = (0, 1), (1, 0), (1, 1), (1, 2), (2, 1)
    around = [padded[y : y + side, x : x + side] for y, x in places]
    distance = np.max(around, axis=0) - p if k > 0 else p - np.min(around, axis=0)
    return p + (distance * k + 64) // 128


def draw(settings, side, **place):
    """Return r1 to r6, and D across and down, 0 if there is none, of the variant of a sample (12.1, 12.2)."""
    f = strength(settings, place["epoch"])
    first = 6 if settings["augment_thickness"] > 0 else 5
    w = first_words(first + side * side // 2 + 1, AUGMENTATION, **place)
    r = (2 * uniform(w[:6]) - 1) * f / 256
    if not settings["augment_elastic_alpha"] > 0:
        return r, np.zeros((2, side, side))
    integers = w[first:].view("<i2").astype(int)[: 2 * side * side]
    return r, displacements(integers.reshape(side, 2, side), settings, f)


def warped(image, settings, r, d):  # all pixels of 12.3
    side = len(image)
    x = np.arange(side) - (side - 1) / 2
    places = zip(transform(r, settings, side), d, strict=True)
    return interpolated(image, *(clamped(place(axis, x, x[:, np.newaxis], d), side) for axis, d in places))


def variant_of(image, settings, r, d):  # the variant of an image (12)
    result, thickness = warped(image, settings, r, d), settings["augment_thickness"]
    return thickened(result, math.floor(128 * (thickness * r[5]))) if thickness > 0 else result


def variant(pixels, settings, **place):
    """Return the features of the variant of a sample, whose features are a square image (12)."""
    side = math.isqrt(len(pixels))
    image = pixels.reshape(side, side).astype(int)
    return variant_of(image, settings, *draw(settings, side, **place)).ravel()
