"""Trainings by docs/reproducibility.md, written from that page alone: sections 10 and 11, and 4.2 to 4.5.

``fit`` trains as an entry of docs/vectors/trainings.json says. Left out is what its entries do not use, such
as missing values, ``init_from`` and extensions; and numbers that are not finite.
"""

import math
import operator
from collections.abc import Sequence
from functools import reduce
from itertools import compress, islice
from typing import Any, NamedTuple

from reference import (
    DROPOUT,
    NOISE,
    ORDER,
    VALIDATION,
    Matrix,
    Vector,
    block_bounds,
    count_validation_samples,
    dropout_threshold,
    fingerprint_of,
    folded_sum,
    gradients,
    initial_layer,
    product,
    short_integers,
    signed,
    sorted_words,
    split,
    tiny,
    tree_sum,
    uniform,
    words,
)
from reference_images import is_augmented, variant
from reference_network import (
    ACTIVATIONS,
    LOSSES,
    Layer,
    Network,
    Normalised,
    add_bias,
    balance,
    batch_norm,
    batch_norm_backward,
    batch_norm_evaluation,
    elementwise,
    feature,
    normalisation,
    normalised,
    softmax,
    targets,
    transpose,
    update_statistics,
    weight_factors,
    weights_of,
)
from reference_optimisers import Optimiser, Settings, learning_rate

NOTHING: tuple[list[float], ...] = ([], [], [], [])
"""dgamma, dbeta, S and Q of a layer without batch normalisation."""


class Passed(NamedTuple):
    """What the backward pass of a hidden layer takes."""

    z: Matrix
    a: Matrix
    kept: list[list[bool]]
    normalised: list[Normalised]


class Data(NamedTuple):
    """Training and test samples."""

    pixels: bool
    x: list[Vector]
    labels: list[int]
    x_test: list[Vector]
    labels_test: list[int]
    classes: int


class Training:
    """A training of a network on samples (9 to 11)."""

    def __init__(self, settings: Settings, data: Data, weights: list[float] | None = None) -> None:
        self._settings, self._data = settings, data
        self._weights = [1.0] * len(data.x) if weights is None else weights
        self._seed = settings["seed"]
        held_out = count_validation_samples(settings["validation"], len(data.x))
        self.held_out, self._positions = split(VALIDATION, len(data.x), held_out, self._seed)
        self._samples = len(self._positions)
        x, labels = ([each[i] for i in self._positions] for each in (data.x, data.labels))
        self._shift, self._scale = normalisation(settings["normalize"], x, pixels=data.pixels)
        self._integers = data.pixels and self._shift == 0
        self._balanced = settings["class_weight"] == "balanced"
        self._factors = list[float]()
        if self._balanced or weights is not None:
            w = [self._weights[i] for i in self._positions]
            self._factors = weight_factors(labels, w, balanced=self._balanced)
        self._best_by = settings["best_by"]
        if self._best_by == "auto":
            self._best_by = "weighted-accuracy" if self._factors else "accuracy"
        self.sizes = [len(data.x[0]), *settings["hidden"], data.classes]
        self._activation, self._derivative = ACTIVATIONS[settings["activation"]]
        self._loss, self._loss_backward = LOSSES[settings["loss"]]
        self.network = [self._initial(i) for i in range(len(self.sizes) - 1)]
        self._optimiser = Optimiser(settings, self.network)
        self._batch_size = self._reduced(settings["batch_size"])
        self._order_of_full_batch = self._order(0)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the present network (13)."""
        return fingerprint_of(rows_of(self.network))

    def _initial(self, index: int) -> Layer:
        units, seed, init = self.sizes[index + 1], self._seed, self._settings["init"]
        weight, bias = initial_layer(index, self.sizes[index], units, seed, init)
        number = units if self._settings["batch_norm"] and index + 2 < len(self.sizes) else 0
        return Layer(weight, bias, [1.0] * number, [0.0] * number, [0.0] * number, [1.0] * number)

    def _reduced(self, size: int | str) -> int:
        """Return N, or 0 for a full batch (10.1)."""
        if size == "full":
            return 0
        size = min(int(size), self._samples)
        while self._settings["batch_norm"] and size > 1 and self._samples % size == 1:
            size += 1
        return size

    def _order(self, epoch: int) -> list[int]:
        """Return the positions of the samples in the order in which they are visited (4.4)."""
        return sorted_words(ORDER, self._samples, epoch=epoch, seed=self._seed)

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """Return the batches of an epoch, with number in the epoch and position of each sample (10.1)."""
        order = self._order(epoch) if self._batch_size else self._order_of_full_batch
        visited = list(enumerate(order))
        size = self._batch_size or self._samples
        return [visited[start : start + size] for start in range(0, self._samples, size)]

    # Inputs

    def _normalised(self, x: Vector) -> list[float]:
        return normalised(x, self._shift, self._scale)

    def _inputs(self, samples: Sequence[tuple[int, int]], epoch: int) -> tuple[list[Vector], float | None]:
        """Return the inputs of samples in training, and the factor of pixels as integers (9.1, 9.4)."""
        settings, data = self._settings, self._data
        dropout, noise = settings["input_dropout"], settings["input_noise"]
        integers = self._integers and not noise
        s = dropout_threshold(dropout)[1] if dropout else 1.0
        columns = list[Vector]()
        for number, position in samples:
            index = self._positions[position]
            x = data.x[index]
            if is_augmented(settings):
                x = variant(x, settings, seed=self._seed, epoch=epoch, index=index)
            x = x if integers else self._normalised(x)
            if dropout:
                kept = self._kept(0, number, epoch, len(x), dropout)
                x = [v * (1 if integers else s) if keep else 0 for v, keep in zip(x, kept, strict=True)]
            if noise:
                n = short_integers(NOISE, index=0, epoch=epoch, seed=self._seed, number=number, units=len(x))
                x = [v + signed(each) * (noise * 2.0**-15) for v, each in zip(x, n, strict=True)]
            columns.append(x)
        if not integers:
            return columns, None
        return columns, s * self._scale if dropout else self._scale

    def _kept(self, layer: int, number: int, epoch: int, units: int, probability: float) -> list[bool]:
        """Return which units of a layer are kept for the sample visited as this number (4.5)."""
        q, _ = dropout_threshold(probability)
        n = short_integers(DROPOUT, index=layer, epoch=epoch, seed=self._seed, number=number, units=units)
        return [each >= q for each in n]

    # A step

    def _block(self, samples: Sequence[tuple[int, int]], epoch: int) -> Network:
        """Return the gradients of a block, and S and Q (9)."""
        columns, factor = self._inputs(samples, epoch)
        inputs, passed = [(columns, factor)], list[Passed]()
        *hidden, last = self.network
        for index, layer in enumerate(hidden, start=1):
            z = add_bias(product(layer.weight, columns, factor), layer.bias)
            kept = self._mask(index, samples, epoch, len(z))
            outputs, values = self._forward(layer, z, kept)
            passed.append(values)
            columns, factor = transpose(outputs), None
            inputs.append((columns, factor))
        logits = transpose(add_bias(product(last.weight, columns, factor), last.bias))
        pairs = zip(logits, samples, strict=True)
        dz = transpose([self._dz(column, position) for column, (_, position) in pairs])
        result, of_normalisation = list[Layer](), NOTHING
        for index in range(len(hidden), -1, -1):
            columns, factor = inputs[index]
            result.insert(0, Layer(*gradients(dz, transpose(columns), factor), *of_normalisation))
            if index > 0:
                da = product(transpose(self.network[index].weight), transpose(dz))
                dz, of_normalisation = self._backward(self.network[index - 1], da, passed[index - 1])
        return result

    def _mask(
        self, index: int, samples: Sequence[tuple[int, int]], epoch: int, units: int
    ) -> list[list[bool]]:
        """Return which outputs of a hidden layer are kept, by unit; an empty list without dropout (9.4)."""
        probability = self._settings["dropout"]
        if not probability:
            return []
        return transpose([self._kept(index, number, epoch, units, probability) for number, _ in samples])

    def _drop(self, rows: Matrix, kept: list[list[bool]]) -> Matrix:
        """Return what dropout makes of the outputs of a layer, or of gradients with respect to them (9.4)."""
        if not kept:
            return rows
        _, s = dropout_threshold(self._settings["dropout"])
        return [
            [v * s if keep else 0.0 for v, keep in zip(*each, strict=True)]
            for each in zip(rows, kept, strict=True)
        ]

    def _forward(self, layer: Layer, z: Matrix, kept: list[list[bool]]) -> tuple[Matrix, Passed]:
        """Return the outputs of a hidden layer in training from Z, and what its backward pass takes (9)."""
        normalised = (
            [batch_norm(*each) for each in zip(z, layer.gamma, layer.beta, strict=True)]
            if layer.gamma
            else []
        )
        z = [y for y, _ in normalised] or z
        a = [list(map(self._activation, row)) for row in z]
        return self._drop(a, kept), Passed(z, a, kept, [of for _, of in normalised])

    def _backward(self, layer: Layer, da: Matrix, of: Passed) -> tuple[Matrix, tuple[list[float], ...]]:
        """Return dZ of a hidden layer from the gradient of its outputs; dgamma, dbeta, S and Q (9.6)."""
        da = self._drop(da, of.kept)
        dz = [list(map(self._derivative, *rows)) for rows in zip(da, of.z, of.a, strict=True)]
        if not of.normalised:
            return dz, NOTHING
        rows = [batch_norm_backward(*each) for each in zip(dz, layer.gamma, of.normalised, strict=True)]
        s, q = ([getattr(each, name) for each in of.normalised] for name in ("s", "q"))
        return [row for row, _, _ in rows], ([x for _, x, _ in rows], [x for _, _, x in rows], s, q)

    def _dz(self, column: Vector, position: int) -> list[float]:
        """Return dz of the last layer for a sample (9.5, 8.4)."""
        dz = self._loss_backward(column, self._targets(self._data.labels[self._positions[position]]))
        return [v * self._factors[position] for v in dz] if self._factors else dz

    def _targets(self, label: int) -> list[float]:
        return targets(label, self._data.classes, self._settings["label_smoothing"])

    def step(self, batch: list[tuple[int, int]], epoch: int, alpha: float) -> None:
        """Update the network by a batch (10.2, 10.3)."""
        blocks = (self._block(batch[start:stop], epoch) for start, stop in block_bounds(len(batch)))
        total = tree_sum(blocks, lambda left, right: elementwise(operator.add, left, right))
        mean = 1 / len(batch)
        gradient = elementwise(lambda g: g * mean, [layer.parameters for layer in total])
        network = self._optimiser.step(self.network, gradient, alpha)
        of_totals = zip(network, total, strict=True)
        self.network = [update_statistics(layer, of.mean, of.variance, len(batch)) for layer, of in of_totals]

    def train_epoch(self, epoch: int) -> None:
        """Train for an epoch (10.1)."""
        batches = self.batches(epoch)
        for number, batch in enumerate(batches):
            t = (epoch - 1) * len(batches) + number
            self.step(batch, epoch, learning_rate(self._settings, t, len(batches)))

    # Evaluation

    def logits(self, network: Network, x: Sequence[Vector]) -> list[list[float]]:
        """Return the logits of samples, a column of them a list (9, 11)."""
        columns, factor = list(x), self._scale if self._integers else None
        if factor is None:
            columns = [self._normalised(each) for each in x]
        *hidden, last = network
        for layer in hidden:
            z = add_bias(product(layer.weight, columns, factor), layer.bias)
            if layer.gamma:
                z = [batch_norm_evaluation(*each) for each in zip(z, *layer[2:], strict=True)]
            columns, factor = transpose([list(map(self._activation, row)) for row in z]), None
        return transpose(add_bias(product(last.weight, columns, factor), last.bias))

    def evaluate(self, network: Network, x: Sequence[Vector], labels: Sequence[int]) -> list[float]:
        """Return loss and accuracy (11)."""
        sums, correct = list[float](), 0
        for start, stop in block_bounds(len(x)):
            columns = self.logits(network, x[start:stop])
            pairs = list(zip(columns, labels[start:stop], strict=True))
            sums.append(folded_sum([self._loss(column, self._targets(label)) for column, label in pairs]))
            correct += sum(column.index(max(column)) == label for column, label in pairs)
        return [tree_sum(sums, operator.add) * (1 / len(x)), correct / len(x)]

    def row(self) -> list[float]:
        """Return a row of the history: of the training samples, and of the validation samples (11)."""
        data, result = self._data, list[float]()
        for positions in filter(None, (self._positions, self.held_out)):
            x, labels = ([each[i] for i in positions] for each in (data.x, data.labels))
            result += self.evaluate(self.network, x, labels)
        return [*result, *self._score(result[2:])]

    def _score(self, evaluation: Sequence[float]) -> list[float]:
        """Return the score of the network on the validation samples, if there are any and it is not accuracy.

        The `evaluation` is their loss and accuracy (10.6).
        """
        if not evaluation or self._best_by == "accuracy":
            return []
        if self._best_by == "loss":
            return [-evaluation[0]]
        x, labels, w = (
            [each[i] for i in self.held_out] for each in (self._data.x, self._data.labels, self._weights)
        )
        predicted = [column.index(max(column)) for column in self.logits(self.network, x)]
        right = list(map(operator.eq, predicted, labels))
        if self._best_by == "weighted-accuracy":
            w = balance(w, labels) if self._balanced else w
            return [math.fsum(compress(w, right)) / math.fsum(w)]
        recalls = list[float]()
        for label in sorted(set(labels)):
            of_class = list(compress(right, [each == label for each in labels]))
            recalls.append(sum(of_class) / len(of_class))
        return [reduce(operator.add, recalls) / len(recalls)]


def mean_of(networks: Sequence[Network]) -> Network:
    """Return the mean of the values after the last epochs (10.6)."""
    total = networks[0]
    for network in networks[1:]:
        total = elementwise(lambda s, v: tiny(s + v), total, network)
    factor = 1 / len(networks)
    return elementwise(lambda s: tiny(s * factor), total)


def fit(
    settings: Settings,
    data: Data,
    own: Sequence[float] | None = None,
    of_classes: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the results of a training, under the names of docs/vectors/trainings.json (10.6).

    Samples and classes may have weights, those of the samples their ``own`` (8.4).
    """
    weights = None
    if own is not None or of_classes is not None:
        w = weights_of(data.labels, own, of_classes)
        x, labels, weights = ([each[i] for i in range(len(w)) if w[i]] for each in (data.x, data.labels, w))
        data = data._replace(x=x, labels=labels)
    training = Training(settings, data, weights)
    networks, history, best = [training.network], [training.row()], 0
    for epoch in range(1, settings["epochs"] + 1):
        training.train_epoch(epoch)
        networks.append(training.network)
        history.append(training.row())
        if settings["patience"]:
            best = max(range(epoch + 1), key=lambda e: (history[e][-1], -history[e][2], -e))
            if epoch - best >= settings["patience"]:
                break
    final = networks[best] if settings["patience"] else networks[-1]
    if settings["average_epochs"] > 1:
        final = mean_of(networks[-settings["average_epochs"] :])
    return {
        "sizes": training.sizes,
        "fingerprints": [fingerprint_of(rows_of(network)) for network in networks],
        "history": history,
        **({"best epoch": best} if settings["patience"] else {}),
        "fingerprint": fingerprint_of(rows_of(final)),
        "test": training.evaluate(final, data.x_test, data.labels_test),
        "probabilities": [softmax(column) for column in training.logits(final, data.x_test[:2])],
    }


def rows_of(network: Network) -> list[Vector]:
    """Return the numbers of a network in the order of the fingerprint (13)."""
    return [row for layer in network for row in layer.rows]


def samples_by_rule(features: str, samples: int) -> Data:
    """Return the samples of docs/vectors/trainings.json."""
    count, number = samples + 20, 64
    x = list[Vector]()
    for index in range(count):
        w = list(islice(words(0, index=index, epoch=0, seed=0), number))
        if features == "pixels":
            x.append([word % 256 for word in w])
        else:
            places = 125 if features == "float32" else 3
            values = [(uniform(word) - 0.5) * 2.0 ** (f % 7 - places) for f, word in enumerate(w)]
            x.append([feature(value, features) for value in values])
    labels = [word % 4 for word in islice(words(0, index=0, epoch=1, seed=0), count)]
    return Data(features == "pixels", x[:samples], labels[:samples], x[samples:], labels[samples:], 4)
