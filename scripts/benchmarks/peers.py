"""The other contenders: the notebook's code, PyTorch, JAX and scikit-learn, as their users write them.

Each class is made of the images. ``training(task)`` and ``inference(task)`` return a function from a
number of passes to the seconds that they took. All but scikit-learn train from
``initial_layers``, and in a new order in each epoch.
"""

import gzip
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from checkout import ROOT
from numpy.typing import NDArray

from benchmarks.tasks import FOLDS, TABLE_BATCH, TABLE_EPOCHS, Task

Timed = Callable[[int], float]


class Images(NamedTuple):
    """MNIST: pixels (m, 784) and labels (m,)."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int32]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int32]

    def resized(self, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return the first ``rows`` training images and labels, repeated if there are too few."""
        index = slice(rows) if rows <= len(self.y_train) else np.arange(rows) % len(self.y_train)
        return self.x_train[index], self.y_train[index]


def images() -> Images:
    """Return MNIST, read without xpnet: the contender may be another version of it."""

    def values(name: str, header: int) -> NDArray[np.uint8]:
        content = gzip.decompress((ROOT / "data" / "mnist" / name).read_bytes())
        return np.frombuffer(content, np.uint8, offset=header)

    halves: list[NDArray[Any]] = []
    for half in ("train", "t10k"):
        labels = values(f"{half}-labels-idx1-ubyte.gz", 8).astype(np.int32)
        halves += [values(f"{half}-images-idx3-ubyte.gz", 16).reshape(len(labels), -1), labels]
    return Images(*halves)


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


def batches(task: Task) -> Sequence[Any]:
    """Return a new order of the samples in mini-batches; the last one may be short."""
    order, size = order_of(task.rows), task.batch or task.rows
    return [order[start : start + size] for start in range(0, task.rows, size)]


def epochs(
    task: Task,
    full_step: Callable[[], object],
    batch_step: Callable[[Any], object],
    batches: Callable[[Task], Sequence[Any]] = batches,
    finish: Callable[[], object] = lambda: None,
) -> Timed:
    """Return what times epochs of one ``full_step``, or of a ``batch_step`` for each of new mini-batches."""

    def epoch() -> None:
        if task.batch is None:
            full_step()
            return
        for index in batches(task):
            batch_step(index)

    return repeated(epoch, finish)


def cross_validated(classifier: Any, task: Task) -> Timed:
    """Return what times a cross-validation of a classifier on a table of scikit-learn."""
    from sklearn import datasets
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = getattr(datasets, f"load_{task.table}")(return_X_y=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return repeated(lambda: cross_val_score(classifier, x.astype(np.float32), y, cv=folds))


class Notebook:
    """The notebook's functions in float64; a mini-batch, which it does not have, is ``X[:, index]``."""

    def __init__(self, data: Images) -> None:
        from benchmarks import notebook  # loads pandas, which the others do without

        self.functions = notebook
        self.data = data

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        call = self.functions
        x, y = _as_columns(self.data.x_train[: task.rows]), self.data.y_train[: task.rows]
        (w1, b1), (w2, b2) = [(w.astype(float).T, b[:, None].astype(float)) for w, b in initial_layers(task)]
        self.parameters = w1, b1, w2, b2

        def step(images: Any, labels: Any) -> None:
            z1, a1, _, a2 = call.forward_prop(*self.parameters, images)
            gradients = call.back_prop(z1, a1, a2, self.parameters[2], images, labels)
            self.parameters = call.update_params(*self.parameters, *gradients, task.learning_rate)

        return epochs(task, lambda: step(x, y), lambda index: step(x[:, index], y[index]))

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        call, parameters = self.functions, self.functions.init_params()
        x = _as_columns(self.data.x_test[: task.rows])
        return repeated(lambda: call.get_predictions(call.forward_prop(*parameters, x)[3]))


def _as_columns(pixels: Any) -> Any:
    """Return pixels as the notebook has them: one image a column, of the integers that pandas reads."""
    return pixels.astype(np.int64).T / 255


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
        step = self._step(task) if task.recipe is None else self._recipe_step(task)
        x, y = self.x[: task.rows], self.y[: task.rows]
        return epochs(task, lambda: step(x, y), lambda index: step(x[index], y[index]), self.batches)

    def batches(self, task: Task) -> Sequence[Any]:
        """Return a new order of the samples in mini-batches."""
        batches: Sequence[Any] = self.torch.randperm(task.rows, device=self.device).split(task.batch)
        return batches

    def _step(self, task: Task) -> Callable[[Any, Any], None]:
        """Return a training step."""
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
            linear = nn.Linear(inputs, units, bias=False)
            layers += [linear, nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(0.4)]
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
        return repeated(self.torch.inference_mode()(lambda: model(x).argmax(1)))

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


class TorchManual(Torch):
    """PyTorch with a backward pass by hand: results in arrays made once, updates in place."""

    def __init__(self, data: Images, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.y = self.torch.nn.functional.one_hot(self.y, 10).to(self.x.dtype)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        no_graph, step = self.torch.inference_mode(), self._step(task)
        x, y = self.x[: task.rows], self.y[: task.rows]

        def batch_step(index: Any) -> None:
            step(x.index_select(0, index), y.index_select(0, index))

        return no_graph(epochs(task, lambda: step(x, y), batch_step, self.batches))

    def _step(self, task: Task) -> Callable[[Any, Any], None]:
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


class Jax:
    """JAX: ``jit`` of ``grad`` and the update, parameters donated, ``x[index]`` inside.

    Weights are (units, inputs), which takes less time than (inputs, units).
    """

    def __init__(self, data: Images) -> None:
        import jax

        self.jax = jax
        self.x = jax.numpy.asarray(data.x_train.astype(np.float32) / 255)
        self.y = jax.numpy.asarray(data.y_train)
        self.x_test = jax.numpy.asarray(data.x_test.astype(np.float32) / 255)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        x, y, step = self.x[: task.rows], self.y[: task.rows], self._step(task)
        full_step = self.jax.jit(step, donate_argnums=0)
        batch_step = self.jax.jit(lambda p, x, y, index: step(p, x[index], y[index]), donate_argnums=0)

        def take_step(compiled: Any, *index: Any) -> None:
            self.parameters = compiled(self.parameters, x, y, *index)

        return epochs(
            task, partial(take_step, full_step), partial(take_step, batch_step), finish=self._finish
        )

    def _step(self, task: Task) -> Callable[[Any, Any, Any], Any]:
        """Return the function from parameters, images and labels to the parameters after a step."""
        jax, self.parameters = self.jax, self._start(task)

        def loss(parameters: Any, images: Any, labels: Any) -> Any:
            logarithms = jax.nn.log_softmax(self._logits(parameters, images))
            return -logarithms[jax.numpy.arange(len(labels)), labels].mean()

        def step(parameters: Any, images: Any, labels: Any) -> Any:
            gradients = jax.grad(loss)(parameters, images, labels)
            return jax.tree.map(lambda p, g: p - task.learning_rate * g, parameters, gradients)

        return step

    def _finish(self) -> None:
        self.jax.block_until_ready(self.parameters)

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        parameters, x = self._start(task), self.x_test[: task.rows]
        predict = self.jax.jit(lambda p, x: self._logits(p, x).argmax(1))
        return repeated(lambda: predict(parameters, x).block_until_ready())

    def _start(self, task: Task) -> Any:
        """Return the parameters that a network starts with."""
        return self.jax.device_put([(weight.T, bias) for weight, bias in initial_layers(task)])

    def _logits(self, parameters: Any, a: Any) -> Any:
        for weight, bias in parameters[:-1]:
            a = self.jax.nn.relu(a @ weight.T + bias)
        weight, bias = parameters[-1]
        return a @ weight.T + bias


class JaxScan(Jax):
    """JAX with an epoch as one ``jit``: ``lax.scan`` over the order of its batches, images taken inside.

    Images are bytes that a step widens, but float32 in a full batch: of the forms tried the fastest.
    """

    def __init__(self, data: Images) -> None:
        super().__init__(data)
        self.pixels = self.jax.numpy.asarray(data.x_train)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        if task.batch is None:
            return super().training(task)
        rows, batch, step = task.rows, task.batch, self._step(task)
        x, y, whole = self.pixels[:rows], self.y[:rows], rows - rows % batch

        def epoch(parameters: Any, x: Any, y: Any, order: Any) -> Any:
            def body(parameters: Any, index: Any) -> Any:
                return step(parameters, x[index].astype(np.float32) * (1 / 255), y[index]), None

            parameters, _ = self.jax.lax.scan(body, parameters, order[:whole].reshape(-1, batch))
            return parameters if whole == rows else body(parameters, order[whole:])[0]

        compiled = self.jax.jit(epoch, donate_argnums=0)

        def once() -> None:
            self.parameters = compiled(self.parameters, x, y, order_of(rows).astype(np.int32))

        return repeated(once, self._finish)


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
            self.model = self._model(task, passes, **PLAIN_DESCENT)
            begin = time.perf_counter()
            self.model.fit(x, y)
            return time.perf_counter() - begin

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times ``predict``."""
        model = self._model(task, 1, **PLAIN_DESCENT).fit(self.x[:1000], self.y[:1000])
        x = self.x_test[: task.rows]
        return repeated(lambda: model.predict(x))

    def validation(self, task: Task) -> Timed:
        """Return what times a cross-validation, with ``StandardScaler`` before the network."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        network = self._model(task, TABLE_EPOCHS, batch_size=TABLE_BATCH)
        return cross_validated(make_pipeline(StandardScaler(), network), task)

    def _model(self, task: Task, epochs: int, **settings: Any) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(
            hidden_layer_sizes=task.hidden,
            alpha=0,
            learning_rate_init=task.learning_rate,
            max_iter=epochs,
            tol=0,
            n_iter_no_change=10**9,
            **({"batch_size": task.batch or "auto"} | settings),
        )


PLAIN_DESCENT = {"solver": "sgd", "momentum": 0, "nesterovs_momentum": False}
