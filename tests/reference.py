"""A second implementation of the arithmetic of docs/reproducibility.md, written from that page alone.

Random numbers, contractions, sums, functions and the fingerprint: sections 3 to 7, 10.2 and 13.
reference_network.py, reference_optimisers.py, reference_images.py and reference_training.py make trainings of
them. Read them beside the page: comments name the sections that they follow.

They use the standard library and NumPy: elementwise operations of float64, each rounded, and sums of products
of whole numbers. A matrix has a column for each sample; biases and the like are matrices of one column.
"""

import hashlib
import math
from decimal import Decimal, localcontext
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

BLOCK = 1024
INITIALISATION, ORDER, AUGMENTATION, DROPOUT, VALIDATION, TEST, NOISE = 1, 2, 3, 4, 5, 6, 9

elementwise = partial(np.vectorize, otypes=[float])
"""Makes a function of numbers one of arrays."""


# Random numbers


def philox(counter, key):  # the four words of one use of Philox-4x64-10 (4.1)
    low = 2**64 - 1
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * 0xD2E7470EE14C6C93, x2 * 0xCA5A826395121157
        x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & low, (p0 >> 64) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
    return x0, x1, x2, x3


def words(purpose, *, seed, index=0, epoch=0, first_use=1):
    """Yield the words of a purpose, index and epoch from a use on, without end (4.1)."""
    while True:
        yield from philox((first_use, index, epoch, purpose), (seed, 0))
        first_use += 1


def first_words(number, purpose, **place):
    return np.array(list(islice(words(purpose, **place), number)), "<u8")


def uniform(word):  # u of a word, or of an array of words (4.1)
    return (word >> 40) * 2.0**-24


def initial_layer(index, inputs, units, seed, init):  # the first weights and biases of a layer (4.2)
    u = uniform(first_words(units * (inputs + 1), INITIALISATION, index=index, seed=seed)) - 0.5
    weight, bias = u[: units * inputs].reshape(units, inputs), u[units * inputs :, np.newaxis]
    if init == "uniform":
        return weight, bias
    return weight * (2 * math.sqrt(6 / (inputs if init == "he" else inputs + units))), np.zeros((units, 1))


def sorted_words(purpose, samples, *, seed, epoch=0):
    """Return the positions of the first words of a purpose in ascending order (4.3, 4.4)."""
    return np.argsort(first_words(samples, purpose, epoch=epoch, seed=seed), kind="stable")


def split(purpose, samples, held_out, seed):
    """Return the positions of the samples that are held out, and of those that remain (4.3)."""
    order = sorted_words(purpose, samples, seed=seed)
    return np.sort(order[:held_out]), np.sort(order[held_out:])


def count_test_samples(setting, samples):
    return round(setting * samples)  # 4.3


def count_validation_samples(setting, samples):  # V of ``--validation``, a whole number or a share (4.3)
    return setting if isinstance(setting, int) else max(round(setting * samples), 1)


def short_integers(purpose, *, number, units, **place):
    """Return 16 bits for each unit of a layer, for the sample visited as this number (4.5)."""
    uses = -(-units // 16)
    return first_words(4 * uses, purpose, first_use=number * uses + 1, **place).view("<u2")[:units]


def dropout_threshold(probability):  # q (4.5) and the factor s of what is kept (9.4)
    q = min(round(probability * 65536), 65535)
    return q, 65536 / (65536 - q)


# Contractions


class Rounded(NamedTuple):
    """Rounded vectors, the rows of a matrix: whole numbers, times a power of two (NaN: no rounding)."""

    integers: np.ndarray
    unit: np.ndarray

    def dot(self, other):  # the exact scalar products
        return (self.integers @ other.integers.T) * (self.unit * other.unit.T)


def budget(terms, *, pixels=False):  # the bits of a slice of each operand, and the number of slices (5.1)
    free = 53 - (terms - 1).bit_length()
    first, second = (free - 8, 8) if pixels else (free // 2, free - free // 2)
    if 2 * first < 20:
        msg = f"too many terms: {terms}"
        raise ValueError(msg)
    return first, second, 1 if first >= 20 else 2


def rounded(rows, bits, slices=1):  # the slices of vectors (5.2)
    largest, result = np.max(np.abs(rows), axis=-1, keepdims=True), []
    fraction, exponent = np.frexp(np.maximum(largest, 2.0**-400))  # p is 2^exponent, or half of it
    unit = np.where(largest <= 2.0**400, np.ldexp(1.0, exponent - (fraction == 0.5)), np.nan)
    for _ in range(slices):
        unit = unit * 2.0**-bits
        integers = np.rint(rows / unit)
        rows = rows - integers * unit
        result.append(Rounded(np.nan_to_num(integers).astype(np.int64), unit))
    return result


def whole(rows):  # vectors of whole numbers, which are not rounded (5.1)
    return [Rounded(rows.astype(np.int64), np.ones((1, 1)))]


def contract(a, b, factor=1.0):
    """Contract the slices of the rows of the first operand with those of the columns of the second (5.3)."""
    low = [part.dot(b[0]) for part in a[1:]] + [a[0].dot(part) for part in b[1:]]
    return (a[0].dot(b[0]) + sum(low)) * factor + 0.0


def product(a, b, factor=None):  # the product of two matrices (5). With a factor, the second is of pixels
    first, second, slices = budget(a.shape[1], pixels=factor is not None)
    if factor is None:
        return contract(rounded(a, first, slices), rounded(b.T, second, slices))
    return contract(rounded(a, first, slices), whole(b.T), factor)


def gradients(dz, a, factor=None):  # dW = dZ Aᵀ and db (9.6, 5.4)
    first, _, slices = budget(dz.shape[1], pixels=factor is not None)
    sums = [part.integers.sum(axis=1, keepdims=True) * part.unit for part in rounded(dz, first, slices)]
    return product(dz, a.T, factor), sum(sums) + 0.0


# Other sums


def folded_sum(terms):  # pad with +0 to a power of two and fold the halves, along the first axis (6)
    terms = np.asarray(terms)
    half = 1 << (len(terms) - 1).bit_length()
    terms = np.concatenate([terms, np.zeros((half - len(terms), *terms.shape[1:]))])
    while half > 1:
        half //= 2
        terms = terms[:half] + terms[half:]
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


@elementwise
def exp(x):  # e^x for x ≤ 709 (7)
    if not x >= -670:
        return x if math.isnan(x) else 0.0
    k = (x * EXP_64_BY_LN2 + TO_WHOLE) - TO_WHOLE
    r = (x - k * EXP_H) - k * EXP_L
    q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2
    g, f = divmod(int(k), 64)
    t = math.ldexp(EXP_T[f], g)
    return t + t * (q * (r * r) + r)


@elementwise
def log(x):  # the natural logarithm (7)
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


@elementwise
def sqrt(x):  # the square root (7)
    if not 0 < x < math.inf:
        return math.nan if x < 0 else x
    e = (math.frexp(x)[1] - 1) // 2
    m = math.ldexp(x, -2 * e)
    y = m * (1 / 3) + 11 / 16
    for _ in range(4):
        y = 0.5 * (y + m / y)
    return math.ldexp(y, e)


def tiny(x):  # [x] (3)
    return (x + 2.0**-900) - 2.0**-900


# Blocks and the tree


def blocks(samples):  # the places of each block of a batch (10.2)
    return [slice(start, min(start + BLOCK, samples)) for start in range(0, samples, BLOCK)]


def tree_sum(sums):  # add the sums of blocks in a binary tree (10.2)
    waiting = []  # (number of blocks, their sum), falling numbers
    for total in sums:
        count = 1
        while waiting and waiting[-1][0] == count:
            total = waiting.pop()[1] + total  # noqa: PLW2901
            count *= 2
        waiting.append((count, total))
    _, total = waiting.pop()
    while waiting:
        total = waiting.pop()[1] + total
    return total


def fingerprint_of(numbers):  # the SHA-256 of the numbers of a network (13)
    return hashlib.sha256(numbers.tobytes()).hexdigest()
