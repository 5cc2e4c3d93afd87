"""The types of arrays, of array-API namespaces, and of functions of arrays.

Arrays of all libraries have no type in common. Which of their operations the mathematics uses, and that each
backend computes them as NumPy does, is tested as they run; see `tests/arithmetic/test_closed_world.py`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of any library."""

Namespace: TypeAlias = Any
"""The functions of the array-API standard for the arrays of a library."""

DType: TypeAlias = Any
"""A dtype of an array library, such as ``xp.float64``."""

Device: TypeAlias = Any
"""A device of an array library."""

Arrays: TypeAlias = list[Array]
"""Arrays of any library."""

Pair: TypeAlias = tuple[Array, Array]
"""Two arrays of any library."""

Shape: TypeAlias = tuple[int, ...]
"""The lengths of an array's axes."""

Names: TypeAlias = tuple[str, ...]
"""Names of columns, classes, hosts and others."""

Args: TypeAlias = tuple[Any, ...]
"""The arguments of a call by position."""

HostArray: TypeAlias = "NDArray[Any]"
"""A NumPy array of any dtype."""

Function: TypeAlias = Callable[..., Any]
"""Any function."""

Functions: TypeAlias = dict[str, Function]
"""Functions by name."""

Context: TypeAlias = AbstractContextManager[object]
"""What a ``with`` statement takes, whose value is not used."""

Notify: TypeAlias = Callable[[str], object]
"""Receives a line of text."""

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

Values: TypeAlias = Mapping[str, Any]
"""A JSON object, or other values by name, which are only read."""

AnyFunction = TypeVar("AnyFunction", bound=Function)
Item = TypeVar("Item")
Result = TypeVar("Result")
