"""Random numbers with the same bits on every library, as the public functions give them."""

from math import prod
from typing import Any

from xpnet.arithmetic import random as words
from xpnet.reproducible.array import Array, wrap
from xpnet.reproducible.places import MOST_NUMBERS, arithmetic, place, whole


class random:  # noqa: N801  as in NumPy
    """Random numbers by seed: words of Philox, drawn on the host."""

    @staticmethod
    def uniform(seed: int, shape: int | tuple[int, ...], *, like: Any = None) -> Any:
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
        shape = shape if isinstance(shape, tuple) else (shape,)
        shape = tuple(whole("random", "a shape of whole numbers, 0 or more", length) for length in shape)
        size = whole("random", f"a shape of fewer than {MOST_NUMBERS} numbers", prod(shape))
        drawn = words.words(_seed(seed), words.Purpose.PUBLIC_UNIFORM, size)
        return _put(words.uniform(drawn, 53).reshape(shape), like)

    @staticmethod
    def permutation(seed: int, n: int, *, like: Any = None) -> Any:
        """Return the numbers 0 … n - 1 in an order that depends on the seed, int64 of shape (n,).

        It is the stable ascending sort of words. The parameters and errors are those of `uniform`.
        """
        purpose = words.Purpose.PUBLIC_PERMUTATION
        n = whole("random", "a number n, 0 or more", n)
        return _put(words.permutation(_seed(seed), n, epoch=0, purpose=purpose), like)


def _seed(seed: int) -> int:
    return whole("random", "a seed from 0 to 2^64 - 1", seed, below=2**64)


def _put(host: Any, like: Any) -> Any:
    if isinstance(like, Array):
        return wrap(like.place, like.place.put(host))
    return host if like is None else arithmetic(*place("random", [like]))[0].from_host(host)
