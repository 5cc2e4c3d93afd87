"""Contenders on a GPU alone, beside those of peers.py."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import Images, Timed, Torch, initial_layers, make_wait, order_of, repeated
from benchmarks.tasks import Task


class TorchGraph(Torch):
    """Eager PyTorch, of whose step a CUDA graph is captured and replayed."""

    def _step(self, task: Task) -> Callable[[Any, Any], None]:
        cuda, step, graphs = self.torch.cuda, super()._step(task), dict[int, Any]()

        def replay(*batch: Any) -> None:
            if (size := len(batch[0])) not in graphs:
                graphs[size] = graph, *own = cuda.CUDAGraph(), *(part.clone() for part in batch)
                cuda.synchronize()
                with cuda.stream(cuda.Stream()):
                    repeated(lambda: step(*own), cuda.synchronize)(3)  # as PyTorch asks for
                with cuda.graph(graph):
                    step(*own)
            graph, *own = graphs[size]
            for part, target in zip(batch, own, strict=True):
                target.copy_(part)
            graph.replay()

        return replay


class CuPy:
    """CuPy in float32 with a backward pass by hand; a batch is ``x[index]``, of an order that is uploaded."""

    def __init__(self, data: Images, _: str = "cuda") -> None:
        import cupy

        self.cupy, self.x = cupy, cupy.asarray(data.x_train.astype(np.float32) / 255)
        self.y = cupy.eye(10, dtype=np.float32)[cupy.asarray(data.y_train)]

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        cupy, size = self.cupy, task.batch or task.rows
        layers = [[cupy.asarray(part) for part in layer] for layer in initial_layers(task)]

        def epoch() -> None:
            order = None if task.batch is None else cupy.asarray(order_of(task.rows))
            for start in range(0, task.rows, size):
                index = slice(task.rows) if order is None else order[start : start + size]
                a = [self.x[index]]
                for weight, bias in layers[:-1]:
                    a.append(cupy.maximum(a[-1] @ weight + bias, 0))
                logits = a[-1] @ layers[-1][0] + layers[-1][1]
                powers = cupy.exp(logits - logits.max(axis=1, keepdims=True))
                dz = (powers / powers.sum(axis=1, keepdims=True) - self.y[index]) / len(a[0])
                for n in reversed(range(len(a))):
                    da = (dz @ layers[n][0].T) * (a[n] > 0) if n else None
                    layers[n][0] -= task.learning_rate * (a[n].T @ dz)
                    layers[n][1] -= task.learning_rate * dz.sum(axis=0)
                    dz = da

        return repeated(epoch, make_wait("cupy", "cuda"))
