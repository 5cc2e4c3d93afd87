"""random.json: random words, and what is made of them."""

from typing import Any

import numpy as np

from vectors.numbers import UNUSED, Content, Device, hexadecimal, hexadecimals, real, word, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.random import Purpose
from xpnet.config import TrainConfig
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize
from xpnet.nn.layers import Linear


def content(_: Device, file: Content) -> Content:
    """Return the file: everything here is drawn on the host, whatever the device."""
    return {
        "uses": [{**use, "words": philox(use)} for use in file["uses"]],
        "streams": [{**case, "words": stream(case)} for case in file["streams"]],
        "numbers": [[text, number(word(text))] for text, *_ in file["numbers"]],
        "orders": [{**case, "order": order(case)} for case in file["orders"]],
        "initial parameters": [{**case, **initial(case)} for case in file["initial parameters"]],
        "dropout": [{**case, **dropout(case)} for case in file["dropout"]],
        "validation samples": [{**case, **validation(case)} for case in file["validation samples"]],
        "test samples": [{**case, **test(case)} for case in file["test samples"]],
    }


def philox(use: Content) -> list[str]:
    """Return the four words of one use of Philox."""
    counter = sum(word(text) << 64 * place for place, text in enumerate(use["counter"]))
    key = sum(word(text) << 64 * place for place, text in enumerate(use["key"]))
    return word_texts(np.random.Philox(counter=(counter - 1) % 2**256, key=key).random_raw(4))


def stream(case: Content) -> list[str]:
    """Return eight words of a stream from a use on."""
    purpose = Purpose(case["purpose"]) if case["purpose"] else UNUSED
    place = {"epoch": word(case["epoch"]), "index": word(case["index"]), "skip": case["first c0"] - 1}
    return word_texts(random.words(word(case["seed"]), purpose, 8, **place))


def number(word: int) -> str:
    """Return the number u of a word."""
    return hexadecimal(random.uniform(np.array([word], dtype=np.uint64))[0])


def order(case: Content) -> list[int]:
    """Return the order of the samples in an epoch."""
    indices: list[int] = random.permutation(word(case["seed"]), case["samples"], epoch=case["epoch"]).tolist()
    return indices


def initial(case: Content) -> Content:
    """Return the initial weights and biases of each layer."""
    network = initialize(case["sizes"], word(case["seed"]), case["init"])
    layers = [layer for layer in network if isinstance(layer, Linear)]
    return {
        "weights": [hexadecimals(np.asarray(layer.weight)) for layer in layers],
        "biases": [hexadecimals(np.asarray(layer.bias)[:, 0] + 0.0) for layer in layers],
    }


def dropout(case: Content) -> Content:
    """Return the units that are dropped for each of some consecutive samples, as many as the file has."""
    layer, first, probability = case["index"], case["first sample"], real(case["probability"])
    sizes = [1] * layer + [case["units"]] + [1] * (3 - layer)
    share: dict[str, Any] = {"input_dropout" if layer == 0 else "hidden_dropout": probability}
    last = first + len(case["dropped"])
    masks = dropout_masks(Network(tuple(sizes), **share), word(case["seed"]), case["epoch"], first, last)
    kept = np.asarray(masks.inputs if layer == 0 else masks.hidden[layer - 1])
    return {
        "q": min(round(probability * 65536), 65535),
        "s": hexadecimal(dropout_scale(probability)),
        "dropped": [np.flatnonzero(~row).tolist() for row in kept],
    }


def validation(case: Content) -> Content:
    """Return the validation samples, by a share or a number, and the samples that remain."""
    setting = TrainConfig(validation=real(case["setting"]))
    return split(case, setting.validation_samples(case["samples"]), Purpose.SPLIT)


def test(case: Content) -> Content:
    """Return the test samples, by a share, and the samples that remain."""
    return split(case, round(case["samples"] * real(case["setting"])), Purpose.TEST_SPLIT)


def split(case: Content, held_out: int, purpose: Purpose) -> Content:
    """Return the positions that are held out, and those that remain."""
    remaining, positions = random.split(word(case["seed"]), case["samples"], held_out, purpose)
    return {"held out": positions.tolist(), "remaining": remaining.tolist()}
