"""Variants of images: the documented formulas, and the same bytes everywhere."""

import math
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
import reference
from assertions import assert_on_backend

from xpnet.arithmetic import Native, Reproducible
from xpnet.backends.resolve import make
from xpnet.config.settings import AugmentationSettings
from xpnet.data import augment, datasets
from xpnet.data.augment import build_augmenter

ALL = AugmentationSettings(
    augment_shift=2, augment_rotate=15, augment_scale=0.15, augment_shear=0.15, augment_elastic_alpha=34
)
THICK = replace(ALL, augment_thickness=0.75)
FAR = AugmentationSettings(augment_shift=9, augment_rotate=180, augment_scale=0.9)
SEED = 3
NUMPY = make("numpy", "cpu")


def arithmetic(backend, kind=Reproducible, dtype="float64"):
    return kind(backend.xp, backend.device, getattr(backend.xp, dtype))


OPS = arithmetic(NUMPY)


def images(count, height=28, width=28):
    return np.random.default_rng(0).integers(0, 256, (count, height * width), np.uint8)


def variants(ops, settings, rows, indices, epoch, size=(28, 28), **options):
    augment = build_augmenter(ops, settings, *size, SEED, NUMPY.from_host, **options)
    return augment(rows, np.asarray(indices), epoch)


def documented_transform(settings, height, width, across, down, rotation, scale, shear):
    """The affine map from places in a variant to those in the image."""
    angle = math.radians(settings.augment_rotate * rotation)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    slant = np.array([[1, -settings.augment_shear * shear], [0, 1]])
    inverse = np.linalg.inv((1 + settings.augment_scale * scale) * turn @ slant)
    shift = settings.augment_shift * np.array([across, down])
    return np.column_stack([inverse, np.array([(width - 1) / 2, (height - 1) / 2]) - inverse @ shift])


def resampled(image, transform, displacement):
    """A variant of an image with zeros around it; places are rounded to 1/128 pixel, and halves up."""
    (height, width), padded = image.shape, np.pad(image.astype(float), 2)
    rows, columns = np.mgrid[:height, :width]
    offsets = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2])
    places = np.tensordot(transform[:, :2], offsets, 1) + transform[:, 2, None, None] + displacement
    x, y = np.floor(128 * places + 0.5) / 128
    x, y = np.clip(x, -2, width), np.clip(y, -2, height)
    column, row = np.floor(x).astype(int) + 2, np.floor(y).astype(int) + 2
    right, below = x % 1, y % 1
    upper = (1 - right) * padded[row, column] + right * padded[row, column + 1]
    lower = (1 - right) * padded[row + 1, column] + right * padded[row + 1, column + 1]
    return np.floor((1 - below) * upper + below * lower + 0.5)


def thickened(image, share):
    """The image, and that share of the way to the brightest of each five pixels, or to the darkest."""
    (height, width), padded = image.shape, np.pad(image, 1)
    cross = [padded[y : y + height, x : x + width] for y, x in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))]
    target = np.max(cross, axis=0) if share > 0 else np.min(cross, axis=0)
    return np.floor(image + abs(share) * (target - image) + 0.5)


def gaussian_matrix(size, sigma):
    """Weights that add up to 1 over the distances of up to four standard deviations."""
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-j * j / (2 * sigma * sigma)) for j in range(-reach, reach + 1)]
    kernel = dict(zip(range(-reach, reach + 1), np.array(weights) / math.fsum(weights), strict=True))
    return np.array([[kernel.get(i - j, 0.0) for j in range(size)] for i in range(size)])


def documented_variant(image, index, epoch, settings, strength=256):
    """One variant as the docstrings describe it, from the pure Python generator of the sample's words."""
    height, width = image.shape
    uses = (reference.philox((use, index, epoch, 3), (SEED, 0)) for use in range(1, 10**9))
    stream = chain.from_iterable(uses)
    numbers = ((2 * (word >> 40) / 2**24 - 1) * strength / 256 for word in stream)
    transform = documented_transform(settings, height, width, *islice(numbers, 5))
    thickness = settings.augment_thickness * next(numbers) if settings.augment_thickness else 0.0
    noise = []
    while len(noise) < 2 * height * width:
        word = next(stream)
        quarters = [(word >> bits) & 0xFFFF for bits in (0, 16, 32, 48)]
        noise += [q - 2**16 if q >= 2**15 else q for q in quarters]
    noise = [number * strength // 256 for number in noise[: 2 * height * width]]
    noise = np.reshape(noise, (width, 2, height))
    across, down = (gaussian_matrix(size, augment.ELASTIC_SIGMA) for size in (width, height))
    amplitude = settings.augment_elastic_alpha / 2**15
    displacement = amplitude * np.einsum("xX,Xcy,yY->cYx", across, noise, down, optimize=True)
    return thickened(resampled(image, transform, displacement), math.floor(128 * thickness) / 128)


@pytest.mark.parametrize(
    ("size", "limits"),
    [((28, 28), ALL), ((7, 9), FAR), ((28, 28), THICK), ((7, 5), THICK), ((1, 1), THICK)],
    ids=str,
)
def test_variants_follow_from_the_documented_words(size, limits):
    rows, indices, fade = images(3, *size), [7, 12345, 3], augment.build_fade(2, 5)
    for epoch, strength in ((3, 256), (4, 170), (5, 85)):
        result = variants(OPS, limits, rows, indices, epoch, size, strength=fade)
        for row, image, index in zip(result, rows, indices, strict=True):
            variant = documented_variant(image.reshape(size), index, epoch, limits, strength)
            assert np.array_equal(row.reshape(size), variant)


def test_the_strength_falls_in_the_last_epochs_to_almost_nothing():
    strength = augment.build_fade(3, 8)
    assert [strength(epoch) for epoch in range(1, 11)] == [256] * 5 + [192, 128, 64, 64, 64]
    assert {augment.build_fade(0, 8)(epoch) for epoch in range(1, 11)} == {256}


def test_every_backend_gives_the_same_bytes(backend):
    rows, indices = images(64), np.arange(64)
    augment = build_augmenter(arithmetic(backend), THICK, 28, 28, SEED, backend.from_host)
    result = augment(backend.from_host(rows), indices, 1)
    assert_on_backend(result, backend)
    expected = variants(OPS, THICK, rows, indices, 1)
    np.testing.assert_array_equal(backend.to_host(result), expected, strict=True)


def test_native_arithmetic_agrees_within_a_grey_in_999_of_1000_pixels():
    rows, indices = datasets.load().x_test[:100], np.arange(100)
    expected = variants(OPS, ALL, rows, indices, 1).astype(int)
    actual = variants(arithmetic(NUMPY, Native, "float32"), ALL, rows, indices, 1)
    assert np.mean(np.abs(actual - expected) <= 1) > 0.999
