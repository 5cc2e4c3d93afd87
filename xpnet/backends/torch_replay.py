"""Replay of functions of PyTorch's tensors on the CPU; see `xpnet.backends.replay`.

PyTorch passes every call on a tensor to a *function mode*, so that tensors themselves can be traced. Numbers
become tensors without axes: PyTorch would convert them in each call.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from xpnet._lib.tree import tree_map
from xpnet._typing import Args, Function, HostArray
from xpnet.backends.tape import Prepared, RecordedCall, Tape, TracedArray, Writing, traced_leaves, untrace


def _convert(x: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of a number or of another tensor."""
    return x.to(dtype) if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=dtype)


_ARITHMETIC = (
    *(torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.abs, torch.maximum, torch.minimum),
    *(torch.exp, torch.log, torch.sqrt, torch.lt, torch.le, torch.gt, torch.ge, torch.eq),
    *(torch.bitwise_and, torch.bitwise_or, torch.bitwise_right_shift),
)
_ELEMENTWISE = {*_ARITHMETIC, torch.where}
_OTHERS = (torch.amax, torch.argmax, torch.concat, torch.index_select, torch.matmul, torch.sum)
_ACCEPTS_OUT = {*_ELEMENTWISE, *_OTHERS, _convert}
_METHODS = {function.__name__: function for function in (*_ARITHMETIC, *_OTHERS)}
_METHODS |= {"__and__": torch.bitwise_and, "__or__": torch.bitwise_or, "__eq__": torch.eq}
_METHODS |= {"__rshift__": torch.bitwise_right_shift}
"""The functions that do what methods of these names do."""
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}  # of the same size
_CONSTANTS = {torch.full_like, torch.ones_like, torch.zeros_like}  # by the shapes of their arguments


class TorchTape(Tape, TorchFunctionMode):
    """The calls made on tensors that are inputs or results of recorded calls."""

    def __init__(self) -> None:
        Tape.__init__(self)
        TorchFunctionMode.__init__(self)
        self.traced = WeakIdKeyDictionary()  # by tensor; without large values, which would keep all tensors

    def run(self, function: Function, args: Args) -> tuple[Any, Any]:
        """Run a function; return the arguments and the results as traced arrays."""
        inputs = tree_map(partial(TracedArray, self), args)
        values = tree_map(self._add, inputs)
        with self:
            outputs = function(*values)
        return inputs, tree_map(self._find, outputs)

    def _add(self, traced: TracedArray) -> Any:
        """Return the tensor of an argument or a result; that of a number is a result."""
        if not isinstance(traced.value, torch.Tensor):
            traced = self.record(_convert, (traced, torch.float64), {})
        self.traced[traced.value] = self.forget(traced)
        return traced.value

    def _find(self, leaf: Any) -> Any:
        """Return the traced array of a tensor; of other leaves, itself."""
        is_known = isinstance(leaf, torch.Tensor) and leaf in self.traced
        return self.traced[leaf].with_value(leaf) if is_known else leaf

    def __torch_function__(self, function: Function, _: object, args: Any = (), kwargs: Any = None) -> Any:
        traced, kwargs = tree_map(self._find, args), kwargs or {}
        result = function(*args, **kwargs)
        is_new = isinstance(result, torch.Tensor) and result is not args[0]  # else perhaps a shape or dtype
        if not is_new or function in _CONSTANTS or not traced_leaves(traced):
            return result
        return self._add(self.record(*_simplify(function, traced, kwargs, result.dtype)))

    def without_memory(self, value: Any) -> Any:
        """Return a tensor of the same shape, strides and dtype without elements."""
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    def make_array(self, like: Any, memory: HostArray) -> Any:
        """Return a tensor like another one in a block of memory."""
        return torch.from_numpy(memory[: like.nbytes]).view(like.dtype).as_strided(like.shape, like.stride())

    def write(self, out: TracedArray, function: Function, args: Any, kwargs: Any) -> Writing | None:
        """Return how the result of a call is written; None if the function accepts no output tensor."""
        if function not in _ACCEPTS_OUT:
            return None
        return Writing(partial(function, **kwargs), (*args, out), may_overwrite=function in _ELEMENTWISE)

    def prepare(self, call: RecordedCall, arrays: Mapping[int, Any]) -> Prepared:
        """Return the call that writes a result; ``arrays`` are, by slot, the same in every run."""
        args, out = call.args, arrays[call.result.slot]
        if call.function is _convert:
            return [(out.copy_ if out.ndim else out.fill_, args[:1])]
        if call.function is torch.where:
            return [_choice(call, out, arrays.get(getattr(args[1], "slot", -1)))]
        return [(partial(call.function, out=out), args)]


def _choice(call: RecordedCall, out: torch.Tensor, kept: Any) -> tuple[Function, Args]:
    """Return the call that chooses between two values, without branches if they are ``kept`` and 0."""
    (mask, x, y), bits = call.args, _INTEGERS.get(out.dtype)
    if bits and str(y) == "0.0" and kept is not None and (kept.shape, kept.dtype) == (out.shape, out.dtype):
        return partial(torch.mul, out=out.view(bits)), (kept.view(bits), mask)
    values = (torch.full_like(out, z) if isinstance(z, int | float) else z for z in (x, y))
    return partial(torch.where, out=out), (mask, *values)


def _simplify(function: Function, args: Any, kwargs: Any, dtype: Any) -> tuple[Function, Any, Any]:
    """Return a call with the same result, by a function that accepts an output tensor if there is one."""
    if function.__name__ == "to" and kwargs.keys() <= {"dtype", "copy"}:
        return _convert, (args[0], dtype), {}
    if function.__name__ == "__rsub__":
        function, args = torch.sub, args[::-1]
    elif function not in _ELEMENTWISE:
        function = _METHODS.get(function.__name__, function)
    if function in _ELEMENTWISE and function is not torch.where:
        like = next(x for x in untrace(args) if isinstance(x, torch.Tensor))
        args = tree_map(partial(_with_dtype, like), args)
    return function, args, kwargs


def _with_dtype(like: torch.Tensor, x: Any) -> Any:
    """Return a number as a tensor of the dtype that it has beside another tensor; of others, itself."""
    return torch.tensor(x, dtype=torch.result_type(like, x)) if isinstance(x, int | float) else x
