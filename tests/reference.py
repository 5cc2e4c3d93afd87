"""A second implementation of docs/reproducibility.md, written from that page alone.

It trains the default network (784-10-10, seed 0, learning rate 0.1, full batch, pixels normalised with
``scale``) on the first images of MNIST and gives the fingerprint of its parameters. Read it beside the page:
every docstring names the section that it follows.

It uses the standard library only. Contractions are sums of Python integers, which are exact by nature;
everything else is Python's float, which is IEEE 754 binary64, one rounded operation at a time. Left out:
mini-batches, other normalisations, and magnitudes out of range (which raise instead of giving NaN).
"""

import gzip
import hashlib
import math
import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple

MNIST = Path(__file__).parent.parent / "data" / "mnist"
FEATURES, HIDDEN, CLASSES = 784, 10, 10
SEED = 0
LEARNING_RATE = 0.1
BLOCK = 1024
PIXEL_FACTOR = 1 / 255
INITIALISATION, ORDER = 1, 2

Vector = Sequence[float]
Matrix = list[list[float]]
"""One row per unit (or feature), one column per sample."""


class Layer(NamedTuple):
    """The parameters of a layer, or anything of their shape."""

    weight: Matrix
    bias: list[float]


Network = list[Layer]


def transpose(matrix: Sequence[Vector]) -> Matrix:
    """Return the columns of a matrix as rows."""
    return [list(column) for column in zip(*matrix, strict=True)]


# Random numbers


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the four words of one use of Philox-4x64-10 ("Random numbers")."""
    low = 2**64 - 1
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * 0xD2E7470EE14C6C93, x2 * 0xCA5A826395121157
        x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & low, (p0 >> 64) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
    return x0, x1, x2, x3


def words(purpose: int, *, index: int, epoch: int, seed: int = SEED) -> Iterator[int]:
    """Yield the words of a purpose, index and epoch, without end ("Random numbers")."""
    c0 = 0
    while True:
        c0 += 1
        yield from philox((c0, index, epoch, purpose), (seed, 0))


def initial_network() -> Network:
    """Return the first parameters ("Random numbers", Initialisation)."""
    network = []
    for index, (inputs, units) in enumerate([(FEATURES, HIDDEN), (HIDDEN, CLASSES)]):
        numbers = ((w >> 40) * 2.0**-24 - 0.5 for w in words(INITIALISATION, index=index, epoch=0))
        weight = [[next(numbers) for _ in range(inputs)] for _ in range(units)]
        network.append(Layer(weight, [next(numbers) for _ in range(units)]))
    return network


def order_of_the_samples(samples: int) -> list[int]:
    """Return the positions of the samples as full-batch training visits them ("Order of the samples")."""
    source = words(ORDER, index=0, epoch=0)
    keys = [next(source) for _ in range(samples)]
    return sorted(range(samples), key=keys.__getitem__)  # Python's sort is stable.


# Contractions


class Rounded(NamedTuple):
    """A vector of rounded entries: entry k is exactly integers[k] · 2^exponent."""

    integers: list[int]
    exponent: int

    def sum(self) -> float:
        """Return the exact sum."""
        return math.ldexp(sum(self.integers), self.exponent)

    def dot(self, other: "Rounded") -> float:
        """Return the exact scalar product."""
        terms = map(operator.mul, self.integers, other.integers)
        return math.ldexp(sum(terms), self.exponent + other.exponent)


def budget(terms: int, *, pixels: bool = False) -> tuple[int, int, int]:
    """Return the bits of a slice of each operand, and the number of slices ("The budget").

    ``pixels`` says that the second operand is of pixels.
    """
    free = 53 - (terms - 1).bit_length()
    first, second = (free - 8, 8) if pixels else (free // 2, free - free // 2)
    return first, second, 1 if first >= 20 else 2


def power_of_two_above(magnitude: float) -> int:
    """Return log2 p: p is the smallest power of two ≥ M, at least 2^-400 ("Rounding")."""
    if magnitude == 0.0:
        return -400
    fraction, exponent = math.frexp(magnitude)  # M = fraction · 2^exponent, 0.5 ≤ fraction < 1
    if fraction == 0.5:
        exponent -= 1
    assert exponent <= 400, "out of range"
    return max(exponent, -400)


def rounded(vector: Vector, bits: int, slices: int = 1) -> list[Rounded]:
    """Round a vector to multiples of p · 2^-bits, ties to the even multiple, and the rest ("Rounding")."""
    power, result = power_of_two_above(max(map(abs, vector))), []
    for index in range(slices):
        exponent = power - bits * (index + 1)
        integers = [round(math.ldexp(v, -exponent)) for v in vector]
        result.append(Rounded(integers, exponent))
        vector = [v - math.ldexp(n, exponent) for v, n in zip(vector, integers, strict=True)]
    return result


def of_pixels(vector: Sequence[int]) -> list[Rounded]:
    """Return a vector of pixels, which is not rounded ("The budget")."""
    return [Rounded(list(map(int, vector)), 0)]


def contract(rows: Sequence[list[Rounded]], columns: Sequence[list[Rounded]], factor: float = 1.0) -> Matrix:
    """Contract each row of the first operand with each column of the second ("The product")."""

    def product(a: list[Rounded], b: list[Rounded]) -> float:
        low = [part.dot(b[0]) for part in a[1:]] + [a[0].dot(part) for part in b[1:]]
        value = a[0].dot(b[0])
        return ((value + sum(low)) if low else value) * factor + 0.0

    return [[product(a, b) for b in columns] for a in rows]


def product(rows: Sequence[Vector], columns: Sequence[Vector]) -> Matrix:
    """Return the product of two matrices, of the first the rows, of the second the columns."""
    first, second, slices = budget(len(rows[0]))
    return contract(
        [rounded(row, first, slices) for row in rows], [rounded(column, second, slices) for column in columns]
    )


# Other sums


def folded_sum(terms: list[float]) -> float:
    """Pad with +0 to a power of two and fold the halves ("Other sums")."""
    terms = terms + [0.0] * ((1 << (len(terms) - 1).bit_length()) - len(terms))
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [terms[j] + terms[j + half] for j in range(half)]
    return terms[0]


# exp, log, square root

with localcontext(prec=80):
    _LN2 = Decimal(2).ln()
    EXP_64_BY_LN2 = float(64 / _LN2)
    EXP_H = math.ldexp(math.floor(_LN2 / 64 * 2**42), -42)
    EXP_L = float(_LN2 / 64 - Decimal(EXP_H))
    EXP_T = [float((_LN2 * f / 64).exp()) for f in range(64)]  # fl(2^(f/64))
    LOG_H = math.ldexp(math.floor(_LN2 * 2**40), -40)
    LOG_L = float(_LN2 - Decimal(LOG_H))

TO_WHOLE = 1.5 * 2.0**52


def exp(x: float) -> float:
    """Return e^x for x ≤ 709 ("exp, log, square root")."""
    if not x >= -670:
        return x if math.isnan(x) else 0.0
    k = (x * EXP_64_BY_LN2 + TO_WHOLE) - TO_WHOLE
    r = (x - k * EXP_H) - k * EXP_L
    q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2
    g, f = divmod(int(k), 64)
    t = math.ldexp(EXP_T[f], g)
    return t + t * (q * (r * r) + r)


def log(x: float) -> float:
    """Return the natural logarithm ("exp, log, square root")."""
    if not 0 < x < math.inf:
        return -math.inf if x == 0 else x if x == math.inf else math.nan
    m, e = math.frexp(x)
    m, e = 2 * m, e - 1
    if m > 1.4142135623730951:
        m, e = m / 2, e + 1
    s = (m - 1) / (m + 1)
    z = s * s
    q = z * (1 / 21) + 1 / 19
    for d in (17, 15, 13, 11, 9, 7, 5, 3):
        q = q * z + 1 / d
    return e * LOG_H + (e * LOG_L + (2 * s + 2 * s * (z * q)))


def sqrt(x: float) -> float:
    """Return the square root ("exp, log, square root")."""
    if not 0 < x < math.inf:
        return math.nan if x < 0 else x
    e = (math.frexp(x)[1] - 1) // 2
    m = math.ldexp(x, -2 * e)
    y = m * (1 / 3) + 11 / 16
    for _ in range(4):
        y = 0.5 * (y + m / y)
    return math.ldexp(y, e)


# The network


def softmax(column: Vector) -> list[float]:
    """Return the probabilities of one sample ("The network")."""
    largest = max(column)
    e = [exp(z - largest) for z in column]
    reciprocal = 1 / folded_sum(e)
    return [value * reciprocal for value in e]


def add_bias(matrix: Matrix, bias: list[float]) -> Matrix:
    """Return W A + b from W A ("The network")."""
    return [[z + b for z in row] for row, b in zip(matrix, bias, strict=True)]


def gradient(network: Network, images: list[bytes], labels: list[int]) -> Network:
    """Return dW and db of both layers, summed over a block ("The network", forward, backward)."""
    (w1, b1), (w2, b2) = network
    bits_of_weights, bits_of_samples = (budget(terms, pixels=True)[0] for terms in (FEATURES, len(images)))
    rows, columns = [rounded(row, bits_of_weights) for row in w1], [of_pixels(image) for image in images]
    z1 = add_bias(contract(rows, columns, PIXEL_FACTOR), b1)
    a1 = [[max(value, 0.0) for value in row] for row in z1]
    z2 = add_bias(product(w2, transpose(a1)), b2)
    dz2_columns = [
        [a - (unit == label) for unit, a in enumerate(softmax(column))]
        for column, label in zip(transpose(z2), labels, strict=True)
    ]
    dz2 = transpose(dz2_columns)
    da1 = product(transpose(w2), dz2_columns)
    dz1 = [
        [d if z > 0 else 0.0 for d, z in zip(d_row, z_row, strict=True)]
        for d_row, z_row in zip(da1, z1, strict=True)
    ]
    rounded_dz1 = [rounded(row, bits_of_samples) for row in dz1]
    rounded_dz2 = [rounded(row, budget(len(images))[0]) for row in dz2]
    features = [of_pixels(column) for column in zip(*images, strict=True)]
    return [
        # "Sums over samples": those of the rounded dz that the products take.
        Layer(contract(rounded_dz1, features, PIXEL_FACTOR), [row[0].sum() for row in rounded_dz1]),
        Layer(product(dz2, a1), [row[0].sum() for row in rounded_dz2]),
    ]


# Blocks and the tree


def elementwise(operation: Callable[[float, float], float], left: Network, right: Network) -> Network:
    """Combine two networks' worth of numbers, number by number."""
    return [
        Layer(
            [list(map(operation, *rows)) for rows in zip(a.weight, b.weight, strict=True)],
            list(map(operation, a.bias, b.bias)),
        )
        for a, b in zip(left, right, strict=True)
    ]


def tree_sum(gradients: Iterator[Network]) -> Network:
    """Add the blocks' gradients in a binary tree ("Blocks and the tree")."""
    waiting: list[tuple[int, Network]] = []  # (number of blocks, their sum), falling numbers
    for block_gradient in gradients:
        count, total = 1, block_gradient
        while waiting and waiting[-1][0] == count:
            total = elementwise(operator.add, waiting.pop()[1], total)
            count *= 2
        waiting.append((count, total))
    _, total = waiting.pop()
    while waiting:
        total = elementwise(operator.add, waiting.pop()[1], total)
    return total


def train_epoch(network: Network, images: list[bytes], labels: list[int]) -> Network:
    """Return the network after one step over the whole batch ("Blocks and the tree", Update)."""
    samples = len(images)
    total = tree_sum(
        gradient(network, images[start : start + BLOCK], labels[start : start + BLOCK])
        for start in range(0, samples, BLOCK)
    )
    mean = 1 / samples
    return elementwise(lambda w, dw: w - LEARNING_RATE * (dw * mean), network, total)


# The fingerprint


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


def fingerprint(samples: int) -> str:
    """Return the fingerprint after one epoch on the first images."""
    pixels = read_idx("train-images-idx3-ubyte.gz", 16, samples * FEATURES)
    labels = read_idx("train-labels-idx1-ubyte.gz", 8, samples)
    order = order_of_the_samples(samples)
    images = [pixels[FEATURES * i : FEATURES * (i + 1)] for i in order]
    return fingerprint_of(train_epoch(initial_network(), images, [labels[i] for i in order]))
