"""images.json: augmented images, and how one of their pixels comes about."""

import math

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, real, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.host import gaussian_matrix, sine_and_cosine
from xpnet.arithmetic.random import Purpose
from xpnet.config import TrainConfig
from xpnet.data.augment import ELASTIC_SIGMA, build_augmenter, build_smoother, build_warper, draw_distortions


def variant(device: Device, case: Content) -> Content:
    """Return an image, its variant, and the intermediate values of one of its pixels."""
    config = TrainConfig(**{name: real(value) for name, value in case["settings"].items()})
    image, ops, put = np.array(case["image"], np.uint8), device.ops, device.backend.from_host
    side, seed, epoch, index = len(image), int(case["seed"], 16), case["epoch"], np.array([case["index"]])
    augment = build_augmenter(ops, config, side, seed, put)
    result = device.get(augment(put(image.reshape(1, -1)), index, epoch)).reshape(side, side)

    transforms, noise, thickness = draw_distortions(config, side, seed, epoch, index)
    field = None
    if noise is not None:
        matrix = device.put(gaussian_matrix(side, config.augment_elastic_sigma or ELASTIC_SIGMA))
        smooth = build_smoother(ops, matrix, config.augment_elastic_alpha * random.NOISE_STEP)
        field = smooth(put(noise))
    warped = device.get(build_warper(ops, side)(put(image[None]), put(transforms), field))[0]

    row, column = case["pixel"]["row"], case["pixel"]["column"]
    words = random.words(seed, Purpose.AUGMENT, 6, epoch=epoch, index=case["index"])
    amounts = 2.0 * random.uniform(words) - 1.0
    theta = config.augment_rotate * amounts[2:3]
    sine, cosine = sine_and_cosine(theta)
    pixel: Content = {"row": row, "column": column, "words": word_texts(words[:5])}
    pixel |= {"r": hexadecimal(amounts[:5]), "degrees": hexadecimal(theta[0])}
    pixel |= {"sine": hexadecimal(sine[0]), "cosine": hexadecimal(cosine[0])}
    x, y = column - (side - 1) / 2, row - (side - 1) / 2
    corner, rest = [], []
    for axis, name in enumerate(("for the column", "for the row")):
        a, b, c = transforms[axis, 0].tolist()
        offset = {} if field is None else {"D": device.get(field)[axis, 0, row, column]}
        place = (offset.get("D", 0.0) + ((128.0 * a) * x + (128.0 * c + 128.5))) + (128.0 * b) * y
        values = {"a": a, "b": b, "c": c, "place": place, **offset}
        pixel[name] = {name: hexadecimal(value) for name, value in values.items()}
        whole = math.floor(min(max(place, 0.0), 128.0 * (side + 1)))
        corner.append(whole // 128 - 1)
        rest.append(whole % 128)
    left, top = corner
    pixel |= {
        "P at": [top, left],
        "P, R, P', R'": np.pad(image, 2)[top + 2 : top + 4, left + 2 : left + 4].ravel().tolist(),
        "fx, fy": rest,
        "value": int(warped[row, column]),
    }
    if thickness is not None:
        rows = np.array([row, row, row - 1, row + 1])
        columns = np.array([column - 1, column + 1, column, column])
        around = np.pad(warped, 1)[rows + 1, columns + 1]
        pixel["thickness"] = {
            "word": word_texts(words)[5],
            "r": hexadecimal(amounts[5]),
            "k": int(thickness[0]),
            "left, right, above, below": around.tolist(),
            "value": int(result[row, column]),
        }
    return {**case, "result": result.tolist(), "pixel": pixel}


def gaussian(case: Content) -> Content:
    """Return the first row of a matrix that smooths."""
    return {**case, "first row": hexadecimal(gaussian_matrix(case["side"], real(case["sigma"]))[0])}


def content(device: Device, file: Content) -> Content:
    """Return the entries of the file."""
    return {
        "G": [gaussian(case) for case in file["G"]],
        "variants": [variant(device, case) for case in file["variants"]],
    }
