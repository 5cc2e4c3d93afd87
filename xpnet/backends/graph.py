"""Replays what a function does on a GPU as one CUDA graph.

A GPU takes some microseconds to start a kernel, which is longer than many kernels here take to run. A
graph starts all kernels of a function at once. It reads and writes fixed memory: arguments are copied
there, results are copied from there. Arguments that are the same arrays call after call, such as the data
set, stay where they are.

Before a graph is used, its results are compared with those of the function itself. Where capturing fails,
or the results differ, the function goes on as it is written.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from xpnet.tree import leaves, mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from xpnet.backends.base import Array, Function

WARM_UP = 2
"""Calls of a form before its graph is captured: libraries set themselves up in the first ones."""


_ACTIVE = threading.local()


class Recorder(Protocol):
    """What a library does to capture a graph."""

    def capture(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], Any]]:
        """Run `function` while its kernels are captured; return its result, and what replays them."""

    def copy(self, target: Array, source: Array) -> None:
        """Write the numbers of one array into another."""

    def fill(self, target: Array, number: float) -> None:
        """Write one number into an array."""

    def clone(self, array: Array) -> Array:
        """Return a copy."""

    def scalar(self, number: float, like: Array) -> Array:
        """Return a 0-dimensional array of the dtype of `like`, beside it."""

    def alike(self, a: Array, b: Array, *, exact: bool) -> bool:
        """Whether two arrays are equal, bit for bit or to within rounding."""


class Captured:
    """A function that is replayed from its third call with arguments of the same form on."""

    def __init__(self, function: Function, recorder: Recorder, *, exact: bool) -> None:
        self.function, self.recorder, self.exact = function, recorder, exact
        self.forms: dict[Any, _Form] = {}
        self.works = True

    def __call__(self, *args: Any) -> Any:
        """Return what the function returns."""
        if getattr(_ACTIVE, "inside", False):  # a part of a function that has a graph of its own
            return self.function(*args)
        _ACTIVE.inside = True
        try:
            return self._replayed(args)
        finally:
            _ACTIVE.inside = False

    def _replayed(self, args: Any) -> Any:
        flat = list(leaves(args))
        key = tuple((leaf.shape, leaf.dtype) if _is_array(leaf) else None for leaf in flat)
        form = self.forms.setdefault(key, _Form([True] * len(flat)))
        form.see(flat)
        if form.graph is None and self.works and form.calls > WARM_UP:
            form.graph = self._graph(args, flat, form)
        return self.function(*args) if form.graph is None else form.graph.run(flat)

    def _graph(self, args: Any, flat: list[Any], form: _Form) -> _Graph | None:
        try:
            graph = _Graph(self.function, self.recorder, args, form.constant)
            found, expected = graph.run(flat), self.function(*args)
            pairs = zip(leaves(found), leaves(expected), strict=True)
            if all(self.recorder.alike(a, b, exact=self.exact) for a, b in pairs):
                return graph
            problem = "its results differ"
        except Exception as error:  # noqa: BLE001  each library raises its own errors
            problem = " ".join(str(error).split()) or type(error).__name__
        self.works = False
        msg = f"no CUDA graph can be used here, which is slower, and no more than that: {problem}"
        warnings.warn(msg, RuntimeWarning, stacklevel=4)
        return None


@dataclass
class _Form:
    """What is known of calls with arguments of one form."""

    constant: list[bool]  # whether an argument has been the same array in all calls
    calls: int = 0
    last: list[Any] | None = None
    graph: _Graph | None = None

    def see(self, flat: list[Any]) -> None:
        """Take note of a call's arguments."""
        if self.last is not None:
            same = [a is b and _is_array(a) for a, b in zip(flat, self.last, strict=True)]
            constant = [a and b for a, b in zip(self.constant, same, strict=True)]
            if constant != self.constant:
                self.constant, self.graph = constant, None
        self.last = flat
        self.calls += 1


class _Graph:
    """A captured graph with its memory."""

    def __init__(
        self, function: Function, recorder: Recorder, args: Any, constant: list[bool]
    ) -> None:
        self.recorder, self.constant = recorder, constant
        like = next(leaf for leaf in leaves(args) if _is_array(leaf))
        fixed = iter(constant)

        def held(leaf: Any) -> Any:
            if next(fixed):
                return leaf
            return recorder.clone(leaf) if _is_array(leaf) else recorder.scalar(leaf, like)

        inputs = mapped(held, args)
        self.inputs = list(leaves(inputs))
        self.outputs, self.replay = recorder.capture(lambda: function(*inputs))

    def run(self, flat: list[Any]) -> Any:
        """Return what the function returns for these arguments."""
        for target, value, constant in zip(self.inputs, flat, self.constant, strict=True):
            if constant:
                continue
            if _is_array(value):
                self.recorder.copy(target, value)
            else:
                self.recorder.fill(target, value)
        self.replay()
        return mapped(self.recorder.clone, self.outputs)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape")
