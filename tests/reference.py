"""A second implementation of docs/reproducibility.md, written from that page alone.

It trains the default network (784-10-10, seed 0, learning rate 0.1, full batch, pixels
normalised with ``scale``) on the first images of MNIST and gives the fingerprint of its
parameters. Read it beside the page: every docstring names the section that it follows.

It uses the standard library only. Contractions are sums of Python integers, which are exact by
nature; everything else is Python's float, which is IEEE 754 binary64, one rounded operation at
a time. Left out, because this run does not need them: two slices, log, sqrt, mini-batches,
other normalisations, and magnitudes out of range (which raise instead of giving NaN).
"""

import gzip
import hashlib
import math
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple

MNIST = Path(__file__).parent.parent / "data" / "mnist"

# The default network and its training.
FEATURES, HIDDEN, CLASSES = 784, 10, 10
SEED = 0
LEARNING_RATE = 0.1

# The page's numbers.
BLOCK = 1024
PIXEL_BITS, PIXEL_FACTOR = 8, 1 / 255
INITIALISATION, ORDER = 1, 2

# One row per unit (or feature), one column per sample.
Matrix = list[list[float]]
# A vector of pixels along the contracted index: (index, pixel) where the pixel is not 0.
Pixels = list[tuple[int, int]]


class Layer(NamedTuple):
    """The parameters of a layer, or anything of their shape."""

    weight: Matrix
    bias: list[float]


Network = list[Layer]


def transpose(matrix: Matrix) -> Matrix:
    """Return the columns of a matrix as rows."""
    return [list(column) for column in zip(*matrix, strict=True)]


# --------------------------------------------------------------------------------------
# Random numbers
# --------------------------------------------------------------------------------------


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the four words of one use of Philox-4x64-10 ("Random numbers")."""
    low = 2**64 - 1
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        product0 = x0 * 0xD2E7470EE14C6C93
        product1 = x2 * 0xCA5A826395121157
        x0, x1, x2, x3 = (
            (product1 >> 64) ^ x1 ^ k0,
            product1 & low,
            (product0 >> 64) ^ x3 ^ k1,
            product0 & low,
        )
        k0 = (k0 + 0x9E3779B97F4A7C15) & low
        k1 = (k1 + 0xBB67AE8584CAA73B) & low
    return x0, x1, x2, x3


def words(purpose: int, *, index: int, epoch: int) -> Iterator[int]:
    """Yield the words of a purpose, index and epoch, without end ("Random numbers")."""
    c0 = 0
    while True:
        c0 += 1
        yield from philox((c0, index, epoch, purpose), (SEED, 0))


def initial_layer(index: int, units: int, inputs: int) -> Layer:
    """Return a layer's first parameters ("Random numbers", Initialisation)."""
    numbers = ((w >> 40) * 2.0**-24 - 0.5 for w in words(INITIALISATION, index=index, epoch=0))
    weight = [[next(numbers) for _ in range(inputs)] for _ in range(units)]
    bias = [next(numbers) for _ in range(units)]
    return Layer(weight, bias)


def initial_network() -> Network:
    """Return the first parameters of the default network."""
    return [initial_layer(0, HIDDEN, FEATURES), initial_layer(1, CLASSES, HIDDEN)]


def order_of_the_samples(samples: int) -> list[int]:
    """Return the positions of the samples as they are visited ("Order of the samples").

    Full-batch training: the order of epoch 0 serves every epoch.
    """
    source = words(ORDER, index=0, epoch=0)
    keys = [next(source) for _ in range(samples)]
    return sorted(range(samples), key=keys.__getitem__)  # Python's sort is stable.


# --------------------------------------------------------------------------------------
# Contractions
# --------------------------------------------------------------------------------------


class Rounded(NamedTuple):
    """A vector of rounded entries: entry k is exactly integers[k] · 2^exponent."""

    integers: list[int]
    exponent: int


def free_bits(terms: int) -> int:
    """Return 53 − c with c = ceil(log2 K) ("The budget")."""
    return 53 - (terms - 1).bit_length()


def budget(terms: int) -> tuple[int, int]:
    """Return the bits of the first and of the second operand ("The budget")."""
    free = free_bits(terms)
    first = free // 2
    assert first >= 20, "this contraction takes two slices"
    return first, free - first


def budget_beside_pixels(terms: int) -> int:
    """Return the bits of the operand that is not pixels ("The budget")."""
    bits = free_bits(terms) - PIXEL_BITS
    assert bits >= 20, "this contraction takes two slices"
    return bits


def power_of_two_above(magnitude: float) -> int:
    """Return log2 p: p is the smallest power of two ≥ M, at least 2^-400 ("Rounding")."""
    if magnitude == 0.0:
        return -400
    fraction, exponent = math.frexp(magnitude)  # M = fraction · 2^exponent, 0.5 ≤ fraction < 1
    if fraction == 0.5:
        exponent -= 1
    assert exponent <= 400, "out of range"
    return max(exponent, -400)


def rounded(vector: list[float], bits: int) -> Rounded:
    """Round a vector to multiples of p · 2^-bits, ties to the even multiple ("Rounding")."""
    exponent = power_of_two_above(max(abs(v) for v in vector)) - bits
    return Rounded([round(math.ldexp(v, -exponent)) for v in vector], exponent)


def contract(rows: Matrix, columns: Matrix) -> Matrix:
    """Contract each row of the first operand with each column of the second ("The product").

    Both are given as vectors along the contracted index: a first operand by its rows, a second
    one by its columns.
    """
    first_bits, second_bits = budget(len(rows[0]))
    first = [rounded(row, first_bits) for row in rows]
    second = [rounded(column, second_bits) for column in columns]
    return [
        [
            math.ldexp(
                sum(x * y for x, y in zip(a.integers, b.integers, strict=True)),
                a.exponent + b.exponent,
            )
            for b in second
        ]
        for a in first
    ]


def contract_with_pixels(rows: Matrix, columns: list[Pixels]) -> Matrix:
    """Contract with a second operand of pixels, which carries a factor ("The product")."""
    bits = budget_beside_pixels(len(rows[0]))
    result = []
    for row in rows:
        integers, exponent = rounded(row, bits)
        sums = (sum(integers[k] * pixel for k, pixel in column) for column in columns)
        result.append([math.ldexp(total, exponent) * PIXEL_FACTOR for total in sums])
    return result


def sums_over_samples(dz: Matrix, bits: int) -> list[float]:
    """Sum the same rounded dz that the product dZ Aᵀ uses ("Sums over samples")."""
    rows = (rounded(row, bits) for row in dz)
    return [math.ldexp(sum(row.integers), row.exponent) for row in rows]


# --------------------------------------------------------------------------------------
# Other sums
# --------------------------------------------------------------------------------------


def folded_sum(terms: list[float]) -> float:
    """Pad with +0 to a power of two and fold the halves ("Other sums")."""
    size = 1 << (len(terms) - 1).bit_length()
    terms = terms + [0.0] * (size - len(terms))
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [terms[j] + terms[j + half] for j in range(half)]
    return terms[0]


# --------------------------------------------------------------------------------------
# exp, log, square root
# --------------------------------------------------------------------------------------

with localcontext() as _context:
    _context.prec = 80
    _LN2 = Decimal(2).ln()
    EXP_64_BY_LN2 = float(64 / _LN2)
    EXP_H = math.ldexp(math.floor(_LN2 / 64 * 2**42), -42)
    EXP_L = float(_LN2 / 64 - Decimal(EXP_H))
    EXP_T = [float((_LN2 * f / 64).exp()) for f in range(64)]  # fl(2^(f/64))

TO_WHOLE = 1.5 * 2.0**52


def exp(x: float) -> float:
    """Return e^x for x ≤ 709 ("exp, log, square root")."""
    if x < -670:
        return 0.0
    k = (x * EXP_64_BY_LN2 + TO_WHOLE) - TO_WHOLE
    r = (x - k * EXP_H) - k * EXP_L
    q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2
    g, f = divmod(int(k), 64)
    t = math.ldexp(EXP_T[f], g)
    return t + t * (q * (r * r) + r)


# --------------------------------------------------------------------------------------
# The network
# --------------------------------------------------------------------------------------


def add_bias(product: Matrix, bias: list[float]) -> Matrix:
    """Return W A + b from W A ("The network")."""
    return [[z + b for z in row] for row, b in zip(product, bias, strict=True)]


def relu(z: Matrix) -> Matrix:
    """Return max(z, 0), elementwise ("The network")."""
    return [[max(value, 0.0) for value in row] for row in z]


def softmax(column: list[float]) -> list[float]:
    """Return the probabilities of one sample ("The network")."""
    largest = max(column)
    e = [exp(z - largest) for z in column]
    reciprocal = 1 / folded_sum(e)
    return [value * reciprocal for value in e]


def one_hot(label: int) -> list[float]:
    """Return a label's column of Y ("The network")."""
    return [1.0 if unit == label else 0.0 for unit in range(CLASSES)]


def columns_of_transposed(images: list[Pixels]) -> list[Pixels]:
    """Return the columns of Xᵀ, one per feature, from those of X, one per sample."""
    columns: list[Pixels] = [[] for _ in range(FEATURES)]
    for sample, image in enumerate(images):
        for feature, pixel in image:
            columns[feature].append((sample, pixel))
    return columns


def gradient(network: Network, images: list[Pixels], labels: list[int]) -> Network:
    """Return dW and db of both layers, summed over a block ("The network", forward, backward)."""
    (w1, b1), (w2, b2) = network
    z1 = add_bias(contract_with_pixels(w1, images), b1)
    a1 = relu(z1)
    z2 = add_bias(contract(w2, transpose(a1)), b2)
    # From here on transposed: a row per sample.
    a2 = [softmax(column) for column in transpose(z2)]
    dz2_columns = [
        [a - y for a, y in zip(column, one_hot(label), strict=True)]
        for column, label in zip(a2, labels, strict=True)
    ]
    dz2 = transpose(dz2_columns)
    da1 = contract(transpose(w2), dz2_columns)
    dz1 = [
        [d if z > 0 else 0.0 for d, z in zip(d_row, z_row, strict=True)]
        for d_row, z_row in zip(da1, z1, strict=True)
    ]
    samples = len(images)
    return [
        Layer(
            contract_with_pixels(dz1, columns_of_transposed(images)),
            sums_over_samples(dz1, budget_beside_pixels(samples)),
        ),
        Layer(
            contract(dz2, a1),  # The rows of A are the columns of Aᵀ.
            sums_over_samples(dz2, budget(samples)[0]),
        ),
    ]


# --------------------------------------------------------------------------------------
# Blocks and the tree
# --------------------------------------------------------------------------------------


def elementwise(operation: Callable[[float, float], float], left: Network, right: Network) -> Network:
    """Combine two networks' worth of numbers, number by number."""
    return [
        Layer(
            [list(map(operation, *rows)) for rows in zip(a.weight, b.weight, strict=True)],
            list(map(operation, a.bias, b.bias)),
        )
        for a, b in zip(left, right, strict=True)
    ]


def add(left: Network, right: Network) -> Network:
    """Return left + right, elementwise ("Blocks and the tree")."""
    return elementwise(lambda a, b: a + b, left, right)


def tree_sum(gradients: Iterator[Network]) -> Network:
    """Add the blocks' gradients in a binary tree ("Blocks and the tree")."""
    waiting: list[tuple[int, Network]] = []  # (number of blocks, their sum), falling numbers
    for block_gradient in gradients:
        count, total = 1, block_gradient
        while waiting and waiting[-1][0] == count:
            total = add(waiting.pop()[1], total)
            count *= 2
        waiting.append((count, total))
    _, total = waiting.pop()
    while waiting:
        total = add(waiting.pop()[1], total)
    return total


def train_epoch(network: Network, images: list[Pixels], labels: list[int]) -> Network:
    """Return the network after one step over the whole batch ("Blocks and the tree", Update)."""
    samples = len(images)
    total = tree_sum(
        gradient(network, images[start : start + BLOCK], labels[start : start + BLOCK])
        for start in range(0, samples, BLOCK)
    )
    mean = 1 / samples
    return elementwise(lambda w, dw: w - LEARNING_RATE * (dw * mean), network, total)


# --------------------------------------------------------------------------------------
# The fingerprint
# --------------------------------------------------------------------------------------


def fingerprint_of(network: Network) -> str:
    """Return the SHA-256 of the parameters ("The fingerprint")."""
    digest = hashlib.sha256()
    for weight, bias in network:
        for numbers in (*weight, bias):
            digest.update(struct.pack(f"<{len(numbers)}d", *numbers))
    return digest.hexdigest()


def read_idx(name: str, header: int, size: int) -> bytes:
    """Return the first bytes after the header of an IDX file (data/README.md)."""
    with gzip.open(MNIST / name) as file:
        return file.read(header + size)[header:]


def training_images(samples: int) -> list[Pixels]:
    """Return the first training images."""
    data = read_idx("train-images-idx3-ubyte.gz", 16, samples * FEATURES)
    return [
        [(k, pixel) for k, pixel in enumerate(data[start : start + FEATURES]) if pixel]
        for start in range(0, len(data), FEATURES)
    ]


def training_labels(samples: int) -> list[int]:
    """Return the first training labels."""
    return list(read_idx("train-labels-idx1-ubyte.gz", 8, samples))


def initial_fingerprint() -> str:
    """Return the fingerprint of the default network before training."""
    return fingerprint_of(initial_network())


def fingerprint(samples: int = 200, epochs: int = 1) -> str:
    """Return the fingerprint after training on the first images."""
    images, labels = training_images(samples), training_labels(samples)
    order = order_of_the_samples(samples)
    images, labels = [images[i] for i in order], [labels[i] for i in order]
    network = initial_network()
    for _ in range(epochs):
        network = train_epoch(network, images, labels)
    return fingerprint_of(network)


if __name__ == "__main__":
    print("initial                    ", initial_fingerprint())
    print("after 1 epoch on 200 images", fingerprint())
