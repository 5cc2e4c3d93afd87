"""Trains the 784-10-10 network in one of several ways and prints the seconds of an epoch or a step.

The argument is notebook, torch, reproducible or native; with -128 behind it, in mini-batches of 128.
"""

import importlib.util
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xpnet import datasets
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.experiment import assemble
from xpnet.machine import available_cpus

EPOCHS = 10
LEARNING_RATE = 0.1


def epochs_of_notebook() -> list[float]:
    """Time the notebook's epochs."""
    path = Path(__file__).parent / "notebook_baseline.py"
    spec = importlib.util.spec_from_file_location("notebook_baseline", path)
    if spec is None or spec.loader is None:
        msg = f"{path} cannot be read"
        raise SystemExit(msg)
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    data = datasets.load()
    x, y = data.x_train.astype(np.int64).T / 255, data.y_train
    parameters = notebook.init_params()

    def epoch() -> None:
        nonlocal parameters
        z1, a1, _, a2 = notebook.forward_prop(*parameters, x)
        gradients = notebook.back_prop(z1, a1, a2, parameters[2], x, y)
        parameters = notebook.update_params(*parameters, *gradients, LEARNING_RATE)

    return timed(epoch)


def epochs_of_torch(batch_size: int | None) -> list[float]:
    """Time PyTorch's epochs, as its users write them."""
    import torch

    torch.set_num_threads(available_cpus())
    data = datasets.load()
    x = torch.tensor(data.x_train.astype(np.float32) / 255)
    y = torch.tensor(data.y_train.astype(np.int64))
    model = torch.nn.Sequential(torch.nn.Linear(784, 10), torch.nn.ReLU(), torch.nn.Linear(10, 10))
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def epoch() -> None:
        if batch_size is None:
            step(x, y)
            return
        for index in torch.randperm(len(y)).split(batch_size):
            step(x[index], y[index])

    return timed(epoch, 3 if batch_size else EPOCHS)


def epochs_of_xpnet(arithmetic: str, batch_size: int | None) -> list[float]:
    """Time xpnet's epochs on NumPy."""
    backend, marks = make("numpy", "cpu"), [time.perf_counter()]
    config = TrainConfig(
        arithmetic=arithmetic,
        epochs=5 if batch_size else EPOCHS,
        batch_size=batch_size or "full",
        log_every=10**6,
    )
    with backend.scope(), backend.workers(available_cpus()):
        experiment = assemble(config, datasets.load(), backend)
        experiment.fit(lambda *_: marks.append(time.perf_counter()))
    # What lies before the first epoch, and the first and the last one, enclose an evaluation too.
    return [b - a for a, b in itertools.pairwise(marks[2:-1])]


def timed(epoch: Callable[[], None], count: int = EPOCHS) -> list[float]:
    """Return the seconds of each epoch but the first."""
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main(name: str) -> None:
    """Time one contender."""
    who, _, size = name.partition("-")
    batch_size = int(size) if size else None
    if who == "notebook":
        seconds = epochs_of_notebook()
    elif who == "torch":
        seconds = epochs_of_torch(batch_size)
    else:
        seconds = epochs_of_xpnet(who, batch_size)
    steps = -(-60_000 // batch_size) if batch_size else 1
    print(statistics.median(seconds) / steps)


if __name__ == "__main__":
    main(sys.argv[1])
