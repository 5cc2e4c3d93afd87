"""Variants of images: those of the second implementation of the specification, and the same everywhere."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import reference_images
from assertions import assert_on_backend
from networks import arithmetic, reproducible

from xpnet.backends.resolve import make
from xpnet.config.settings import AugmentationSettings
from xpnet.data import augment, datasets

MOVED = AugmentationSettings(augment_shift=2, augment_rotate=15, augment_scale=0.15, augment_shear=0.15)
ALL = replace(MOVED, augment_elastic_alpha=34)
THICK = replace(ALL, augment_thickness=0.75)
FAR = AugmentationSettings(augment_shift=9, augment_rotate=180, augment_scale=0.9)
SEED = 3
NUMPY = make("numpy", "cpu")


def images(count, side=28):
    return np.random.default_rng(0).integers(0, 256, (count, side * side), np.uint8)


def variants(ops, settings, rows, indices, epoch, side=28, backend=NUMPY, **options):
    function = augment.build_augmenter(ops, settings, side, SEED, backend.from_host, **options)
    return function(backend.from_host(rows), np.asarray(indices), epoch)


@pytest.mark.parametrize(("side", "limits"), [(28, ALL), (9, FAR), (28, THICK), (7, THICK), (1, THICK)])
def test_variants_are_those_of_the_reference(side, limits):
    rows, indices, fade = images(2, side), [7, 12345], augment.build_fade(2, 5)
    settings = {**asdict(limits), "augment_fade_epochs": 2, "epochs": 5}
    for epoch in (3, 4, 6):
        result = variants(reproducible(NUMPY), limits, rows, indices, epoch, side, strength=fade)
        for row, image, index in zip(result, rows, indices, strict=True):
            drawn = reference_images.draw(settings, side, seed=SEED, epoch=epoch, index=index)
            expected = reference_images.variant_of(image.reshape(side, side).astype(int), settings, *drawn)
            assert np.array_equal(row.reshape(side, side), expected)


def test_every_backend_gives_the_same_bytes(backend):
    rows, indices = images(64), np.arange(64)
    result = variants(reproducible(backend), THICK, rows, indices, 1, backend=backend)
    assert_on_backend(result, backend)
    expected = variants(reproducible(NUMPY), THICK, rows, indices, 1)
    np.testing.assert_array_equal(backend.to_host(result), expected, strict=True)


def test_native_arithmetic_agrees_within_a_grey_in_999_of_1000_pixels():
    rows, indices = datasets.load().x_test[:100], np.arange(100)
    expected = variants(reproducible(NUMPY), ALL, rows, indices, 1).astype(int)
    actual = variants(arithmetic(NUMPY, "float32"), ALL, rows, indices, 1)
    assert np.mean(np.abs(actual - expected) <= 1) > 0.999
