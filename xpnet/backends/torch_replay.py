"""Replay of functions of PyTorch's tensors on the CPU; see `xpnet.backends.replay`.

PyTorch passes every call on a tensor to a *function mode*, so that tensors themselves can be traced. Numbers
become tensors without axes: PyTorch would convert them in each call.
"""

from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from xpnet._lib.tree import tree_map
from xpnet._typing import Function, HostArray
from xpnet.backends.replay import PlanBuilder
from xpnet.backends.tape import Call, Tape, TracedArray, is_traced, untrace


def _convert(x: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of a number or of another tensor."""
    return x.to(dtype) if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=dtype)


_ARITHMETIC = (
    *(torch.add, torch.sub, torch.mul, torch.div, torch.neg, torch.abs, torch.maximum, torch.minimum),
    *(torch.exp, torch.log, torch.sqrt, torch.lt, torch.le, torch.gt, torch.ge, torch.eq, torch.bitwise_and),
)
_ELEMENTWISE: set[Function] = {*_ARITHMETIC, torch.where}
_OTHERS = (torch.amax, torch.argmax, torch.concat, torch.index_select, torch.matmul, torch.sum)
_ACCEPTS_OUT = {*_ELEMENTWISE, *_OTHERS, _convert}
_METHODS = {function.__name__: function for function in (*_ARITHMETIC, *_OTHERS)}
_METHODS |= {"__and__": torch.bitwise_and, "__eq__": torch.eq}
"""The functions that do what methods of these names do."""
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}  # of the same size
_CONSTANTS = {torch.full_like, torch.ones_like, torch.zeros_like}  # by the shapes of their arguments


def _without_memory(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


class TorchPlanBuilder(PlanBuilder):
    """Records a run of a function of tensors, and prepares its calls."""

    matmul = torch.matmul

    @classmethod
    def record(cls, function: Function, args: tuple[Any, ...]) -> tuple[Tape, tuple[Any, ...], object]:
        """Run a function; return the calls made, and the arguments and results as traced arrays."""
        recorder = _Recorder()
        inputs = tree_map(lambda leaf: TracedArray(recorder.tape, leaf), args)
        values = tree_map(recorder.add, inputs)
        with recorder:
            outputs = function(*values)
        return recorder.tape, inputs, tree_map(recorder.find, outputs)

    def accepts_out(self, call: Call) -> bool:
        """Tell whether the result of a call can be written into an output tensor."""
        return call.function in _ACCEPTS_OUT

    def may_overwrite(self, call: Call) -> bool:
        """Tell whether the result may share memory with operands, each element with the same of theirs."""
        like = _layout(call.result.value)

        def is_safe(operand: TracedArray) -> bool:
            memory = self.memory.get(operand.owner)
            too_small = memory is None or memory.nbytes < call.result.value.nbytes
            return too_small or (operand.owner == operand.slot and _layout(operand.value) == like)

        return call.function in _ELEMENTWISE and all(map(is_safe, call.operands))

    def make_buffer(self, like: torch.Tensor, memory: HostArray) -> torch.Tensor:
        """Return a tensor like another one in a block of memory."""
        flat = torch.from_numpy(memory[: like.nbytes]).view(like.dtype)
        return flat.as_strided(like.shape, like.stride())

    def calls_into(self, call: Call, out: torch.Tensor) -> list[tuple[Function, tuple[object, ...]]]:
        """Return the call that writes the result of `call` into `out`."""
        if call.function is _convert:
            return [(out.copy_ if out.ndim else out.fill_, call.args[:1])]
        if call.function is torch.where:
            return [self._choice_into(out, *call.args)]
        return [(partial(call.function, **call.kwargs, out=out), call.args)]

    def _choice_into(
        self, out: torch.Tensor, mask: Any, x: Any, y: Any
    ) -> tuple[Function, tuple[object, ...]]:
        """Return the call that chooses between two values, without branches for each element."""
        kept: Any = self.buffers.get(getattr(x, "slot", -1))
        bits = _INTEGERS.get(out.dtype)
        if bits and str(y) == "0.0" and kept is not None and _layout(kept)[:2] == _layout(out)[:2]:
            return partial(torch.mul, out=out.view(bits)), (kept.view(bits), mask)
        values = (torch.full_like(out, z) if isinstance(z, int | float) else z for z in (x, y))
        return partial(torch.where, out=out), (mask, *values)


class _Recorder(TorchFunctionMode):
    """Records the calls made on tensors that are inputs or results of recorded calls."""

    def __init__(self) -> None:
        super().__init__()
        self.tape = Tape(_without_memory)
        self.traced = WeakIdKeyDictionary()  # by tensor; without large values, which would keep all tensors

    def add(self, traced: TracedArray) -> Any:
        """Return the tensor of an argument or a result; that of a number is a result."""
        if not isinstance(traced.value, torch.Tensor):
            traced = self.tape.record(_convert, (traced, torch.float64), {})
        self.traced[traced.value] = self.tape.forget(traced)
        return traced.value

    def find(self, leaf: Any) -> Any:
        """Return the traced array of a tensor; of other leaves, itself."""
        is_known = isinstance(leaf, torch.Tensor) and leaf in self.traced
        return self.traced[leaf].with_value(leaf) if is_known else leaf

    def __torch_function__(
        self, function: Function, _: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        traced, kwargs = tree_map(self.find, args), kwargs or {}
        result = function(*args, **kwargs)
        is_new = isinstance(result, torch.Tensor) and result is not args[0]  # else perhaps a shape or dtype
        if not is_new or function in _CONSTANTS or not is_traced(traced):
            return result
        return self.add(self.tape.record(*_simplify(function, traced, kwargs, result.dtype)))


def _simplify(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype
) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
    """Return a call with the same result, by a function that accepts an output tensor if there is one."""
    if function.__name__ == "to" and kwargs.keys() <= {"dtype", "copy"}:
        return _convert, (args[0], dtype), {}
    if function.__name__ == "__rsub__":
        function, args = torch.sub, args[::-1]
    elif function not in _ELEMENTWISE:
        function = _METHODS.get(function.__name__, function)
    if function in _ELEMENTWISE and function is not torch.where:
        like = next(x for x in untrace(args) if isinstance(x, torch.Tensor))
        args = tuple(
            torch.tensor(x, dtype=torch.result_type(like, x)) if isinstance(x, int | float) else x
            for x in args
        )
    return function, args, kwargs


def _layout(tensor: Any) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.stride()
