"""What a backend is: an array namespace on one device, and how arrays get there and back.

A library file beside this one holds a subclass of `Backend` and two functions,
``probe(device) -> Probe`` (can it run there, and if not, why?) and ``make(device) -> Backend``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import array_api_compat

from xpnet.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

    from xpnet._typing import Array, Function, Item, Result


GPU_STACK: Final = 16
"""Blocks that a GPU computes in one call: 100 MB of MNIST's pixels in float64."""


class Backend(ABC):
    """One array library on one device.

    Attributes
    ----------
    name
        As in ``--backend``: numpy, cupy, torch, jax or array-api-strict.
    xp
        The array-API namespace that the mathematics takes.
    device
        The library's own device object, for ``xp.asarray(..., device=device)``.
    device_name
        As in ``--device``: cpu, cuda:0, ...
    version
        The library's version.
    has_float64
        Whether the device computes in double precision.
    on_host
        Whether its arrays are the host's, so that none are copied and files may be mapped.
    parallel_blocks
        Whether `workers` makes a difference.
    stack
        How many blocks are best computed in one call: many where starting an operation takes longer
        than the operation.
    compiled_stack
        As many, in compiled functions.
    whole_steps
        Whether the step of a batch of one block is best compiled as one function, where starting two takes
        a good part of a small step's time.

    """

    name: str
    xp: Any
    device: Any
    device_name: str
    version: str
    has_float64: bool = True
    on_host: bool = False
    parallel_blocks: bool = False
    stack: int = 1
    compiled_stack: int = 1
    whole_steps: bool = False

    def scope(self) -> AbstractContextManager[None]:
        """Return the context that everything computed with this backend runs in."""
        return nullcontext()

    def workers(self, count: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return the context in which `map_blocks` computes `count` blocks side by side.

        Libraries without `parallel_blocks` have threads of their own and take one block at a time.
        """
        return nullcontext()

    def single_blocks(self, multiplications: int) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Return the context in which `map_blocks` is given one block after the other.

        A block takes so many multiplications from the inputs to the logits.
        """
        return nullcontext()

    @abstractmethod
    def from_host(self, array: np.ndarray) -> Array:
        """Put a NumPy array on the device, keeping its dtype.

        The result may share memory with `array`, so do not write to `array` afterwards.
        """

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """Return `array` as a NumPy array, waiting for the device.

        The result may share memory with `array` and may be read-only.
        """

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has finished what it was given."""

    def map_blocks(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to each item and yield the results in the order of the items."""
        return map(function, items)

    def compile(
        self,
        function: Function,
        *,
        exact: bool,  # noqa: ARG002
        donated: Sequence[int] = (),  # noqa: ARG002
    ) -> Function:
        """Return a function that does the same as `function`, perhaps faster.

        Arguments and results are arrays, Python numbers, None, and lists, tuples and named tuples of
        them; the function is pure, and its course depends on their shapes alone. If `exact`, each of its
        operations must remain one operation, with the same bits. The memory of the arguments numbered
        in `donated` may be used for the results: nobody may use them after the call.
        """
        return function

    def __repr__(self) -> str:
        return f"<{self.name} {self.version} on {self.device_name}>"


class NamespaceMismatchError(BackendError, TypeError):
    """An array of one library was given to another."""


def check_namespace(backend: Backend, *arrays: Array) -> None:
    """Raise unless every array belongs to the backend's library.

    Namespaces are lenient: several functions of the CuPy namespace, given NumPy arrays, return
    NumPy arrays without a word. A public function therefore checks its input once, here.

    Raises
    ------
    NamespaceMismatchError
        Naming the type that was found and the conversion that mends it.

    """
    for array in arrays:
        try:
            found = array_api_compat.array_namespace(array).__name__
            mismatch = found != backend.xp.__name__
        except TypeError:
            mismatch = True
        if mismatch:
            found = f"{type(array).__module__}.{type(array).__qualname__}"
            msg = (
                f"Encountered a {found} when working with {backend.name}: convert with backend.from_host(...)"
            )
            raise NamespaceMismatchError(msg)
