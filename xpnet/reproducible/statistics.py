"""Functions beyond the standard, of plain arrays and of `Array`: einsum, quantiles and covariances."""

from collections.abc import Sequence
from functools import wraps
from math import floor, nan
from typing import Any, cast

from xpnet._typing import AnyFunction
from xpnet.reproducible.array import Array
from xpnet.reproducible.linalg import diagonal
from xpnet.reproducible.places import place_of_array
from xpnet.reproducible.reductions import Axes, contract
from xpnet.reproducible.standard import asarray


def _takes_plain_arrays(function: AnyFunction) -> AnyFunction:
    """Let a function of `Array` take plain arrays too, as float64."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if any(isinstance(each, Array) for each in args):
            return function(*args, **options)
        source = next((each for each in args if not isinstance(each, str)), None)
        place_of_array(function.__name__, source)  # raises DataError for anything but an array
        wrapped = (asarray(each) * 1.0 if hasattr(each, "shape") else each for each in args)
        return function(*wrapped, **options).raw

    return cast("AnyFunction", call)


# Sums of products


@_takes_plain_arrays
def einsum(subscripts: str, /, *operands: Any) -> Any:
    """Return sums of products of elements, by a letter for each axis, contracted from left to right.

    Of each array, the diagonals of repeated letters are taken, and letters that stand nowhere else are summed
    over; then the first two arrays are contracted by `matmul`, or multiplied if no letter is summed over, the
    result and the third one, and so on.

    Parameters
    ----------
    subscripts
        As ``"ij,jk->ik"``. Without ``->`` the result has the letters that stand once, in alphabetical order.
    operands
        Arrays, of one library and device.

    Raises
    ------
    ValueError
        The letters do not fit the axes; or there is an ellipsis.
    """
    terms, output = _read_subscripts(subscripts, operands)
    result: Any = operands[0]
    letters: Axes = ""
    for number, (operand, own) in enumerate(zip(operands, terms, strict=True)):
        later = {*output, *(letter for term in terms[number + 1 :] for letter in term)}
        x, axes = _sum_own(operand, own, later | {*letters})
        result, letters = contract(result, letters, x, axes, later) if number else (x, axes)
    return result.space.permute_dims(result, tuple(letters.index(each) for each in output))


def _read_subscripts(subscripts: str, operands: Sequence[Array]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        output = "".join(sorted(each for each in {*inputs} - {","} if inputs.count(each) == 1))
    lengths: dict[str, int] = {}
    fits = [*map(len, terms)] == [x.ndim for x in operands]
    for term, x in zip(terms, operands, strict=False):
        for letter, length in zip(term, x.shape, strict=False):
            fits &= letter.isalpha() and lengths.setdefault(letter, length) == length
    if not fits or not {*output} <= lengths.keys() or len({*output}) < len(output):
        shapes = ", ".join(f"{x.shape}" for x in operands)
        raise ValueError(f"einsum: {subscripts!r} does not fit arrays of shapes {shapes}: one letter an axis")
    return terms, output


def _sum_own(x: Any, letters: str, others: set[str]) -> tuple[Any, str]:
    """Take the diagonals of repeated letters, and sum over letters that are not among others."""
    space = x.space
    for letter in dict.fromkeys(letters):
        while (first := letters.index(letter)) != (second := letters.rindex(letter)):
            x = diagonal(space.moveaxis(x, (first, second), (-2, -1)))
            letters = letters[:first] + letters[first + 1 : second] + letters[second + 1 :] + letter
    alone = tuple(axis for axis, letter in enumerate(letters) if letter not in others)
    x = space.sum(x, axis=alone, dtype=x.dtype) if alone else x
    return x, "".join(letter for letter in letters if letter in others)


# Statistics


@_takes_plain_arrays
def quantile(x: Any, q: float | Sequence[float], /, *, axis: int | None = None) -> Any:
    """Return quantiles: elements of the sorted axis, or between two of them on a straight line.

    With h = q (n - 1), of n elements, and g = h - floor(h), it is a + (b - a) g, where a is the element
    floor(h) and b the next one, and a if g is 0 or both are equal. It is NaN if an element is, or if there is
    none.

    Parameters
    ----------
    x
        Numbers.
    q
        The share of elements below, from 0 to 1, or several, along a new first axis.
    axis
        The axis; None for all elements.

    Raises
    ------
    ValueError
        `q` is not from 0 to 1.
    """
    space = x.space
    x = space.reshape(x, (-1,)) if axis is None else space.moveaxis(x, axis, 0)
    ordered = space.sort(x * 1.0, axis=0)
    shares = [q] if isinstance(q, int | float) else [*q]
    if not all(0.0 <= share <= 1.0 for share in shares):
        raise ValueError(f"quantile: expected shares from 0 to 1, got {q!r}")
    results = space.stack([_quantile(ordered, float(share)) for share in shares])
    return results[0, ...] if isinstance(q, int | float) else results


def _quantile(ordered: Any, share: float) -> Any:
    space, last = ordered.space, ordered.shape[0] - 1
    if last < 0:
        return space.full(ordered.shape[1:], nan, dtype=ordered.dtype, device=ordered.device)
    position = share * last
    below = floor(position)
    a, b, largest = (ordered[index, ...] for index in (below, min(below + 1, last), last))
    between = a if position == below else space.where(a == b, a, a + (b - a) * (position - below))
    return space.where(largest != largest, largest, between)  # noqa: PLR0124  NaN


def median(x: Any, /, *, axis: int | None = None) -> Any:
    """Return the `quantile` 0.5."""
    return quantile(x, 0.5, axis=axis)


@_takes_plain_arrays
def cov(x: Any, /, *, correction: float = 1.0) -> Any:
    """Return the covariances of variables, the rows of a matrix.

    They are the products of the deviations from the means over n - `correction`.

    Raises
    ------
    ValueError
        `x` is not a matrix.
    """
    if x.ndim != 2:
        raise ValueError(f"cov: expected a matrix with a row for each variable, got shape {x.shape}")
    deviations = x - x.space.mean(x, axis=1, keepdims=True)
    return (deviations @ deviations.mT) / (x.shape[1] - correction)


@_takes_plain_arrays
def corrcoef(x: Any, /) -> Any:
    """Return the correlations of variables, the rows of a matrix: `cov` over both standard deviations.

    The errors are those of `cov`.
    """
    space, covariances = x.space, cov(x)
    deviations = space.sqrt(diagonal(covariances))
    return space.clip(covariances / deviations[:, None] / deviations[None, :], -1.0, 1.0)
