"""Variants of images: the documented formulas, closed forms, and the same bytes everywhere."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
import reference
from assertions import assert_on_backend, assert_same

from xpnet.arithmetic import Native, Reproducible, host, random
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.config.augmentation import Augmentation
from xpnet.data import distort
from xpnet.data.augment import build_augmenter, square_side
from xpnet.data.resample import build_smoother, build_warper
from xpnet.errors import ConfigError

ALL = Augmentation(shift=2, rotate=15, scale=0.15, shear=0.15, elastic_alpha=34, elastic_sigma=4)
AFFINE = replace(ALL, elastic_alpha=0.0)
SEED = 3
KINDS = {
    "reproducible": (Reproducible, "float64"),
    "native float64": (Native, "float64"),
    "native float32": (Native, "float32"),
}


def arithmetic(backend, kind="reproducible"):
    made, dtype = KINDS[kind]
    return made(backend.xp, backend.device, getattr(backend.xp, dtype))


@pytest.fixture
def numpy():
    return make("numpy", "cpu")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def strokes(count, height=28, width=28, seed=0):
    """Smooth images (count, height · width) with edges and a dark background, a little like digits."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = generator.uniform(0.35, 0.65, (2, count, 1, 1)) * [[[[height]]], [[[width]]]]
    radius = generator.uniform(0.2, 0.35, (count, 1, 1)) * min(height, width)
    distance = np.hypot(y - centre[0], x - centre[1])
    bright = 300.0 - 120.0 * np.abs(distance - radius)
    return np.clip(bright, 0, 255).astype(np.uint8).reshape(count, -1)


def variants(backend, augmentation, rows, indices, epoch, **options):
    """Variants as NumPy; options are kind, size, seed and chunk."""
    ops = arithmetic(backend, options.pop("kind", "reproducible"))
    height, width = options.pop("size", (28, 28))
    seed = options.pop("seed", SEED)
    augment = build_augmenter(ops, augmentation, height, width, seed, backend.from_host, **options)
    result = augment(backend.from_host(rows), np.asarray(indices), epoch)
    assert_on_backend(result, backend)
    return backend.to_host(result)


def warped(backend, images, transforms, displacements=None, kind="reproducible"):
    """Images (m, height, width) resampled on a backend; displacements are in pixels."""
    ops = arithmetic(backend, kind)
    warp = build_warper(ops, *images.shape[1:])
    if displacements is not None:
        steps = (displacements * 128.0).astype(KINDS[kind][1])
        displacements = backend.from_host(steps)
    result = warp(backend.from_host(images), backend.from_host(transforms), displacements)
    assert_on_backend(result, backend)
    return backend.to_host(result)


def transforms_of(matrices, size, shifts=(0.0, 0.0)):
    """(2, m, 3) transforms of (m, 2, 2) backward matrices about the centre, then a backward shift."""
    matrices = np.asarray(matrices, dtype=float)
    centre = (np.array(size[::-1]) - 1) / 2
    offsets = np.broadcast_to(centre + np.asarray(shifts), (len(matrices), 2))
    return np.concatenate([np.moveaxis(matrices, 1, 0), offsets.T[:, :, None]], axis=2)


# Settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shift", -1, "--augment-shift: expected a number from 0 to 1000 (pixels), got -1"),
        ("shift", math.nan, "--augment-shift: expected a number from 0 to 1000 (pixels), got NaN"),
        ("rotate", 181, "--augment-rotate: expected a number from 0 to 180 (degrees), got 181"),
        ("rotate", True, "--augment-rotate: expected a number from 0 to 180 (degrees), got true"),
        ("scale", 1.0, "--augment-scale: expected a number from 0 to 0.9 (a share of the size)"),
        ("shear", math.inf, "--augment-shear: expected a number from 0 to 10 (pixels sideways"),
        ("elastic_alpha", "3", "--augment-elastic-alpha: expected a number from 0 to 10000"),
        ("elastic_sigma", 0.0, "--augment-elastic-sigma: expected a number from 0.1 to 100"),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_its_flag(name, value, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{f"augment_{name}": value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["shift", "rotate", "scale", "shear", "elastic_alpha"])
def test_any_amount_enables_augmentation(name):
    assert Augmentation(**{name: 0.5}).enabled


def test_no_amount_or_a_sigma_alone_enables_nothing():
    assert not Augmentation().enabled
    assert not Augmentation(elastic_sigma=2).enabled


def test_images_are_square_and_of_pixels():
    assert square_side(784, pixels=True) == 28
    with pytest.raises(ConfigError, match="785 features make no square"):
        square_side(785, pixels=True)
    with pytest.raises(ConfigError, match="the data hold decimals"):
        square_side(784, pixels=False)


# Random numbers


def test_each_sample_has_the_words_of_its_own_stream():
    indices = np.array([5, 0, 2**62, 5, 59_999])
    for count in (1, 4, 7, 397):
        drawn = random.words_per_index(2**64 - 1, random.Purpose.AUGMENT, count, epoch=9, indices=indices)
        for row, index in zip(drawn, indices.tolist(), strict=True):
            expected = random.words(2**64 - 1, random.Purpose.AUGMENT, count, epoch=9, index=index)
            assert np.array_equal(row, expected)


def draw(count, augmentation=ALL, epoch=1):
    return distort.draw_distortions(augmentation, 28, 28, SEED, epoch, np.arange(count))


def test_noise_is_uniform_from_minus_one_to_one_and_uncorrelated():
    noise = draw(500).noise * distort.NOISE_STEP
    assert noise.shape == (28, 2, 500, 28)
    assert noise.min() >= -1
    assert noise.max() < 1
    n = noise.size
    assert abs(noise.mean()) < 5 / math.sqrt(3 * n)
    assert abs(np.mean(noise**2) - 1 / 3) < 5 * math.sqrt(4 / 45 / n)
    histogram = np.bincount(((noise.ravel() + 1) * 8).astype(int), minlength=16)
    assert np.sum((histogram - n / 16) ** 2) / (n / 16) < 45  # chi squared, 15 degrees of freedom
    for axis in range(4):
        product = noise * np.roll(noise, 1, axis=axis)
        assert abs(product.mean()) < 5 / 3 / math.sqrt(n)


def test_amounts_are_uniform_and_the_same_with_and_without_elastic_deformation():
    count = 4000
    only_shift = Augmentation(shift=3)
    offsets = draw(count, only_shift).transforms[:, :, 2] - 13.5
    assert np.abs(offsets).max() <= 3
    assert np.all(np.abs(offsets.mean(axis=1)) < 5 * 3 / math.sqrt(3 * count))
    assert np.allclose((offsets**2).mean(axis=1), 3, rtol=0.1)
    assert abs(np.mean(offsets[0] * offsets[1])) < 5 * 3 / math.sqrt(count)
    with_elastic = draw(count, replace(only_shift, elastic_alpha=34.0)).transforms
    assert np.array_equal(with_elastic[:, :, 2] - 13.5, offsets)


# Geometry


def test_sine_and_cosine():
    degrees = np.random.default_rng(0).uniform(-180, 180, 20_000)
    sine, cosine = host.sine_and_cosine(degrees)
    radians = [math.radians(angle) for angle in degrees]
    np.testing.assert_allclose(sine, np.sin(radians), rtol=0, atol=7e-16)
    np.testing.assert_allclose(cosine, np.cos(radians), rtol=0, atol=7e-16)
    np.testing.assert_allclose(sine**2 + cosine**2, 1, rtol=0, atol=7e-16)


def test_sine_and_cosine_of_right_angles_are_exact():
    sine, cosine = host.sine_and_cosine(np.array([-180.0, -90.0, 0.0, 90.0, 180.0]))
    assert sine.tolist() == [0, -1, 0, 1, 0]
    assert cosine.tolist() == [-1, 0, 1, 0, -1]


def test_transforms_invert_slant_scale_rotation_and_shift():
    settings = Augmentation(shift=4, rotate=170, scale=0.5, shear=0.8)
    amounts = np.random.default_rng(0).uniform(-1, 1, (50, 5))
    actual = distort.compute_transforms(settings, 20, 30, amounts)
    for i, (across, down, rotation, scale, shear) in enumerate(amounts):
        angle = math.radians(170 * rotation)
        turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        slant = np.array([[1, -0.8 * shear], [0, 1]])
        forward = (1 + 0.5 * scale) * np.array(turn) @ slant
        source = np.array([3.0, -7.0])  # from the centre
        target = forward @ source + 4 * np.array([across, down])
        column, row = actual[:, i, :2] @ target + actual[:, i, 2]
        assert (column, row) == pytest.approx((source[0] + 14.5, source[1] + 9.5), abs=1e-12)


def test_a_right_angle_turns_counter_clockwise(backend, kind):
    images = strokes(5, 12, 12).reshape(-1, 12, 12)
    for angle, turns in ((90.0, 1), (180.0, 2)):
        amounts = np.tile([0.0, 0.0, 1.0, 0.0, 0.0], (5, 1))
        transforms = distort.compute_transforms(Augmentation(rotate=angle), 12, 12, amounts)
        expected = np.rot90(images, turns, axes=(1, 2))
        assert np.array_equal(warped(backend, images, transforms, kind=kind), expected)


def shifted(images, right, down):
    """Whole-pixel shift with zeros moving in."""
    m, height, width = images.shape
    room = np.zeros((m, 3 * height, 3 * width), np.uint8)
    top, left = height + down, width + right
    if 0 <= top <= 2 * height and 0 <= left <= 2 * width:
        room[:, top : top + height, left : left + width] = images
    return room[:, height : 2 * height, width : 2 * width]


@pytest.mark.parametrize(
    ("right", "down"),
    [(0, 0), (1, 0), (0, -1), (-3, 2), (8, 5), (9, 0), (0, 7), (-9, -7), (500, 0), (3, -1000)],
)
def test_whole_shifts_move_pixels_unchanged(backend, kind, right, down):
    images = np.random.default_rng(0).integers(0, 256, (4, 7, 9), dtype=np.uint8)
    transforms = transforms_of([np.eye(2)] * 4, (7, 9), (-right, -down))
    result = warped(backend, images, transforms, kind=kind)
    assert np.array_equal(result, shifted(images, right, down))
    displacements = np.zeros((2, 4, 7, 9)) - np.reshape([right, down], (2, 1, 1, 1))
    still = transforms_of([np.eye(2)] * 4, (7, 9))
    assert np.array_equal(warped(backend, images, still, displacements, kind), result)


def test_zero_amounts_return_the_bytes(backend, kind):
    rows = np.random.default_rng(0).integers(0, 256, (40, 784), dtype=np.uint8)
    result = variants(backend, Augmentation(), rows, np.arange(40), 1, kind=kind)
    assert np.array_equal(result, rows)


# Interpolation


def bilinear(image, column, row):
    """The value between pixels, with zeros outside."""
    height, width = image.shape
    x, y = math.floor(column), math.floor(row)
    value = 0.0
    for k, across in ((x, 1 - (column - x)), (x + 1, column - x)):
        for j, down in ((y, 1 - (row - y)), (y + 1, row - y)):
            if 0 <= k < width and 0 <= j < height:
                value += across * down * float(image[j, k])
    return value


def resampled(image, transform, displacement, rounded):
    """A variant of one image, pixel by pixel; places are rounded to 1/128 pixel on request."""
    height, width = image.shape
    result = np.empty((height, width))
    for j in range(height):
        for k in range(width):
            position = [k - (width - 1) / 2, j - (height - 1) / 2, 1.0]
            column, row = (
                math.fsum(a * b for a, b in zip(line, position, strict=True)) + displacement[c, j, k]
                for c, line in enumerate(transform)
            )
            if rounded:
                column, row = (math.floor(128 * number + 0.5) / 128 for number in (column, row))
            result[j, k] = bilinear(image, column, row)
    return result


def random_warps(size, seed=0):
    generator = np.random.default_rng(seed)
    height, width = size
    images = generator.integers(0, 256, (6, height, width), dtype=np.uint8)
    matrices = np.eye(2) + generator.normal(scale=0.3, size=(6, 2, 2))
    transforms = transforms_of(matrices, size, generator.normal(scale=2, size=(6, 2)))
    return images, transforms, generator.normal(scale=1.5, size=(2, 6, height, width))


@pytest.mark.parametrize("size", [(28, 28), (5, 9), (8, 3), (1, 1), (1, 6)], ids=str)
def test_pixels_are_interpolated_between_places_rounded_to_a_128th(backend, size):
    images, transforms, displacements = random_warps(size)
    result = warped(backend, images, transforms, displacements)
    for i, image in enumerate(images):
        exact = resampled(image, transforms[:, i], displacements[:, i], rounded=True)
        assert np.array_equal(result[i], np.floor(exact + 0.5))


def test_rounded_places_change_a_pixel_by_two_greys_at_most(numpy):
    images, transforms, displacements = random_warps((28, 28))
    result = warped(numpy, images, transforms, displacements)
    for i, image in enumerate(images):
        true = resampled(image, transforms[:, i], displacements[:, i], rounded=False)
        difference = np.abs(result[i] - true)
        assert difference.max() < 2.5
        assert difference.mean() < 0.5


def test_white_stays_white(backend, kind):
    images = np.full((6, 20, 20), 255, np.uint8)
    generator = np.random.default_rng(0)
    transforms = transforms_of(generator.uniform(-0.4, 0.4, (6, 2, 2)), (20, 20))
    displacements = generator.uniform(-1, 1, (2, 6, 20, 20))  # all from inside the images
    assert np.all(warped(backend, images, transforms, displacements, kind) == 255)


# Elastic deformation


def gaussian(distance, sigma):
    """The weight at a distance, of weights that add up to 1 up to four standard deviations."""
    reach = int(4 * sigma + 0.5)
    weight = [math.exp(-j * j / (2 * sigma * sigma)) for j in range(-reach, reach + 1)]
    return weight[reach + distance] / math.fsum(weight) if abs(distance) <= reach else 0.0


@pytest.mark.parametrize("size", [1, 5, 28, 60])
@pytest.mark.parametrize("sigma", [0.1, 0.12, 0.7, 4, 6.3, 100.0])
def test_gaussian_matrix(size, sigma):
    expected = [[gaussian(i - j, sigma) for j in range(size)] for i in range(size)]
    np.testing.assert_allclose(host.gaussian_matrix(size, sigma), expected, rtol=1e-13)


def test_gaussian_weights_add_up_to_one_away_from_the_edges():
    matrix = host.gaussian_matrix(40, 4.0)
    np.testing.assert_allclose(matrix.sum(axis=1)[16:24], 1, rtol=1e-15)
    assert np.all(matrix.sum(axis=1)[:16] < 1)
    assert np.array_equal(matrix, matrix.T)


def filtered(noise, sigma, amplitude):
    """The displacements (2, m, height, width) in pixels of noise (width, 2, m, height)."""
    width, _, _, height = noise.shape
    across, down = (
        np.array([[gaussian(i - j, sigma) for j in range(size)] for i in range(size)])
        for size in (width, height)
    )
    return amplitude * np.einsum("xX,Xcmy,yY->cmYx", across, noise, down, optimize=True)


@pytest.mark.parametrize("size", [(28, 28), (9, 6), (1, 5)], ids=str)
def test_displacements_are_filtered_noise(backend, kind, size):
    height, width = size
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (width, 2, 3, height), np.int16)
    matrices = (backend.from_host(host.gaussian_matrix(n, 2.0)) for n in (width, height))
    smooth = build_smoother(arithmetic(backend, kind), *matrices, 34.0 * 2.0**-15)
    steps = smooth(backend.from_host(noise))
    expected = 128 * filtered(noise, 2.0, 34.0 * 2.0**-15)
    assert_same(steps, expected.astype(KINDS[kind][1]), backend, atol=2e-3)


def test_displacements_have_the_stated_mean_and_deviation(numpy):
    noise = distort.draw_distortions(ALL, 40, 40, SEED, 1, np.arange(3000)).noise
    across, down = ([gaussian(position - i, 4.0) for i in range(40)] for position in (20, 19))
    field = 34.0 * distort.NOISE_STEP * np.einsum("x,xcmy,y->cm", across, noise, down, optimize=True)
    deviation = 0.163 * 34 / 4
    assert field.std() == pytest.approx(deviation, rel=0.05)
    assert abs(field.mean()) < 5 * deviation / math.sqrt(field.size)
    assert abs(np.mean(field[0] * field[1])) < 5 * deviation**2 / math.sqrt(field.size / 2)


# The whole, from the documented words on


def words(index, epoch):
    """The words of a sample's stream, from the pure Python generator."""
    uses = (reference.philox((use, index, epoch, 3), (SEED, 0)) for use in range(1, 10**9))
    return chain.from_iterable(uses)


def documented_variant(image, index, epoch, settings):
    """One variant as the docstrings describe it."""
    height, width = image.shape
    stream = words(index, epoch)
    amounts = [2 * (word >> 40) / 2**24 - 1 for word in islice(stream, 5)]
    transform = distort.compute_transforms(settings, height, width, np.array([amounts]))[:, 0]
    noise = []
    while len(noise) < 2 * height * width:
        word = next(stream)
        quarters = [(word >> bits) & 0xFFFF for bits in (0, 16, 32, 48)]
        noise += [q - 2**16 if q >= 2**15 else q for q in quarters]
    noise = np.reshape(noise[: 2 * height * width], (width, 2, 1, height))
    amplitude = settings.elastic_alpha / 2**15
    displacement = filtered(noise, settings.elastic_sigma, amplitude)[:, 0]
    return np.floor(resampled(image, transform, displacement, rounded=True) + 0.5)


@pytest.mark.parametrize("size", [(28, 28), (7, 5)], ids=str)
def test_variants_follow_from_the_documented_words(backend, size):
    rows = strokes(3, *size)
    result = variants(backend, ALL, rows, [7, 0, 12345], 4, size=size)
    for row, image, index in zip(result, rows, [7, 0, 12345], strict=True):
        expected = documented_variant(image.reshape(size), index, 4, ALL)
        assert np.array_equal(row.reshape(size), expected)


# What a variant depends on


@pytest.mark.parametrize("augmentation", [ALL, AFFINE], ids=["elastic", "affine"])
def test_variants_depend_on_neither_batch_nor_order_nor_chunk(backend, augmentation):
    rows, indices = strokes(20), np.arange(1000, 1020)
    whole = variants(backend, augmentation, rows, indices, 2)
    order = np.random.default_rng(0).permutation(20)
    mixed = variants(backend, augmentation, rows[order], indices[order], 2, chunk=10)
    assert np.array_equal(mixed, whole[order])
    part = variants(backend, augmentation, rows[3:13], indices[3:13], 2, chunk=1000)
    assert np.array_equal(part, whole[3:13])


def test_variants_change_with_epoch_seed_and_index(numpy):
    rows = np.tile(strokes(1), (6, 1))
    first = variants(numpy, ALL, rows, np.arange(6), 1)
    assert len({row.tobytes() for row in first}) == 6
    for changed in (
        variants(numpy, ALL, rows, np.arange(6), 2),
        variants(numpy, ALL, rows, np.arange(6), 1, seed=SEED + 1),
        variants(numpy, ALL, rows, np.arange(6) + 6, 1),
    ):
        assert not any(np.array_equal(a, b) for a, b in zip(first, changed, strict=True))


def test_one_function_serves_several_threads(numpy):
    rows = strokes(64)
    augment = build_augmenter(arithmetic(numpy), ALL, 28, 28, SEED, numpy.from_host, 8)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda epoch: augment(rows, np.arange(64), epoch), [1, 2] * 8))
    for result, epoch in zip(results, [1, 2] * 8, strict=True):
        assert np.array_equal(result, variants(numpy, ALL, rows, np.arange(64), epoch))


# The same bytes everywhere

GOLDEN = "00d00cf33420ba1c80f8a5a7c8be007f2b9b3a2e3191f87fa6fc2f36e6909efd"


def test_reproducible_arithmetic_gives_the_same_bytes_on_every_backend(backend):
    drawn = random.words(0, random.Purpose.AUGMENT, 64 * 98)
    pixels = drawn.astype("<u8").view(np.uint8).reshape(64, 784)
    result = variants(backend, ALL, pixels, np.arange(64), 1)
    assert hashlib.sha256(result.tobytes()).hexdigest() == GOLDEN


@pytest.mark.parametrize("native", ["native float32", "native float64"])
def test_native_arithmetic_agrees_within_a_grey_in_999_of_1000_pixels(backend, numpy, native):
    rows, indices = strokes(200), np.arange(200)
    expected = variants(numpy, ALL, rows, indices, 1).astype(int)
    actual = variants(backend, ALL, rows, indices, 1, kind=native)
    assert np.mean(np.abs(actual - expected) <= 1) > 0.999
    assert np.mean(actual == expected) > 0.99


def test_nothing_is_read_back_from_the_device():
    pytest.importorskip("torch")
    meta = make("torch", "meta")  # its arrays hold no numbers: reading one is an error
    ops = arithmetic(meta)
    augment = build_augmenter(ops, ALL, 28, 28, SEED, meta.from_host, 10)
    result = augment(meta.from_host(strokes(25)), np.arange(25), 1)
    assert result.shape == (25, 784)
    assert result.dtype == meta.xp.uint8
    assert result.device.type == "meta"
