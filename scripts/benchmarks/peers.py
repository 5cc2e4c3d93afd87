"""The other contenders: the notebook's code, PyTorch, JAX and scikit-learn, as their users write them.

Each class is made of the images. ``training(task)`` and ``inference(task)`` return a function from a
number of passes to the seconds that they took.
"""

import gzip
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks import Task

Timed = Callable[[int], float]

MNIST = Path(__file__).resolve().parents[2] / "data" / "mnist"


class Images(NamedTuple):
    """MNIST: pixels (m, 784) and labels (m,)."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int32]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int32]


def images() -> Images:
    """Return MNIST, read without xpnet: the contender may be another version of it."""

    def values(name: str, header: int) -> NDArray[np.uint8]:
        content = gzip.decompress((MNIST / name).read_bytes())
        return np.frombuffer(content, np.uint8, offset=header)

    halves: list[NDArray[Any]] = []
    for half in ("train", "t10k"):
        labels = values(f"{half}-labels-idx1-ubyte.gz", 8).astype(np.int32)
        halves += [values(f"{half}-images-idx3-ubyte.gz", 16).reshape(len(labels), -1), labels]
    return Images(*halves)


class Contender(Protocol):
    """Something that trains networks and predicts with them."""

    def training(self, task: Task) -> Timed:
        """Return what times epochs of training."""

    def inference(self, task: Task) -> Timed:
        """Return what times predictions for the test images."""


def repeated(once: Callable[[], object], finish: Callable[[], object] = lambda: None) -> Timed:
    """Return what times so many calls of ``once`` and then one of ``finish``."""

    def run(passes: int) -> float:
        begin = time.perf_counter()
        for _ in range(passes):
            once()
        finish()
        return time.perf_counter() - begin

    return run


def batches(order: Any, size: int) -> list[Any]:
    """Return an order of samples in pieces of ``size``; the last one may be short."""
    return [order[start : start + size] for start in range(0, len(order), size)]


class Notebook:
    """The notebook's functions in float64; a mini-batch, which it does not have, is ``X[:, index]``."""

    def __init__(self, data: Images) -> None:
        from benchmarks import notebook  # loads pandas, which the others do without

        self.functions = notebook
        self.data = data

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        call = self.functions
        x, y = _as_notebook(self.data.x_train[: task.rows]), self.data.y_train[: task.rows]
        parameters = call.init_params()

        def step(images: Any, labels: Any) -> None:
            nonlocal parameters
            z1, a1, _, a2 = call.forward_prop(*parameters, images)
            gradients = call.back_prop(z1, a1, a2, parameters[2], images, labels)
            parameters = call.update_params(*parameters, *gradients, task.learning_rate)

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in batches(np.random.default_rng().permutation(len(y)), task.batch):
                step(x[:, index], y[index])

        return repeated(epoch)

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        call, parameters = self.functions, self.functions.init_params()
        x = _as_notebook(self.data.x_test[: task.rows])
        return repeated(lambda: call.get_predictions(call.forward_prop(*parameters, x)[3]))


class Torch:
    """PyTorch with autograd and ``torch.optim.SGD``; a batch is ``x[index]``."""

    compiled = False

    def __init__(self, data: Images, device: str = "cpu") -> None:
        import torch

        self.torch, self.device = torch, device
        self.x = torch.tensor(data.x_train.astype(np.float32) / 255, device=device)
        self.y = torch.tensor(data.y_train.astype(np.int64), device=device)
        self.x_test = torch.tensor(data.x_test.astype(np.float32) / 255, device=device)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        torch, model = self.torch, self._model(task)
        x, y = self.x[: task.rows], self.y[: task.rows]
        optimizer = torch.optim.SGD(model.parameters(), task.learning_rate)
        loss = torch.nn.functional.cross_entropy

        def step(images: Any, labels: Any) -> None:
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in torch.randperm(len(y), device=self.device).split(task.batch):
                step(x[index], y[index])

        return repeated(epoch)

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        model, x = self._model(task), self.x_test[: task.rows]

        def once() -> None:
            with self.torch.inference_mode():
                model(x).argmax(1)

        return repeated(once)

    def _model(self, task: Task) -> Any:
        nn = self.torch.nn
        layers: list[Any] = []
        for inputs, units in zip(task.sizes, task.sizes[1:], strict=False):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
        model = nn.Sequential(*layers[:-1]).to(self.device)
        return self.torch.compile(model, dynamic=False) if self.compiled else model


class TorchCompiled(Torch):
    """The same, with ``torch.compile(model)``."""

    compiled = True


class Jax:
    """JAX: ``jit`` of ``value_and_grad`` and the update, parameters donated, ``x[index]`` inside."""

    def __init__(self, data: Images) -> None:
        import jax

        self.jax = jax
        self.x = jax.numpy.asarray(data.x_train.astype(np.float32) / 255)
        self.y = jax.numpy.asarray(data.y_train)
        self.x_test = jax.numpy.asarray(data.x_test.astype(np.float32) / 255)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        jax, parameters = self.jax, self._parameters(task)
        x, y = self.x[: task.rows], self.y[: task.rows]

        def loss(parameters: Any, images: Any, labels: Any) -> Any:
            logits = jax.nn.log_softmax(self._logits(parameters, images))
            return -jax.numpy.mean(jax.numpy.take_along_axis(logits, labels[:, None], axis=1))

        def step(parameters: Any, images: Any, labels: Any) -> Any:
            value, gradients = jax.value_and_grad(loss)(parameters, images, labels)
            updated = jax.tree.map(lambda p, g: p - task.learning_rate * g, parameters, gradients)
            return updated, value

        @partial(jax.jit, donate_argnums=0)
        def batch_step(parameters: Any, x: Any, y: Any, index: Any) -> Any:
            return step(parameters, x[index], y[index])

        full_step = jax.jit(step, donate_argnums=0)

        def epoch() -> None:
            nonlocal parameters
            if task.batch is None:
                parameters, _ = full_step(parameters, x, y)
                return
            for index in batches(np.random.default_rng().permutation(len(y)), task.batch):
                parameters, _ = batch_step(parameters, x, y, index)

        return repeated(epoch, lambda: jax.block_until_ready(parameters))

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        parameters, x = self._parameters(task), self.x_test[: task.rows]
        predict = self.jax.jit(lambda p, x: self._logits(p, x).argmax(1))
        return repeated(lambda: predict(parameters, x).block_until_ready())

    def _parameters(self, task: Task) -> list[Any]:
        random, layers = np.random.default_rng(0), []
        for inputs, units in zip(task.sizes, task.sizes[1:], strict=False):
            bound = inputs**-0.5
            weight = random.uniform(-bound, bound, (inputs, units)).astype(np.float32)
            layers.append(self.jax.device_put((weight, np.zeros(units, np.float32))))
        return layers

    def _logits(self, parameters: Any, a: Any) -> Any:
        for weight, bias in parameters[:-1]:
            a = self.jax.nn.relu(a @ weight + bias)
        weight, bias = parameters[-1]
        return a @ weight + bias


class ScikitLearn:
    """``MLPClassifier(solver="sgd", momentum=0, alpha=0)``; its checks of the data are in its time."""

    def __init__(self, data: Images) -> None:
        from sklearn.exceptions import ConvergenceWarning

        warnings.simplefilter("ignore", ConvergenceWarning)
        self.x, self.y = data.x_train.astype(np.float32) / 255, data.y_train
        self.x_test = data.x_test.astype(np.float32) / 255

    def training(self, task: Task) -> Timed:
        """Return what times ``fit``."""
        x, y = self.x[: task.rows], self.y[: task.rows]

        def run(passes: int) -> float:
            model = self._model(task, passes)
            begin = time.perf_counter()
            model.fit(x, y)
            return time.perf_counter() - begin

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times ``predict``."""
        model = self._model(task, 1).fit(self.x[:1000], self.y[:1000])
        x = self.x_test[: task.rows]
        return repeated(lambda: model.predict(x))

    def _model(self, task: Task, epochs: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(
            hidden_layer_sizes=task.hidden,
            solver="sgd",
            momentum=0,
            nesterovs_momentum=False,
            alpha=0,
            batch_size=task.batch or "auto",
            learning_rate_init=task.learning_rate,
            max_iter=epochs,
            tol=0,
            n_iter_no_change=10**9,
        )


MAKERS: dict[str, Callable[[Images], Contender]] = {
    "notebook": Notebook,
    "torch": Torch,
    "torch-compile": TorchCompiled,
    "jax": Jax,
    "sklearn": ScikitLearn,
}


def _as_notebook(pixels: Any) -> Any:
    """Return pixels as the notebook has them: one image a column, of the integers that pandas reads."""
    return pixels.astype(np.int64).T / 255
