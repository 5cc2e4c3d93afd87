"""images.json: augmented images, and how one of their pixels comes about."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectors.numbers import Content, Device, hexadecimal, hexadecimals, real, word, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.host import gaussian_matrix, sine_and_cosine
from xpnet.arithmetic.random import Purpose
from xpnet.config import TrainConfig
from xpnet.data.augment import (
    ELASTIC_SIGMA,
    STEPS,
    build_augmenter,
    build_smoother,
    compute_transforms,
    draw_distortions,
)

Pixels = NDArray[np.uint8]


class Variant:
    """A variant of an image, as an entry of the file has it: what it depends on, and a pixel of it."""

    def __init__(self, case: Content) -> None:
        self.config = TrainConfig(**{name: real(value) for name, value in case["settings"].items()})
        self.image = np.array(case["image"], np.uint8)
        self.side = len(self.image)
        self.seed, self.epoch, self.index = word(case["seed"]), case["epoch"], case["index"]
        self.row, self.column = case["pixel"]["row"], case["pixel"]["column"]

    def words(self, count: int) -> Any:
        """Return the random words of the image."""
        return random.words(self.seed, Purpose.AUGMENT, count, epoch=self.epoch, index=self.index)

    @property
    def indices(self) -> NDArray[np.int64]:
        """The index of the image, for a batch of one."""
        return np.array([self.index], dtype=np.int64)


def variant(device: Device, case: Content) -> Content:
    """Return an image, its variant, and how a pixel of it comes about."""
    one, put = Variant(case), device.backend.from_host
    augment = build_augmenter(device.ops, one.config, one.side, one.side, one.seed, put)
    rows = augment(put(one.image.reshape(1, -1)), one.indices, one.epoch)
    result = np.asarray(device.backend.to_host(rows)).reshape(one.side, one.side)
    pixel = follow(device, one, one.row, one.column)
    if one.config.augment_thickness > 0:
        pixel["thickness"] = thicken(device, one, pixel["value"])
    value, expected = pixel.get("thickness", pixel)["value"], result[one.row, one.column]
    if value != expected:
        msg = f"the pixel is {expected} on the device, and {value} by the formulas of the page"
        raise AssertionError(msg)
    return {**case, "result": result.tolist(), "pixel": pixel}


def follow(device: Device, one: Variant, row: int, column: int) -> Content:
    """Return the intermediate values of a pixel, and its value before its thickness changes."""
    side, words = one.side, one.words(5)
    amounts = 2.0 * random.uniform(words) - 1.0
    theta = one.config.augment_rotate * amounts[2:3]
    sine, cosine = sine_and_cosine(theta)
    transforms = compute_transforms(one.config, side, side, amounts.reshape(1, 5))[:, 0, :].tolist()
    offsets = displacements(device, one, row, column)
    centred = [float(column) - (side - 1) / 2, float(row) - (side - 1) / 2]
    corner, rest, places = [], [], []
    for (a, b, c), offset in zip(transforms, offsets, strict=True):
        along = (128.0 * a) * centred[0] + (128.0 * c + 128.5)
        place = (along if offset is None else offset + along) + (128.0 * b) * centred[1]
        whole = math.floor(min(max(place, 0.0), 128.0 * (side + 1)))
        places.append(place)
        corner.append(whole // 128 - 1)
        rest.append(whole % 128)
    p, r, p_below, r_below = neighbours(one.image, *corner)
    upper, lower = p * 128 + (r - p) * rest[0], p_below * 128 + (r_below - p_below) * rest[0]
    value = (upper * 128 + (lower - upper) * rest[1] + 2**13) // 2**14
    steps: Content = {"row": row, "column": column, "words": word_texts(words)}
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


def thicken(device: Device, one: Variant, value: int) -> Content:
    """Return the intermediate values of a pixel whose value before its thickness changes is given."""
    word = one.words(6)[5:]
    amount = 2.0 * random.uniform(word) - 1.0
    k = math.floor(128.0 * (one.config.augment_thickness * float(amount[0])))
    row, column = one.row, one.column
    places = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
    around = [
        follow(device, one, y, x)["value"] if 0 <= y < one.side and 0 <= x < one.side else 0
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


def displacements(device: Device, one: Variant, row: int, column: int) -> list[Any]:
    """Return the displacements of a pixel across and down, in 1/128 pixel; None without deformation."""
    noise = draw_distortions(one.config, one.side, one.side, one.seed, one.epoch, one.indices).noise
    if noise is None:
        return [None, None]
    matrix = device.put(gaussian_matrix(one.side, one.config.augment_elastic_sigma or ELASTIC_SIGMA))
    smooth = build_smoother(device.ops, matrix, matrix, one.config.augment_elastic_alpha * random.NOISE_STEP)
    smoothed = device.get(smooth(device.backend.from_host(noise)))
    result: list[Any] = smoothed[:, 0, row, column].tolist()
    return result


def neighbours(pixels: Pixels, column: int, row: int) -> list[int]:
    """Return the pixel in a column and row, the one to its right, and the two below; 0 outside."""
    padded = np.pad(pixels.astype(int), 2)
    places = [(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)]
    return [int(padded[y + 2, x + 2]) for y, x in places]


def gaussian(case: Content) -> Content:
    """Return the first row of a matrix that smooths."""
    return {**case, "first row": hexadecimals(gaussian_matrix(case["side"], real(case["sigma"]))[0])}


def content(device: Device, file: Content) -> Content:
    """Return the file."""
    if STEPS != 128:
        msg = f"the page has 128 steps a pixel, the code {STEPS}"
        raise AssertionError(msg)
    return {
        "G": [gaussian(case) for case in file["G"]],
        "variants": [variant(device, case) for case in file["variants"]],
    }
