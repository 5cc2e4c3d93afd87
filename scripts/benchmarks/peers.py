"""The other contenders: the notebook's code, PyTorch, JAX and scikit-learn, as their users write them.

Each class is made of the images. ``training(task)`` and ``inference(task)`` return a function from a number
of passes to their seconds. All but scikit-learn train from ``initial_layers``, in each epoch in a new order.
"""

import gzip
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from checkout import ROOT
from numpy.typing import NDArray

from benchmarks.runs import seconds
from benchmarks.tasks import FOLDS, TABLE_EPOCHS, Task

Timed = Callable[[int], float]
WAITED = [0.0]
"""The seconds that the last wait for a GPU took."""


class Images(NamedTuple):
    """MNIST: pixels (m, 784) and labels (m,)."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int32]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int32]


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


def make_wait(library: str, device: str = "cpu") -> Callable[[], object]:
    """Return what waits until a library has computed everything: JAX and GPUs return before that."""
    if library == "jax":
        import jax

        return lambda: wait(lambda: jax.block_until_ready(jax.live_arrays()))
    if device == "cpu":
        return lambda: None
    if library == "cupy":
        import cupy

        return lambda: wait(cupy.cuda.Device().synchronize)
    import torch

    return lambda: wait(torch.cuda.synchronize)


def wait(finish: Callable[[], object]) -> None:
    """Wait for a GPU, and keep in ``WAITED`` how long that took."""
    WAITED[0] = seconds(finish)


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


class Notebook:
    """The notebook's functions in float64; a mini-batch, which it does not have, is ``X[:, index]``."""

    def __init__(self, data: Images) -> None:
        from benchmarks import notebook  # loads pandas, which the others do without

        self.functions = notebook
        self.data = data

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        call = self.functions
        x, y = self._columns(self.data.x_train[: task.rows]), self.data.y_train[: task.rows]
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
            order = order_of(task.rows)
            for start in range(0, task.rows, task.batch):
                index = order[start : start + task.batch]
                step(x[:, index], y[index])

        return repeated(epoch)

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        call, parameters = self.functions, self.functions.init_params()
        x = self._columns(self.data.x_test[: task.rows])
        return repeated(lambda: call.get_predictions(call.forward_prop(*parameters, x)[3]))

    def _columns(self, pixels: Any) -> Any:
        """Return pixels as the notebook has them: one image a column, of the integers that pandas reads."""
        return pixels.astype(np.int64).T / 255


class Torch:
    """PyTorch with autograd and ``torch.optim.SGD``; a batch is ``x.index_select(0, index)``."""

    compiled = False

    def __init__(self, data: Images, device: str = "cpu") -> None:
        import torch

        self.torch, self.device = torch, device
        self.x = torch.tensor(data.x_train.astype(np.float32) / 255, device=device)
        self.y = torch.tensor(data.y_train.astype(np.int64), device=device)
        self.x_test = torch.tensor(data.x_test.astype(np.float32) / 255, device=device)

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        x, y, step = self.x[: task.rows], self.y[: task.rows], self._step(task)

        def epoch() -> None:
            if task.batch is None:
                step(x, y)
                return
            for index in self.batches(task):
                step(x.index_select(0, index), y.index_select(0, index))

        return repeated(epoch, make_wait("torch", self.device))

    def batches(self, task: Task) -> Sequence[Any]:
        """Return a new order of the samples in mini-batches."""
        batches: Sequence[Any] = self.torch.randperm(task.rows, device=self.device).split(task.batch)
        return batches

    def _step(self, task: Task) -> Callable[[Any, Any], None]:
        """Return a training step on images and labels."""
        torch, nn = self.torch, self.torch.nn
        model = self._model(task) if task.recipe is None else self._recipe_model(task)
        limited = (
            [] if task.recipe is None else [each.weight for each in model if isinstance(each, nn.Linear)]
        )
        if task.recipe is None:
            optimizer, loss = torch.optim.SGD(model.parameters(), task.learning_rate), nn.CrossEntropyLoss()
        else:
            optimizer = torch.optim.Adam(model.parameters(), 0.003)
            loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        forward = self._compile(model)

        def step(images: Any, labels: Any) -> None:
            optimizer.zero_grad()
            loss(forward(images), labels).backward()
            optimizer.step()
            for weight in limited:  # the norm of each unit is at most 3
                weight.data.copy_(torch.renorm(weight.data, 2, 0, 3.0))

        return step

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        model, x = self._compile(self._model(task)), self.x_test[: task.rows]
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
        return model

    def _recipe_model(self, task: Task) -> Any:
        """Return the network of the recipe dropout-1024."""
        nn = self.torch.nn
        layers: list[Any] = [nn.Dropout(0.2)]
        for inputs, units in pairwise(task.sizes[:-1]):
            linear = nn.Linear(inputs, units, bias=False)
            layers += [linear, nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(0.4)]
        return nn.Sequential(*layers, nn.Linear(*task.sizes[-2:])).to(self.device)

    def _compile(self, model: Any) -> Any:
        mode = None if self.device == "cpu" else "reduce-overhead"  # which replays CUDA graphs
        return self.torch.compile(model, dynamic=False, mode=mode) if self.compiled else model


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
        timed: Timed = self.torch.inference_mode()(super().training(task))
        return timed

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
    """JAX: an epoch of mini-batches as one ``jit`` of ``lax.scan`` over their order.

    Pixels are bytes that a step widens, but float32 in a full batch; images of small batches are gathered
    before the loop, of others inside; and weights are (units, inputs): of the forms tried the fastest.
    """

    def __init__(self, data: Images, device: str = "cpu") -> None:
        import jax

        if device != "cpu":  # products of float32 in full
            jax.config.update("jax_default_matmul_precision", "highest")
        self.jax = jax
        self.x, self.y, self.x_test = map(jax.numpy.asarray, (data.x_train, data.y_train, data.x_test))

    def training(self, task: Task) -> Timed:
        """Return what times epochs."""
        jax, rows, batch = self.jax, task.rows, task.batch
        x, y, self.parameters = self.x[:rows], self.y[:rows], self._start(task)
        x = self._widen(x) if batch is None else x

        def loss(parameters: Any, images: Any, labels: Any) -> Any:
            logarithms = jax.nn.log_softmax(self._logits(parameters, images))
            return -logarithms[jax.numpy.arange(len(labels)), labels].mean()

        def step(parameters: Any, images: Any, labels: Any) -> Any:
            gradients = jax.grad(loss)(parameters, images, labels)
            return jax.tree.map(lambda p, g: p - task.learning_rate * g, parameters, gradients)

        def epoch(parameters: Any, x: Any, y: Any, order: Any) -> Any:
            if batch is None:
                return step(parameters, x, y)

            def of_images(parameters: Any, samples: Any) -> Any:
                images, labels = samples
                return step(parameters, self._widen(images), labels), None

            def of_indices(parameters: Any, index: Any) -> Any:
                return of_images(parameters, (x[index], y[index]))

            whole = rows - rows % batch
            indices = order[:whole].reshape(-1, batch)
            if batch < 128:
                parameters, _ = jax.lax.scan(of_images, parameters, (x[indices], y[indices]))
            else:
                parameters, _ = jax.lax.scan(of_indices, parameters, indices)
            return parameters if whole == rows else of_indices(parameters, order[whole:])[0]

        compiled = jax.jit(epoch, donate_argnums=0)

        def once() -> None:
            order = None if batch is None else order_of(rows).astype(np.int32)
            self.parameters = compiled(self.parameters, x, y, order)

        return repeated(once, make_wait("jax"))

    def inference(self, task: Task) -> Timed:
        """Return what times predictions."""
        parameters, x = self._start(task), self._widen(self.x_test[: task.rows])
        predict = self.jax.jit(lambda p, x: self._logits(p, x).argmax(1))
        return repeated(lambda: predict(parameters, x).block_until_ready())

    def _start(self, task: Task) -> Any:
        """Return the parameters that a network starts with."""
        return self.jax.device_put([(weight.T, bias) for weight, bias in initial_layers(task)])

    def _widen(self, pixels: Any) -> Any:
        return pixels.astype(np.float32) * (1 / 255)

    def _logits(self, parameters: Any, a: Any) -> Any:
        for weight, bias in parameters[:-1]:
            a = self.jax.nn.relu(a @ weight.T + bias)
        weight, bias = parameters[-1]
        return a @ weight.T + bias


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
            return seconds(lambda: self.model.fit(x, y))

        return run

    def inference(self, task: Task) -> Timed:
        """Return what times ``predict``."""
        model, x = self._model(task, 1).fit(self.x[:1000], self.y[:1000]), self.x_test[: task.rows]
        return repeated(lambda: model.predict(x))

    def validation(self, task: Task) -> Timed:
        """Return what times a cross-validation with Adam, and ``StandardScaler`` before the network."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        network = self._model(task, TABLE_EPOCHS, solver="adam")
        return cross_validated(make_pipeline(StandardScaler(), network), task)

    def _model(self, task: Task, epochs: int, solver: str = "sgd") -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(
            hidden_layer_sizes=task.hidden,
            solver=solver,
            momentum=0,
            nesterovs_momentum=False,
            alpha=0,
            learning_rate_init=task.learning_rate,
            batch_size=task.batch or "auto",
            max_iter=epochs,
            tol=0,
            n_iter_no_change=10**9,
        )
