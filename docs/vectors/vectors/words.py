"""random.json: random words, and what is made of them."""

from typing import Any

import numpy as np

from vectors.numbers import UNUSED, Content, Device, hexadecimal, real, word_texts
from xpnet.arithmetic import random
from xpnet.arithmetic.random import Purpose
from xpnet.config import TrainConfig
from xpnet.nn.architecture import Network
from xpnet.nn.dropout import dropout_masks, dropout_scale
from xpnet.nn.init import initialize
from xpnet.nn.layers import Linear


def content(_: Device, file: Content) -> Content:
    """Return the entries of the file: all is drawn on the host, whatever the device."""
    words = np.array([int(text, 16) for text, _ in file["numbers"]], dtype=np.uint64)
    numbers = zip(word_texts(words), hexadecimal(random.uniform(words)), strict=True)
    computed = {
        "uses": philox,
        "streams": stream,
        "orders": order,
        "initial parameters": initial,
        "dropout": dropout,
        "validation samples": validation,
        "test samples": test,
    }
    cases = {name: [{**case, **each(case)} for case in file[name]] for name, each in computed.items()}
    return {**cases, "numbers": [list(pair) for pair in numbers]}


def philox(use: Content) -> Content:
    """Return the four words of one use of Philox."""
    counter = sum(int(text, 16) << 64 * place for place, text in enumerate(use["counter"]))
    key = sum(int(text, 16) << 64 * place for place, text in enumerate(use["key"]))
    return {"words": word_texts(np.random.Philox(counter=(counter - 1) % 2**256, key=key).random_raw(4))}


def stream(case: Content) -> Content:
    """Return eight words of a stream from a use on."""
    purpose = Purpose(case["purpose"]) if case["purpose"] else UNUSED
    seed, epoch, index = (int(case[name], 16) for name in ("seed", "epoch", "index"))
    words = random.words(seed, purpose, 8, epoch=epoch, index=index, skip=case["first c0"] - 1)
    return {"words": word_texts(words)}


def order(case: Content) -> Content:
    """Return the order of the samples in an epoch."""
    order = random.permutation(int(case["seed"], 16), case["samples"], epoch=case["epoch"])
    return {"order": order.tolist()}


def initial(case: Content) -> Content:
    """Return the initial weights and biases of each layer."""
    network = initialize(case["sizes"], int(case["seed"], 16), case["init"])
    layers = [layer for layer in network if isinstance(layer, Linear)]
    return {
        "weights": [hexadecimal(np.asarray(layer.weight)) for layer in layers],
        "biases": [hexadecimal(np.asarray(layer.bias)[:, 0] + 0.0) for layer in layers],
    }


def dropout(case: Content) -> Content:
    """Return the units that are dropped for each of some consecutive samples, as many as the file has."""
    layer, first, probability = case["index"], case["first sample"], real(case["probability"])
    sizes = [1] * layer + [case["units"]] + [1] * (3 - layer)
    share: dict[str, Any] = {"input_dropout" if layer == 0 else "hidden_dropout": probability}
    network, last = Network(tuple(sizes), **share), first + len(case["dropped"])
    masks = dropout_masks(network, int(case["seed"], 16), case["epoch"], first, last)
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
    remaining, positions = random.split(int(case["seed"], 16), case["samples"], held_out, purpose)
    return {"held out": positions.tolist(), "remaining": remaining.tolist()}
