"""Random numbers with the same bits on every library, as the public functions give them."""

from functools import partial
from math import pi, prod
from typing import Any

import numpy as np

from xpnet._typing import Function, HostArray
from xpnet.arithmetic import random as words
from xpnet.arithmetic.random import Purpose
from xpnet.reproducible import functions
from xpnet.reproducible.array import Array
from xpnet.reproducible.places import MOST_NUMBERS, arithmetic, place, whole
from xpnet.reproducible.standard import asarray

Shape = int | tuple[int, ...]


class random:  # noqa: N801  as in NumPy
    """Random numbers by seed: words of Philox, drawn on the host."""

    @staticmethod
    def uniform(seed: int, shape: Shape, *, like: Any = None) -> Any:
        """Return float64 numbers in [0, 1), multiples of 2^-53.

        Parameters
        ----------
        seed
            A whole number from 0 to 2^64 - 1.
        shape
            The shape of the result.
        like
            An array whose library and device the result has; by default NumPy's.

        Raises
        ------
        ConfigError
            The seed is not such a number, or the shape none of whole numbers of at least 0.
        """
        return _draw(_fractions, seed, Purpose.PUBLIC_UNIFORM, shape, like)

    @staticmethod
    def normal(seed: int, shape: Shape, *, like: Any = None) -> Any:
        """Return float64 numbers of the standard normal distribution (Box and Muller 1958).

        Two words, as the uniform numbers u from 2^-53 to 1 and v below 1, make a number:
        sqrt(-2 log u) cos(2 pi v). The parameters and errors are those of `uniform`.
        """

        def transform(drawn: words.Words) -> HostArray:
            radius = functions.sqrt(-2.0 * _logarithms(drawn[::2]))
            return np.asarray(radius * functions.cos((2.0 * pi) * _fractions(drawn[1::2])))

        return _draw(transform, seed, Purpose.PUBLIC_NORMAL, shape, like, words_each=2)

    @staticmethod
    def exponential(seed: int, shape: Shape, *, like: Any = None) -> Any:
        """Return float64 numbers of the exponential distribution of mean 1: -log u, with u from 2^-53 to 1.

        The parameters and errors are those of `uniform`.
        """
        return _draw(lambda drawn: 0.0 - _logarithms(drawn), seed, Purpose.PUBLIC_EXPONENTIAL, shape, like)

    @staticmethod
    def integers(seed: int, low: int, high: int, shape: Shape, *, like: Any = None) -> Any:
        """Return whole numbers from `low` to `high` - 1, each equally likely within 2^-64, int64.

        Two words are a 128-bit number w: the result is low + floor((high - low) w / 2^128). The other
        parameters and errors are those of `uniform`.

        Raises
        ------
        ConfigError
            No number is from `low` to `high` - 1, or one is no int64 number.
        """
        low = whole("random", "low of int64", low, -(2**63), 2**63)
        high = whole("random", "high above low, of int64", high, low + 1, 2**63 + 1)
        transform = partial(words.integers, low=low, high=high)
        return _draw(transform, seed, Purpose.PUBLIC_INTEGERS, shape, like, words_each=2)

    @staticmethod
    def choice(seed: int, n: int, size: int, *, like: Any = None) -> Any:
        """Return `size` different numbers of 0 … n - 1, in random order: the first of an order, int64.

        It is the stable ascending sort of n words. The other parameters and errors are those of `uniform`.

        Raises
        ------
        ConfigError
            `size` is not from 0 to n.
        """
        order = _order(seed, n, Purpose.PUBLIC_CHOICE)
        size = whole("random", f"a size from 0 to n = {n}", size, below=n + 1)
        return _put(order[:size], like)

    @staticmethod
    def shuffle(seed: int, x: Any, /, *, axis: int = 0) -> Any:
        """Return a copy of an array, whose slices along an axis are in random order.

        It is the stable ascending sort of as many words. The errors are those of `uniform`.
        """
        array = asarray(x)
        order = _order(seed, array.shape[axis], Purpose.PUBLIC_SHUFFLE)
        shuffled = array.space.take(array, _put(order, array), axis=axis)
        return shuffled if isinstance(x, Array) else shuffled.raw

    @staticmethod
    def permutation(seed: int, n: int, *, like: Any = None) -> Any:
        """Return the numbers 0 … n - 1 in an order that depends on the seed, int64 of shape (n,).

        It is the stable ascending sort of words. The parameters and errors are those of `uniform`.
        """
        return _put(_order(seed, n, Purpose.PUBLIC_PERMUTATION), like)


_fractions = partial(words.uniform, bits=53)
"""Maps random words to numbers in [0, 1)."""


def _logarithms(drawn: words.Words) -> Any:
    """Map random words to the logarithms of numbers from 2^-53 to 1."""
    return functions.log(_fractions(drawn) + 2.0**-53)


def _draw(make: Function, seed: int, purpose: Purpose, shape: Shape, like: Any, words_each: int = 1) -> Any:
    """Return an array of a shape of what a function makes of random words."""
    lengths = shape if isinstance(shape, tuple) else (shape,)
    shape = tuple(whole("random", "a shape of whole numbers, 0 or more", length) for length in lengths)
    size = whole("random", f"a shape of fewer than {MOST_NUMBERS} numbers", prod(shape))
    return _put(make(words.words(_seed(seed), purpose, size * words_each)).reshape(shape), like)


def _order(seed: int, n: int, purpose: Purpose) -> words.Indices:
    """Return the numbers 0 … n - 1 in random order."""
    n = whole("random", "a number n, 0 or more", n)
    return words.permutation(_seed(seed), n, epoch=0, purpose=purpose)


def _seed(seed: int) -> int:
    return whole("random", "a seed from 0 to 2^64 - 1", seed, below=2**64)


def _put(host: Any, like: Any) -> Any:
    if isinstance(like, Array):
        return Array(like.place, like.place.put(host))
    return host if like is None else arithmetic(*place("random", [like]))[0].from_host(host)
