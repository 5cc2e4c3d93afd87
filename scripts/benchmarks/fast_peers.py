"""The fastest forms of the peers: PyTorch without autograd, and JAX with an epoch as one function."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import Images, Jax, Timed, Torch, initial_layers, order_of, repeated
from benchmarks.tasks import Task


class TorchManual(Torch):
    """PyTorch with a backward pass by hand: results in arrays made once, updates in place."""

    def __init__(self, data: Images, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.one_hot = self.torch.nn.functional.one_hot(self.y, 10).to(self.x.dtype)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        torch, step = self.torch, self._manual_step(task)
        x, y = self.x[: task.rows], self.one_hot[: task.rows]

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in self.order_of(len(y)).split(task.batch):
                step(x.index_select(0, index), y.index_select(0, index))

        return repeated(torch.inference_mode()(epoch))

    def _manual_step(self, task: Task) -> Callable[[Any, Any], None]:
        """Return a training step on images and one-hot labels."""
        torch = self.torch
        layers = [tuple(map(torch.tensor, layer)) for layer in initial_layers(task)]
        self.parameters = [array for layer in layers for array in layer]
        results: dict[int, list[Any]] = {}  # by size of the batch

        def step(images: Any, labels: Any) -> None:
            size = len(images)
            if size not in results:
                results[size] = [torch.empty(size, len(bias)) for _, bias in layers]
            activations = [images, *results[size]]
            for (weight, bias), a, z in zip(layers, activations, results[size], strict=False):
                torch.addmm(bias, a, weight, out=z)
                if z is not activations[-1]:
                    z.relu_()
            dz = torch.softmax(activations[-1], 1).sub_(labels)
            rate = -task.learning_rate / size
            for (weight, bias), a in zip(reversed(layers), reversed(activations[:-1]), strict=True):
                da = None if a is images else torch.mm(dz, weight.T).mul_(a > 0)
                weight.addmm_(a.T, dz, alpha=rate)
                bias.add_(dz.sum(0), alpha=rate)
                dz = da

        return step


class JaxScan(Jax):
    """JAX with an epoch as one ``jit``: ``lax.scan`` over the order of its batches, images taken inside.

    It has the form that takes the least time: weights are (units, inputs), and images bytes that a step
    widens, but float32 in a full batch.
    """

    def __init__(self, data: Images) -> None:
        super().__init__(data)
        self.pixels = self.jax.numpy.asarray(data.x_train)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        if task.batch is None:
            return super().training(task)
        jax, step, rows, batch = self.jax, self._step(task), task.rows, task.batch
        x, y, whole = self.pixels[:rows], self.y[:rows], rows - rows % batch
        self.parameters = self._start(task)

        def epoch(parameters: Any, x: Any, y: Any, order: Any) -> Any:
            def body(parameters: Any, index: Any) -> Any:
                return step(parameters, x[index].astype(np.float32) * (1 / 255), y[index]), None

            parameters, _ = jax.lax.scan(body, parameters, order[:whole].reshape(-1, batch))
            return parameters if whole == rows else body(parameters, order[whole:])[0]

        compiled = jax.jit(epoch, donate_argnums=0)

        def once() -> None:
            self.parameters = compiled(self.parameters, x, y, order_of(rows).astype(np.int32))

        return repeated(once, lambda: jax.block_until_ready(self.parameters))

    def _start(self, task: Task) -> Any:
        """Return the parameters that a network starts with, weights (units, inputs)."""
        return [(weight.T, bias) for weight, bias in super()._start(task)]

    def _logits(self, parameters: Any, a: Any) -> Any:
        return super()._logits([(weight.T, bias) for weight, bias in parameters], a)
