"""A second implementation of the arithmetic of docs/reproducibility.md, written from that page alone.

Random numbers, contractions, sums, functions and the fingerprint: sections 3 to 7, 10.2 and 13.
reference_network.py, reference_optimisers.py, reference_images.py and reference_training.py make trainings of
them. Read them beside the page: every docstring names the section that it follows.

They use the standard library only. Contractions are sums of Python integers, which are exact by nature;
everything else is Python's float, which is IEEE 754 binary64, one rounded operation at a time.
"""

import hashlib
import math
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, localcontext
from itertools import islice
from typing import NamedTuple, TypeVar

BLOCK = 1024
INITIALISATION, ORDER, AUGMENTATION, DROPOUT, VALIDATION, TEST, NOISE = 1, 2, 3, 4, 5, 6, 9

Vector = Sequence[float]
Matrix = list[list[float]]
"""One row per unit (or feature), one column per sample."""
Item = TypeVar("Item")


def transpose(matrix: Sequence[Vector]) -> Matrix:
    """Return the columns of a matrix as rows."""
    return [list(column) for column in zip(*matrix, strict=True)]


# Random numbers


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the four words of one use of Philox-4x64-10 (4.1)."""
    low = 2**64 - 1
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * 0xD2E7470EE14C6C93, x2 * 0xCA5A826395121157
        x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & low, (p0 >> 64) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
    return x0, x1, x2, x3


def words(purpose: int, *, index: int, epoch: int, seed: int, first_use: int = 1) -> Iterator[int]:
    """Yield the words of a purpose, index and epoch from a use on, without end (4.1)."""
    c0 = first_use - 1
    while True:
        c0 += 1
        yield from philox((c0, index, epoch, purpose), (seed, 0))


def uniform(word: int) -> float:
    """Return the number u of a word (4.1)."""
    return (word >> 40) * 2.0**-24


def initial_layer(index: int, inputs: int, units: int, seed: int, init: str) -> tuple[Matrix, list[float]]:
    """Return the first weights and biases of a layer (4.2)."""
    numbers = (uniform(w) - 0.5 for w in words(INITIALISATION, index=index, epoch=0, seed=seed))
    weight = [[next(numbers) for _ in range(inputs)] for _ in range(units)]
    if init == "uniform":
        return weight, [next(numbers) for _ in range(units)]
    factor = 2 * math.sqrt(6 / (inputs if init == "he" else inputs + units))
    return [[u * factor for u in row] for row in weight], [0.0] * units


def sorted_words(purpose: int, samples: int, *, epoch: int, seed: int) -> list[int]:
    """Return the positions of the first words of a purpose in ascending order (4.3, 4.4)."""
    source = words(purpose, index=0, epoch=epoch, seed=seed)
    keys = [next(source) for _ in range(samples)]
    return sorted(range(samples), key=keys.__getitem__)  # Python's sort is stable.


def split(purpose: int, samples: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the positions of the samples that are held out, and of those that remain (4.3)."""
    chosen = set(sorted_words(purpose, samples, epoch=0, seed=seed)[:held_out])
    return sorted(chosen), [i for i in range(samples) if i not in chosen]


def count_test_samples(setting: float, samples: int) -> int:
    """Return V of ``--test-split`` (4.3)."""
    return round(setting * samples)


def count_validation_samples(setting: float, samples: int) -> int:
    """Return V of ``--validation``, a whole number or a share (4.3)."""
    return setting if isinstance(setting, int) else max(round(setting * samples), 1)


def short_integers(purpose: int, *, index: int, epoch: int, seed: int, number: int, units: int) -> list[int]:
    """Return 16 bits for each unit of a layer, for the sample visited as this number (4.5)."""
    uses = -(-units // 16)
    source = words(purpose, index=index, epoch=epoch, seed=seed, first_use=number * uses + 1)
    return [word >> 16 * place & 0xFFFF for word in islice(source, 4 * uses) for place in range(4)][:units]


def signed(number: int) -> int:
    """Return the integer of 16 bits in two's complement (4.5)."""
    return number - 65536 if number >= 32768 else number


def dropout_threshold(probability: float) -> tuple[int, float]:
    """Return q (4.5) and the factor s of what is kept (9.4)."""
    q = min(round(probability * 65536), 65535)
    return q, 65536 / (65536 - q)


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
    """Return the bits of a slice of each operand, and the number of slices (5.1).

    ``pixels`` says that the second operand is of pixels. ValueError if the contraction is refused.
    """
    free = 53 - (terms - 1).bit_length()
    first, second = (free - 8, 8) if pixels else (free // 2, free - free // 2)
    if 2 * first < 20:
        msg = f"too many terms: {terms}"
        raise ValueError(msg)
    return first, second, 1 if first >= 20 else 2


def power_of_two_above(magnitude: float) -> int:
    """Return log2 p: p is the smallest power of two ≥ M, at least 2^-400 (5.2)."""
    if magnitude == 0.0:
        return -400
    fraction, exponent = math.frexp(magnitude)  # M = fraction · 2^exponent, 0.5 ≤ fraction < 1
    if fraction == 0.5:
        exponent -= 1
    return max(exponent, -400)


def rounded(vector: Vector, bits: int, slices: int = 1) -> list[Rounded]:
    """Round a vector to multiples of p · 2^-bits, ties to the even multiple, and the rest (5.2).

    A vector without a rounding, which is NaN, has no slices.
    """
    if not all(map(math.isfinite, vector)):
        return []
    power, result = power_of_two_above(max(map(abs, vector))), list[Rounded]()
    if power > 400:
        return []
    for index in range(slices):
        exponent = power - bits * (index + 1)
        integers = [round(math.ldexp(v, -exponent)) for v in vector]
        result.append(Rounded(integers, exponent))
        if index + 1 < slices:
            vector = [v - math.ldexp(n, exponent) for v, n in zip(vector, integers, strict=True)]
    return result


def of_pixels(vector: Vector) -> list[Rounded]:
    """Return a vector of pixels, which is not rounded (5.1)."""
    return [Rounded(list(map(int, vector)), 0)]


def contract(rows: Sequence[list[Rounded]], columns: Sequence[list[Rounded]], factor: float = 1.0) -> Matrix:
    """Contract each row of the first operand with each column of the second (5.3)."""

    def entry(a: list[Rounded], b: list[Rounded]) -> float:
        if not a or not b:
            return math.nan
        low = [part.dot(b[0]) for part in a[1:]] + [a[0].dot(part) for part in b[1:]]
        high = a[0].dot(b[0])
        return ((high + sum(low)) if low else high) * factor + 0.0

    return [[entry(a, b) for b in columns] for a in rows]


def sum_over_samples(row: list[Rounded]) -> float:
    """Return the sum of a rounded row of dZ (5.4)."""
    return sum(part.sum() for part in row) + 0.0 if row else math.nan


def product(rows: Sequence[Vector], columns: Sequence[Vector], factor: float | None = None) -> Matrix:
    """Return the product of two matrices, of the first the rows, of the second the columns (5).

    With a factor, the second is of pixels.
    """
    first, second, slices = budget(len(rows[0]), pixels=factor is not None)
    left = [rounded(row, first, slices) for row in rows]
    if factor is not None:
        return contract(left, [of_pixels(column) for column in columns], factor)
    return contract(left, [rounded(column, second, slices) for column in columns])


def gradients(
    dz: Matrix, inputs: Sequence[Vector], factor: float | None = None
) -> tuple[Matrix, list[float]]:
    """Return dW = dZ Aᵀ and db, from the rows of dZ and of A (9.6, 5.4)."""
    first, _, slices = budget(len(dz[0]), pixels=factor is not None)
    return product(dz, inputs, factor), [sum_over_samples(rounded(row, first, slices)) for row in dz]


# Other sums


def folded_sum(terms: list[float]) -> float:
    """Pad with +0 to a power of two and fold the halves (6)."""
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
    """Return e^x for x ≤ 709 (7)."""
    if not x >= -670:
        return x if math.isnan(x) else 0.0
    k = (x * EXP_64_BY_LN2 + TO_WHOLE) - TO_WHOLE
    r = (x - k * EXP_H) - k * EXP_L
    q = ((r * (1 / 120) + 1 / 24) * r + 1 / 6) * r + 1 / 2
    g, f = divmod(int(k), 64)
    t = math.ldexp(EXP_T[f], g)
    return t + t * (q * (r * r) + r)


def log(x: float) -> float:
    """Return the natural logarithm (7)."""
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
    """Return the square root (7)."""
    if not 0 < x < math.inf:
        return math.nan if x < 0 else x
    e = (math.frexp(x)[1] - 1) // 2
    m = math.ldexp(x, -2 * e)
    y = m * (1 / 3) + 11 / 16
    for _ in range(4):
        y = 0.5 * (y + m / y)
    return math.ldexp(y, e)


def tiny(x: float) -> float:
    """Return [x] (3)."""
    return (x + 2.0**-900) - 2.0**-900


# Blocks and the tree


def block_bounds(samples: int) -> list[tuple[int, int]]:
    """Return the first number of each block of a batch, and the one after its last (10.2)."""
    return [(start, min(start + BLOCK, samples)) for start in range(0, samples, BLOCK)]


def tree_sum(blocks: Iterable[Item], add: Callable[[Item, Item], Item]) -> Item:
    """Add the sums of blocks in a binary tree (10.2)."""
    waiting: list[tuple[int, Item]] = []  # (number of blocks, their sum), falling numbers
    for total in blocks:
        count = 1
        while waiting and waiting[-1][0] == count:
            total = add(waiting.pop()[1], total)  # noqa: PLW2901
            count *= 2
        waiting.append((count, total))
    _, total = waiting.pop()
    while waiting:
        total = add(waiting.pop()[1], total)
    return total


# The fingerprint


def fingerprint_of(vectors: Iterable[Vector]) -> str:
    """Return the SHA-256 of the rows of all parameters (13)."""
    digest = hashlib.sha256()
    for numbers in vectors:
        digest.update(struct.pack(f"<{len(numbers)}d", *numbers))
    return digest.hexdigest()
