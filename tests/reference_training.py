"""Trainings by docs/reproducibility.md, written from that page alone: sections 10 and 11, and 4.2 to 4.5.

``fit`` trains as an entry of docs/vectors/trainings.json says. Left out is what its entries do not use, such
as missing values, ``init_from`` and extensions; and numbers that are not finite.
"""

import math
from typing import NamedTuple

import numpy as np
import reference as spec
import reference_images as images
import reference_network as nn
import reference_optimisers as optimisers
from reference_network import Layer


class Data(NamedTuple):
    """Training and test samples, a row of X each."""

    pixels: bool
    x: np.ndarray
    labels: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray
    classes: int


class Training:
    """A training of a network on samples (9 to 11)."""

    def __init__(self, settings, data, weights=None):
        self._settings, self._data, self._seed = settings, data, settings["seed"]
        self._weights = np.ones(len(data.x)) if weights is None else weights
        held_out = spec.count_validation_samples(settings["validation"], len(data.x))
        self.held_out, self._positions = spec.split(spec.VALIDATION, len(data.x), held_out, self._seed)
        x, self._labels = data.x[self._positions], data.labels[self._positions]
        self._samples = len(x)
        self._shift, self._scale = nn.normalisation(settings["normalize"], x, pixels=data.pixels)
        self._integers = data.pixels and self._shift == 0
        self._balanced = settings["class_weight"] == "balanced"
        self._factors, is_weighted = np.ones(self._samples), self._balanced or weights is not None
        if is_weighted:
            w = self._weights[self._positions]
            self._factors = nn.weight_factors(self._labels, w, balanced=self._balanced)
        self._best_by = settings["best_by"]
        if self._best_by == "auto":
            self._best_by = "weighted-accuracy" if is_weighted else "accuracy"
        self.sizes = [data.x.shape[1], *settings["hidden"], data.classes]
        self._activation, self._derivative = nn.ACTIVATIONS[settings["activation"]]
        self._loss, self._loss_backward = nn.LOSSES[settings["loss"]]
        self.network = [self._initial(i) for i in range(len(self.sizes) - 1)]
        self._optimiser = optimisers.Optimiser(settings, self.network)
        self._batch_size = self._reduced(settings["batch_size"])

    def _initial(self, index):
        units = self.sizes[index + 1]
        weight, bias = spec.initial_layer(index, self.sizes[index], units, self._seed, self._settings["init"])
        zeros = np.zeros((units if self._settings["batch_norm"] and index + 2 < len(self.sizes) else 0, 1))
        return Layer(weight, bias, zeros + 1.0, zeros, zeros, zeros + 1.0)

    def _reduced(self, size):  # N, or 0 for a full batch (10.1)
        if size == "full":
            return 0
        size = min(int(size), self._samples)
        while self._settings["batch_norm"] and size > 1 and self._samples % size == 1:
            size += 1
        return size

    def batches(self, epoch):
        """Return the batches of an epoch: number in the epoch and position of each sample (10.1, 4.4)."""
        number = epoch if self._batch_size else 0
        order = spec.sorted_words(spec.ORDER, self._samples, epoch=number, seed=self._seed)
        visited = list(enumerate(order.tolist()))
        size = self._batch_size or self._samples
        return [visited[start : start + size] for start in range(0, self._samples, size)]

    # Inputs

    def _normalised(self, x):
        return (x - self._shift) * self._scale

    def _inputs(self, samples, epoch):
        """Return the inputs of samples in training, and the factor of pixels as integers (9.1, 9.4)."""
        settings, noise = self._settings, self._settings["input_noise"]
        indices = [int(self._positions[position]) for _, position in samples]
        x = self._data.x[indices]
        if images.is_augmented(settings):
            place = {"seed": self._seed, "epoch": epoch}
            variants = zip(x, indices, strict=True)
            x = np.array([images.variant(row, settings, index=index, **place) for row, index in variants])
        integers = self._integers and not noise
        x = (x if integers else self._normalised(x)).T
        kept, s = self._kept(0, samples, epoch, len(x), settings["input_dropout"])
        x = np.where(kept, x * (1 if integers else s), 0)
        if noise:
            n = self._integers_of(spec.NOISE, 0, samples, epoch, len(x))
            x = x + n.astype(np.int16) * (noise * 2.0**-15)
        return x, s * self._scale if integers else None

    def _integers_of(self, purpose, layer, samples, epoch, units):
        """Return 16 bits for each unit of a layer and each sample (4.5)."""
        place = {"index": layer, "epoch": epoch, "seed": self._seed, "units": units}
        return np.transpose([spec.short_integers(purpose, number=number, **place) for number, _ in samples])

    def _kept(self, layer, samples, epoch, units, probability):
        """Return which units of a layer are kept for which samples (4.5), and s (9.4)."""
        q, s = spec.dropout_threshold(probability)
        return not probability or self._integers_of(spec.DROPOUT, layer, samples, epoch, units) >= q, s

    # A step

    def _block(self, samples, epoch):
        """Return the gradients of a block, and S and Q in the place of running statistics (9)."""
        inputs, passed = [self._inputs(samples, epoch)], []
        *hidden, last = self.network
        for index, layer in enumerate(hidden, start=1):
            z, of, sums = spec.product(layer.weight, *inputs[-1]) + layer.bias, (), ()
            if layer.gamma.size:
                z, of, sums = nn.batch_norm(z, layer.gamma, layer.beta)
            kept, s = self._kept(index, samples, epoch, len(z), self._settings["dropout"])
            a = self._activation(z)
            passed.append((layer, z, a, kept, s, of, sums))
            inputs.append((np.where(kept, a * s, 0.0), None))
        positions = [position for _, position in samples]
        logits = spec.product(last.weight, *inputs[-1]) + last.bias
        dz = self._loss_backward(logits, self._targets(self._labels[positions])) * self._factors[positions]
        result, above = [spec.gradients(dz, *inputs.pop())], last
        while passed:
            layer, z, a, kept, s, of, sums = passed.pop()
            da = spec.product(above.weight.T, dz)
            dz, above, more = self._derivative(np.where(kept, da * s, 0.0), z, a), layer, ()
            if of:
                dz, *more = nn.batch_norm_backward(dz, layer.gamma, *of)
            result.insert(0, (*spec.gradients(dz, *inputs.pop()), *more, *sums))
        return nn.pack(result)

    def _targets(self, labels):
        return nn.targets(labels, self._data.classes, self._settings["label_smoothing"])

    def step(self, batch, epoch, alpha):  # update the network by a batch (10.2, 10.3)
        total = spec.tree_sum(self._block(batch[places], epoch) for places in spec.blocks(len(batch)))
        mean = 1 / len(batch)
        network = self._optimiser.step(self.network, total * mean, alpha)
        of_layers = zip(network, nn.unpack(total, network), strict=True)
        self.network = [nn.update_statistics(layer, sums, len(batch)) for layer, sums in of_layers]

    def train_epoch(self, epoch):  # train for an epoch (10.1)
        batches = self.batches(epoch)
        for number, batch in enumerate(batches):
            t = (epoch - 1) * len(batches) + number
            self.step(batch, epoch, optimisers.learning_rate(self._settings, t, len(batches)))

    # Evaluation

    def logits(self, network, x):  # the logits of samples, a column each (9, 11)
        a, factor = (x.T, self._scale) if self._integers else (self._normalised(x).T, None)
        *hidden, last = network
        for layer in hidden:
            z = spec.product(layer.weight, a, factor) + layer.bias
            if layer.gamma.size:
                z = nn.batch_norm_evaluation(z, *layer[2:])
            a, factor = self._activation(z), None
        return spec.product(last.weight, a, factor) + last.bias

    def evaluate(self, network, x, labels):  # loss and accuracy (11)
        logits = self.logits(network, x)
        losses = self._loss(logits, self._targets(labels))
        sums = [spec.folded_sum(losses[places]) for places in spec.blocks(len(x))]
        right = np.count_nonzero(logits.argmax(axis=0) == labels)
        return [spec.tree_sum(sums) * (1 / len(x)), right / len(x)]

    def row(self):  # a row of the history: of the training samples, and of the validation samples (11)
        x, labels = self._data.x, self._data.labels
        parts = [part for part in (self._positions, self.held_out) if len(part)]
        result = [figure for part in parts for figure in self.evaluate(self.network, x[part], labels[part])]
        return [*result, *self._score(result[2:])]

    def _score(self, evaluation):
        """Return the score on the validation samples, if there are any and it is not accuracy (10.6)."""
        if not evaluation or self._best_by == "accuracy":
            return []
        if self._best_by == "loss":
            return [-evaluation[0]]
        x, labels, w = (each[self.held_out] for each in (self._data.x, self._data.labels, self._weights))
        right = self.logits(self.network, x).argmax(axis=0) == labels
        if self._best_by == "weighted-accuracy":
            w = nn.balance(w, labels) if self._balanced else w
            return [math.fsum(w[right]) / math.fsum(w)]
        recalls = [np.mean(right[labels == label]) for label in np.unique(labels)]
        return [np.cumsum(recalls)[-1] / len(recalls)]


def mean_of(networks):  # the mean of the values after the last epochs (10.6)
    total, *others = map(nn.pack, networks)
    for numbers in others:
        total = spec.tiny(total + numbers)
    factor = 1 / len(networks)
    return nn.unpack(spec.tiny(total * factor), networks[0])


def fit(settings, data, own=None, of_classes=None):
    """Return the results of a training, under the names of docs/vectors/trainings.json (10.6).

    Samples and classes may have weights, those of the samples their ``own`` (8.4).
    """
    weights = None
    if own is not None or of_classes is not None:
        weights = nn.weights_of(data.labels, own, of_classes)
        remaining = weights > 0
        data = data._replace(x=data.x[remaining], labels=data.labels[remaining])
        weights = weights[remaining]
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
        "fingerprints": [spec.fingerprint_of(nn.pack(network)) for network in networks],
        "history": history,
        **({"best epoch": best} if settings["patience"] else {}),
        "fingerprint": spec.fingerprint_of(nn.pack(final)),
        "test": training.evaluate(final, data.x_test, data.labels_test),
        "probabilities": nn.softmax(training.logits(final, data.x_test[:2])).T,
    }


def samples_by_rule(features, samples):  # the samples of docs/vectors/trainings.json
    count = samples + 20
    w = np.array([spec.first_words(64, 0, index=index, seed=0) for index in range(count)])
    if features == "pixels":
        x = w % 256
    else:
        exponents = np.arange(64) % 7 - (125 if features == "float32" else 3)
        x = nn.feature(np.ldexp(spec.uniform(w) - 0.5, exponents), features)
    labels = (spec.first_words(count, 0, epoch=1, seed=0) % 4).astype(int)
    return Data(features == "pixels", x[:samples], labels[:samples], x[samples:], labels[samples:], 4)
