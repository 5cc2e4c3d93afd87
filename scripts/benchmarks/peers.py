"""The other contenders: the notebook's code, PyTorch, JAX and scikit-learn, as their users write them.

Each class is made of the images. ``training(task)`` and ``inference(task)`` return a function from a
number of passes to the seconds that they took. All but scikit-learn train from
``initial_layers``, and in a new order in each epoch.
"""

import gzip
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks import FOLDS, TABLE_BATCH, TABLE_EPOCHS, Task

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


def initial_layers(task: Task) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the weights (inputs, units) and biases (units,) that a network starts with."""
    random, layers = np.random.default_rng(0), []
    for inputs, units in pairwise(task.sizes):
        bound = inputs**-0.5
        weight = random.uniform(-bound, bound, (inputs, units)).astype(np.float32)
        layers.append((weight, np.zeros(units, np.float32)))
    return layers


def order_of(rows: int) -> NDArray[np.int64]:
    """Return the order of the samples in a new epoch."""
    return np.random.default_rng().permutation(rows)


def cross_validated(classifier: Any, task: Task) -> Timed:
    """Return what times a cross-validation of a classifier on a table of scikit-learn."""
    from sklearn import datasets
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = getattr(datasets, f"load_{task.table}")(return_X_y=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return repeated(lambda: cross_val_score(classifier, x.astype(np.float32), y, cv=folds))


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
        (w1, b1), (w2, b2) = [(w.astype(float).T, b[:, None].astype(float)) for w, b in initial_layers(task)]
        self.parameters = w1, b1, w2, b2

        def step(images: Any, labels: Any) -> None:
            z1, a1, _, a2 = call.forward_prop(*self.parameters, images)
            gradients = call.back_prop(z1, a1, a2, self.parameters[2], images, labels)
            self.parameters = call.update_params(*self.parameters, *gradients, task.learning_rate)

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in batches(order_of(len(y)), task.batch):
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
        step = self._step(task)
        x, y = self.x[: task.rows], self.y[: task.rows]

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in self.order_of(len(y)).split(task.batch):
                step(x[index], y[index])

        return repeated(epoch)

    def order_of(self, rows: int) -> Any:
        """Return the order of the samples in a new epoch."""
        return self.torch.randperm(rows, device=self.device)

    def _step(self, task: Task) -> Callable[[Any, Any], None]:
        """Return a training step."""
        if task.recipe is not None:
            return self._recipe_step(task)
        torch, model = self.torch, self._model(task)
        optimizer = torch.optim.SGD(model.parameters(), task.learning_rate)
        loss = torch.nn.functional.cross_entropy

        def step(images: Any, labels: Any) -> None:
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()

        return step

    def _recipe_step(self, task: Task) -> Callable[[Any, Any], None]:
        """Return a training step of the recipe dropout-1024: ``Dropout``, ``BatchNorm1d`` and ``Adam``."""
        torch, nn = self.torch, self.torch.nn
        layers: list[Any] = [nn.Dropout(0.2)]
        for inputs, units in pairwise(task.sizes[:-1]):
            layers += [
                nn.Linear(inputs, units, bias=False),
                nn.BatchNorm1d(units),
                nn.ReLU(),
                nn.Dropout(0.4),
            ]
        model = nn.Sequential(*layers, nn.Linear(*task.sizes[-2:])).to(self.device)
        weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
        optimizer = torch.optim.Adam(model.parameters(), 0.003)
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        forward = torch.compile(model, dynamic=False) if self.compiled else model

        def step(images: Any, labels: Any) -> None:
            optimizer.zero_grad()
            loss(forward(images), labels).backward()
            optimizer.step()
            with torch.no_grad():
                for weight in weights:
                    weight.copy_(torch.renorm(weight, 2, 0, 3.0))  # the norm of each unit is at most 3

        return step

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
        for weight, bias in initial_layers(task):
            linear = nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = self.torch.tensor(weight.T), self.torch.tensor(bias)
            layers += [linear, nn.ReLU()]
        model = nn.Sequential(*layers[:-1]).to(self.device)
        self.parameters = list(model.parameters())
        return self.torch.compile(model, dynamic=False) if self.compiled else model


class TorchCompiled(Torch):
    """The same, with ``torch.compile(model)``."""

    compiled = True


class Jax:
    """JAX: ``jit`` of ``grad`` and the update, parameters donated, ``x[index]`` inside."""

    def __init__(self, data: Images) -> None:
        import jax

        self.jax = jax
        self.x = jax.numpy.asarray(data.x_train.astype(np.float32) / 255)
        self.y = jax.numpy.asarray(data.y_train)
        self.x_test = jax.numpy.asarray(data.x_test.astype(np.float32) / 255)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        jax, step = self.jax, self._step(task)
        self.parameters = self._start(task)
        x, y = self.x[: task.rows], self.y[: task.rows]
        full_step = jax.jit(step, donate_argnums=0)
        batch_step = jax.jit(lambda p, x, y, index: step(p, x[index], y[index]), donate_argnums=0)

        def epoch() -> None:
            if task.batch is None:
                self.parameters = full_step(self.parameters, x, y)
                return
            for index in batches(order_of(len(y)), task.batch):
                self.parameters = batch_step(self.parameters, x, y, index)

        return repeated(epoch, lambda: jax.block_until_ready(self.parameters))

    def _step(self, task: Task) -> Callable[[Any, Any, Any], Any]:
        """Return the function from parameters, images and labels to the parameters after a step."""
        jax = self.jax

        def loss(parameters: Any, images: Any, labels: Any) -> Any:
            logits = jax.nn.log_softmax(self._logits(parameters, images))
            return -jax.numpy.mean(jax.numpy.take_along_axis(logits, labels[:, None], axis=1))

        def step(parameters: Any, images: Any, labels: Any) -> Any:
            gradients = jax.grad(loss)(parameters, images, labels)
            return jax.tree.map(lambda p, g: p - task.learning_rate * g, parameters, gradients)

        return step

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        parameters, x = self._start(task), self.x_test[: task.rows]
        predict = self.jax.jit(lambda p, x: self._logits(p, x).argmax(1))
        return repeated(lambda: predict(parameters, x).block_until_ready())

    def _start(self, task: Task) -> Any:
        """Return the parameters that a network starts with."""
        return self.jax.device_put(initial_layers(task))

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
            self.model = self._model(task, passes)
            begin = time.perf_counter()
            self.model.fit(x, y)
            return time.perf_counter() - begin

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times ``predict``."""
        model = self._model(task, 1).fit(self.x[:1000], self.y[:1000])
        x = self.x_test[: task.rows]
        return repeated(lambda: model.predict(x))

    def validation(self, task: Task) -> Timed:
        """Return what times a cross-validation, with ``StandardScaler`` before the network."""
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        network = MLPClassifier(
            hidden_layer_sizes=task.hidden,
            alpha=0,
            batch_size=TABLE_BATCH,
            learning_rate_init=task.learning_rate,
            max_iter=TABLE_EPOCHS,
            tol=0,
            n_iter_no_change=10**9,
        )
        return cross_validated(make_pipeline(StandardScaler(), network), task)

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


def _as_notebook(pixels: Any) -> Any:
    """Return pixels as the notebook has them: one image a column, of the integers that pandas reads."""
    return pixels.astype(np.int64).T / 255
