"""images.json: augmented images, and how one of their pixels comes about."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectors.numbers import UNUSED, Device, hexadecimal, hexadecimals, word_text, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.host import gaussian_matrix, sine_and_cosine
from xpnet.arithmetic.random import Purpose
from xpnet.backends.base import Backend
from xpnet.config import TrainConfig
from xpnet.data.augment import (
    ELASTIC_SIGMA,
    STEPS,
    build_augmenter,
    build_smoother,
    compute_transforms,
    draw_distortions,
)

AFFINE = {"augment_shift": 1.5, "augment_rotate": 25.0, "augment_scale": 0.2, "augment_shear": 0.3}
GAUSSIANS = [(6, 0.5), (6, 1.0), (9, 0.1), (9, 2.0), (9, 4.0)]


@dataclass(frozen=True)
class Variant:
    """A variant of an image: settings, side, what the words depend on, and the pixel that is followed."""

    settings: dict[str, Any] = field(default_factory=dict)
    side: int = 6
    seed: int = 0
    epoch: int = 1
    index: int = 0
    row: int = 2
    column: int = 3


VARIANTS = [
    Variant({"augment_shift": 1.5}),
    Variant({"augment_rotate": 180.0}, epoch=2),
    Variant({"augment_scale": 0.5}, index=7, row=0, column=0),
    Variant({"augment_shear": 0.7}, seed=2**64 - 1),
    Variant(AFFINE, epoch=3, index=59_999),
    Variant(AFFINE, side=9, seed=4, row=8, column=1),
    Variant({"augment_elastic_alpha": 8.0, "augment_elastic_sigma": 1.0}),
    Variant({"augment_elastic_alpha": 34.0}, side=9, epoch=5, index=12),
    Variant({**AFFINE, "augment_elastic_alpha": 12.0, "augment_elastic_sigma": 2.0}, side=9, seed=2**63),
    Variant({**AFFINE, "augment_elastic_alpha": 3.0, "augment_elastic_sigma": 0.1}, seed=1, index=3),
    Variant({"augment_thickness": 1.0}, index=4),
    Variant({"augment_rotate": 25.0, "augment_thickness": 0.7}, row=0, column=5),
    Variant({**AFFINE, "augment_elastic_alpha": 12.0, "augment_thickness": 0.9}, side=9, epoch=2, index=6),
]


def image(side: int, index: int) -> NDArray[np.uint8]:
    """Return an image of 8-bit pixels, made of words of purpose 0 and seed 0."""
    words = random.words(0, UNUSED, side * side, index=400 + index)
    return (words % np.uint64(256)).astype(np.uint8).reshape(side, side)


def variant(device: Device, number: int, case: Variant) -> dict[str, Any]:
    """Return an image, its variant, and how a pixel of it comes about."""
    config, side, pixels = TrainConfig(**case.settings), case.side, image(case.side, number)
    put = device.backend.from_host
    augment = build_augmenter(device.ops, config, side, side, case.seed, put)
    rows = augment(put(pixels.reshape(1, -1)), np.array([case.index], dtype=np.int64), case.epoch)
    result = np.asarray(device.backend.to_host(rows)).reshape(side, side)
    pixel = follow(device, case, config, pixels)
    if config.augment_thickness > 0:
        pixel["thickness"] = thicken(device, case, config, pixels, pixel["value"])
    value, expected = pixel.get("thickness", pixel)["value"], result[case.row, case.column]
    if value != expected:
        msg = f"the pixel is {expected} on the device, and {value} by the formulas of the page"
        raise AssertionError(msg)
    return {
        "settings": {name: hexadecimal(value) for name, value in case.settings.items()},
        "seed": word_text(case.seed),
        "epoch": case.epoch,
        "index": case.index,
        "image": pixels.tolist(),
        "result": result.tolist(),
        "pixel": pixel,
    }


def follow(device: Device, case: Variant, config: TrainConfig, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the intermediate values of a pixel, and its value before its thickness changes."""
    side = case.side
    words = random.words(case.seed, Purpose.AUGMENT, 5, epoch=case.epoch, index=case.index)
    amounts = 2.0 * random.uniform(words) - 1.0
    theta = config.augment_rotate * amounts[2:3]
    sine, cosine = sine_and_cosine(theta)
    transforms = compute_transforms(config, side, side, amounts.reshape(1, 5))[:, 0, :].tolist()
    offsets = displacements(device, case, config)
    centred = [float(case.column) - (side - 1) / 2, float(case.row) - (side - 1) / 2]
    corner, rest, places = [], [], []
    for (a, b, c), offset in zip(transforms, offsets, strict=True):
        along = (128.0 * a) * centred[0] + (128.0 * c + 128.5)
        place = (along if offset is None else offset + along) + (128.0 * b) * centred[1]
        whole = math.floor(min(max(place, 0.0), 128.0 * (side + 1)))
        places.append(place)
        corner.append(whole // 128 - 1)
        rest.append(whole % 128)
    p, r, p_below, r_below = neighbours(pixels, *corner)
    upper, lower = p * 128 + (r - p) * rest[0], p_below * 128 + (r_below - p_below) * rest[0]
    value = (upper * 128 + (lower - upper) * rest[1] + 2**13) // 2**14
    steps: dict[str, Any] = {"row": case.row, "column": case.column, "words": word_texts(words)}
    steps |= {"r": hexadecimals(amounts), "degrees": hexadecimal(theta[0])}
    steps |= {"sine": hexadecimal(sine[0]), "cosine": hexadecimal(cosine[0])}
    for place, name in enumerate(("for the column", "for the row")):
        a, b, c = map(hexadecimal, transforms[place])
        steps[name] = {"a": a, "b": b, "c": c, "place": hexadecimal(places[place])}
        if offsets[place] is not None:
            steps[name]["D"] = hexadecimal(offsets[place])
    return {
        **steps,
        "P at": corner[::-1],
        "P, R, P', R'": [p, r, p_below, r_below],
        "fx, fy": rest,
        "value": value,
    }


def thicken(
    device: Device, case: Variant, config: TrainConfig, pixels: NDArray[np.uint8], value: int
) -> dict[str, Any]:
    """Return the intermediate values of a pixel whose value before its thickness changes is given."""
    word = random.words(case.seed, Purpose.AUGMENT, 6, epoch=case.epoch, index=case.index)[5:]
    amount = 2.0 * random.uniform(word) - 1.0
    k = math.floor(128.0 * (config.augment_thickness * float(amount[0])))
    row, column = case.row, case.column
    places = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
    around = [
        follow(device, replace(case, row=y, column=x), config, pixels)["value"]
        if 0 <= y < case.side and 0 <= x < case.side
        else 0
        for y, x in places
    ]
    contrast = max(value, *around) - value if k > 0 else value - min(value, *around)
    return {
        "word": word_texts(word)[0],
        "r": hexadecimal(amount[0]),
        "k": k,
        "left, right, above, below": around,
        "value": value + (contrast * k + 64) // 128,
    }


def displacements(device: Device, case: Variant, config: TrainConfig) -> list[Any]:
    """Return the displacements of the pixel across and down, in 1/128 pixel; None without deformation."""
    indices = np.array([case.index], dtype=np.int64)
    noise = draw_distortions(config, case.side, case.side, case.seed, case.epoch, indices).noise
    if noise is None:
        return [None, None]
    matrix = device.put(gaussian_matrix(case.side, config.augment_elastic_sigma or ELASTIC_SIGMA))
    smooth = build_smoother(device.ops, matrix, matrix, config.augment_elastic_alpha * random.NOISE_STEP)
    result: list[Any] = device.get(smooth(device.backend.from_host(noise)))[
        :, 0, case.row, case.column
    ].tolist()
    return result


def neighbours(pixels: NDArray[np.uint8], column: int, row: int) -> list[int]:
    """Return the pixel in a column and row, the one to its right, and the two below; 0 outside."""
    padded = np.pad(pixels.astype(int), 2)
    places = [(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)]
    return [int(padded[y + 2, x + 2]) for y, x in places]


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    if STEPS != 128:
        msg = f"the page has 128 steps a pixel, the code {STEPS}"
        raise AssertionError(msg)
    device = Device.of(backend)
    return {
        "G": [
            {
                "side": side,
                "sigma": hexadecimal(sigma),
                "first row": hexadecimals(gaussian_matrix(side, sigma)[0]),
            }
            for side, sigma in GAUSSIANS
        ],
        "variants": [variant(device, number, case) for number, case in enumerate(VARIANTS)],
    }
