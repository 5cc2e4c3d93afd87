"""From settings, data and a backend to a network that is ready to be trained."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xpnet import rng
from xpnet.arithmetic import ARITHMETICS, Reproducible, selfcheck
from xpnet.arithmetic.reproducible import check_budgets
from xpnet.backends import environment
from xpnet.backends.base import cuda_index
from xpnet.blocks import BLOCK_SIZE
from xpnet.checkpoint import load_model
from xpnet.datasets import check_copy, for_shuffling, is_mapped
from xpnet.errors import BackendError, ConfigError
from xpnet.layers import Linear
from xpnet.loop import Engine, Evaluation, Fitted, Samples, fit
from xpnet.machine import available_memory
from xpnet.model import Parameters, initialize
from xpnet.normalization import Normalization, fit_normalization
from xpnet.optim import Optimizer, sgd
from xpnet.schedules import Schedule, constant

if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.config import TrainConfig
    from xpnet.datasets import Dataset


@dataclass(frozen=True)
class Experiment:
    """A network, its data on the device, and what computes it; used inside the backend's scope."""

    config: "TrainConfig"
    backend: "Backend"
    sizes: tuple[int, ...]  # features, units of each layer; the last are the classes
    normalization: Normalization
    engine: Engine
    optimizer: Optimizer
    learning_rate: Schedule
    parameters: Parameters  # the initial ones
    training: Samples
    test: Samples

    def fit(
        self,
        on_epoch: Callable[[int, Evaluation | None, Parameters], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> Fitted:
        """Train as the settings say; see ``xpnet.loop.fit``."""
        config, backend, count = self.config, self.backend, self.training.number
        whole = config.batch_size == "full"
        batch_size = count if config.batch_size == "full" else config.batch_size
        shuffled = None
        if is_mapped(self.training.x):
            shuffled = self.training._replace(x=for_shuffling(self.training.x))
        multiplications = batch_size * sum(a * b for a, b in itertools.pairwise(self.sizes))
        one_block = batch_size <= BLOCK_SIZE
        with backend.single_blocks(multiplications) if one_block else nullcontext():
            return fit(
                self.engine,
                self.parameters,
                self.training,
                self.optimizer,
                self.learning_rate,
                epochs=config.epochs,
                batch_size=None if whole else batch_size,
                order=lambda epoch: backend.from_host(
                    rng.permutation(config.seed, count, epoch=epoch)
                ),
                log_every=config.log_every,
                on_epoch=on_epoch,
                stop=stop,
                shuffled=shuffled,
            )

    def on_host(self, parameters: Parameters) -> list[dict[str, NDArray[np.generic]]]:
        """Return the parameters as they stand in files: weight (units, inputs) and bias (units,)."""
        to_host = self.backend.to_host
        return [
            {"weight": to_host(layer.weight), "bias": to_host(layer.bias).reshape(-1)}
            for layer in parameters
        ]


def assemble(config: "TrainConfig", data: "Dataset", backend: "Backend") -> Experiment:
    """Put data and initial parameters on the backend's device, inside its scope.

    Raises
    ------
    ConfigError
        The settings do not fit the data, the initial model or this machine's memory.
    BackendError
        The device cannot compute in the dtype that the arithmetic needs.
    """
    if backend.name != "numpy":  # whose arrays are the host's
        check_copy(data, backend.name)
    sizes = (data.features, *config.hidden, data.classes)
    _check_sizes(config, sizes, len(data.y_train))
    normalization = fit_normalization(config.normalize, data.x_train)
    put = backend.from_host
    return Experiment(
        config,
        backend,
        sizes,
        normalization,
        _engine(config, backend, sizes, normalization),
        sgd(),
        constant(config.learning_rates[0]),
        [
            Linear(*(put(array.astype(config.float_type) + 0.0) for array in layer))
            for layer in _initial(config, sizes)
        ],
        Samples(put(data.x_train), put(data.y_train)),
        Samples(put(data.x_test), put(data.y_test)),
    )


def _engine(
    config: "TrainConfig",
    backend: "Backend",
    sizes: tuple[int, ...],
    normalization: Normalization,
) -> Engine:
    if config.float_type == "float64" and not backend.has_float64:
        msg = (
            f"{backend.name} has no float64 on {backend.device_name}: "
            "use --arithmetic native --dtype float32"
        )
        raise BackendError(msg)
    arithmetic = ARITHMETICS[config.arithmetic]
    ops = arithmetic(backend.xp, backend.device, getattr(backend.xp, config.float_type))
    if isinstance(ops, Reproducible):
        if cuda_index(backend.device_name) is not None:
            environment.check()
        check_budgets(sizes)
        selfcheck.check(ops, f"{backend.name} on {backend.device_name}")
    inputs = normalization.on_device(ops, backend.from_host)
    exact = isinstance(ops, Reproducible)
    stack = backend.stack if exact else backend.compiled_stack
    return Engine(ops, inputs, backend.map_blocks, stack, partial(backend.compile, exact=exact))


def _initial(config: "TrainConfig", sizes: tuple[int, ...]) -> Parameters:
    """Return the parameters to start from, on the host."""
    if config.init_from is None:
        return initialize(sizes, config.seed)
    model = load_model(config.init_from)
    if model.sizes != sizes:
        msg = (
            f"--init-from: {config.init_from} holds a {shown(model.sizes)} network, "
            f"but --hidden and the data make it {shown(sizes)}"
        )
        raise ConfigError(msg)
    return [Linear(layer["weight"], layer["bias"].reshape(-1, 1)) for layer in model.layers]


def _check_sizes(config: "TrainConfig", sizes: tuple[int, ...], samples: int) -> None:
    if config.batch_size != "full" and config.batch_size > samples:
        msg = f"--batch-size: expected at most the {samples} training samples, got {config.batch_size}"
        raise ConfigError(msg)
    parameters = sum(units * (inputs + 1) for inputs, units in itertools.pairwise(sizes))
    # Parameters, gradients and their drawing, and a block's activations, in eight bytes each.
    needed = 8 * (4 * parameters + 4 * BLOCK_SIZE * sum(sizes[1:]))
    memory = available_memory()
    if memory is not None and needed > memory:
        msg = (
            f"--hidden: a {shown(sizes)} network has {parameters} parameters and needs about "
            f"{needed / 2**30:.0f} GiB, this machine has {memory / 2**30:.0f}: use fewer units"
        )
        raise ConfigError(msg)


def shown(sizes: tuple[int, ...]) -> str:
    """Return the sizes as they are usually written: 784-10-10."""
    return "-".join(map(str, sizes))
