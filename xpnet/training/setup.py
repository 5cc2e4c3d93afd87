"""From settings, data and a backend to a network that is ready to be trained."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.machine import available_memory
from xpnet._lib.tree import mapped
from xpnet._typing import Array
from xpnet.arithmetic import random
from xpnet.arithmetic.blocks import BLOCK_SIZE
from xpnet.data.augment import augmenter, square_side
from xpnet.data.datasets import check_copy, for_shuffling, is_mapped
from xpnet.errors import ConfigError
from xpnet.inference.context import Engine, build_engine
from xpnet.nn import optim, schedules
from xpnet.nn.architecture import Network, described, shown
from xpnet.nn.dropout import Masks, dropout_masks
from xpnet.nn.init import initial_statistics, initialize
from xpnet.nn.inputs import Normalization, fit_normalization
from xpnet.nn.layers import Parameters, Statistics
from xpnet.nn.optim import Optimizer
from xpnet.nn.schedules import Schedule
from xpnet.storage.model_file import load_model, parameters_of, saved_layers
from xpnet.training.batches import Feed, Order, Samples
from xpnet.training.evaluation import Evaluation, evaluate
from xpnet.training.loop import Fitted, fit
from xpnet.training.state import TrainingState, start

if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.config import TrainConfig
    from xpnet.data.datasets import Dataset


class Chosen(NamedTuple):
    """The indices of samples, on the device; None stands for all, or for none to validate with."""

    training: Array | None
    validation: Array | None


@dataclass(frozen=True)
class Experiment:
    """A network, its data on the device, and what computes it; used inside the backend's scope."""

    config: "TrainConfig"
    backend: "Backend"
    network: Network
    normalization: Normalization
    engine: Engine
    optimizer: Optimizer
    learning_rate: Schedule
    parameters: Parameters  # the initial ones
    statistics: list[Statistics]  # the initial ones
    training: Samples  # those held out for validation included
    chosen: Chosen
    feed: Feed
    test: Samples

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features and the units of each layer; the last are the classes."""
        return self.network.sizes

    @property
    def batch_size(self) -> int:
        """Samples in a step."""
        size = self.config.batch_size
        return self.feed.number if size == "full" else size

    def start(self) -> TrainingState:
        """Return the state before the first step."""
        return start(self.parameters, self.statistics, self.optimizer)

    def fit(
        self,
        on_epoch: Callable[[int, Evaluation | None, TrainingState], None],
        stop: Callable[[], bool] = lambda: False,
        *,
        state: TrainingState | None = None,
        on_step: Callable[[TrainingState], None] = lambda _: None,
    ) -> Fitted:
        """Train as the settings say, from ``state`` or from the start; see ``xpnet.training.loop.fit``."""
        multiplications = self.batch_size * sum(a * b for a, b in itertools.pairwise(self.sizes))
        one_block = self.batch_size <= BLOCK_SIZE
        with self.backend.single_blocks(multiplications) if one_block else nullcontext():
            return fit(
                self.engine,
                self.start() if state is None else state,
                self.feed,
                self.optimizer,
                self.learning_rate,
                epochs=self.config.epochs,
                batch_size=None if self.config.batch_size == "full" else self.batch_size,
                evaluation=self.evaluate,
                log_every=self.config.log_every,
                on_epoch=on_epoch,
                on_step=on_step,
                stop=stop,
            )

    def evaluate(self, state: TrainingState) -> Evaluation:
        """Evaluate on the samples that are trained on."""
        return self._evaluate(state, self.training, self.chosen.training)

    def validate(self, state: TrainingState) -> Evaluation | None:
        """Evaluate on the samples that are held out, if there are any."""
        if self.chosen.validation is None:
            return None
        return self._evaluate(state, self.training, self.chosen.validation)

    def evaluate_test(self, state: TrainingState) -> Evaluation:
        """Evaluate on the test samples."""
        return self._evaluate(state, self.test, None)

    def _evaluate(self, state: TrainingState, samples: Samples, order: Array | None) -> Evaluation:
        return evaluate(self.engine, state.parameters, samples, state.statistics, order)

    def on_host(self, parameters: Parameters) -> list[dict[str, NDArray[np.generic]]]:
        """Return parameters without batch norm as in files: weight (units, inputs), bias (units,)."""
        return saved_layers(mapped(self.backend.to_host, parameters))[0]


def assemble(config: "TrainConfig", data: "Dataset", backend: "Backend") -> Experiment:
    """Put data and initial parameters on the backend's device, inside its scope.

    Raises
    ------
    ConfigError
        The settings do not fit the data, the initial model or this machine's memory.
    BackendError
        The device cannot compute in the dtype that the arithmetic needs.
    """
    if not backend.on_host:
        check_copy(data, backend.name)
    network = _network(config, data)
    count = len(data.y_train)
    held_in, held_out = _split(config, count)
    _check_sizes(config, network.sizes, count - config.validation)
    statistics_from = data.x_train if held_in is None else data.x_train[held_in]
    normalization = fit_normalization(config.normalize, statistics_from)
    del statistics_from
    engine = build_engine(config.arithmetic, config.float_type, backend, network, normalization)
    put = backend.from_host
    number = count if held_in is None else len(held_in)
    steps_per_epoch = 1 if config.batch_size == "full" else -(-number // config.batch_size)
    parameters, statistics = _initial(config, network)
    training = Samples(put(data.x_train), put(data.y_train))
    return Experiment(
        config,
        backend,
        network,
        normalization,
        engine,
        optim.build(engine.ops, config.optimizer, **config.optimizer_options),
        schedules.build(
            config.schedule,
            config.learning_rates[0],
            steps_per_epoch,
            config.epochs,
            config.schedule_options,
        ),
        _on_device(config, backend, parameters),
        _on_device(config, backend, statistics),
        training,
        Chosen(*(None if indices is None else put(indices) for indices in (held_in, held_out))),
        _feed(config, data, backend, engine, training, held_in),
        Samples(put(data.x_test), put(data.y_test)),
    )


def _network(config: "TrainConfig", data: "Dataset") -> Network:
    return Network(
        (data.features, *config.hidden, data.classes),
        activation=config.activation,
        batch_norm=config.batch_norm,
        input_dropout=config.input_dropout,
        hidden_dropout=config.dropout,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
    )


def _split(
    config: "TrainConfig", count: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return the indices of the samples to train on and to validate with; None: all, and none."""
    if not config.validation:
        return None, None
    if config.validation >= count:
        msg = f"--validation: expected fewer than the {count} training samples, got {config.validation}"
        raise ConfigError(msg)
    return random.split(config.seed, count, config.validation)


def _feed(
    config: "TrainConfig",
    data: "Dataset",
    backend: "Backend",
    engine: Engine,
    training: Samples,
    chosen: NDArray[np.int64] | None,
) -> Feed:
    number = len(data.y_train) if chosen is None else len(chosen)
    mapped = is_mapped(data.x_train)
    network, seed, put = engine.network, config.seed, backend.from_host

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Order:
        places = random.permutation(seed, number, epoch=epoch)
        host = places if chosen is None else chosen[places]
        return Order(host, put(host))

    def masks(epoch: int, begin: int, end: int) -> Masks:
        found = dropout_masks(network, seed, epoch, begin, end)
        inputs = None if found.inputs is None else put(found.inputs)
        return Masks(inputs, [put(mask) for mask in found.hidden])

    augment = None
    if config.augmentation.enabled:
        side = square_side(data.features, pixels=data.x_train.dtype == np.uint8)
        augment = augmenter(engine.ops, config.augmentation, side, side, seed, put)
    return Feed(
        training._replace(x=for_shuffling(training.x)) if mapped else training,
        order,
        number,
        augment,
        masks if network.input_dropout or network.hidden_dropout else None,
        in_memory=not mapped,
    )


def _on_device(config: "TrainConfig", backend: "Backend", layers: list[Any]) -> list[Any]:
    put = backend.from_host
    return [
        type(layer)(*(put(array.astype(config.float_type) + 0.0) for array in layer))
        for layer in layers
    ]


def _initial(config: "TrainConfig", network: Network) -> tuple[Parameters, list[Statistics]]:
    """Return the parameters and running statistics to start from, on the host."""
    if config.init_from is None:
        parameters = initialize(
            network.sizes, config.seed, config.init, batch_norm=network.batch_norm
        )
        return parameters, initial_statistics(network)
    model = load_model(config.init_from)
    if model.network.sizes != network.sizes or model.network.batch_norm != network.batch_norm:
        msg = (
            f"--init-from: {config.init_from} holds a {described(model.network)}, "
            f"but the settings and the data make it a {described(network)}"
        )
        raise ConfigError(msg)
    return parameters_of(model)


def _check_sizes(config: "TrainConfig", sizes: tuple[int, ...], samples: int) -> None:
    if config.batch_size != "full" and config.batch_size > samples:
        msg = f"--batch-size: expected at most the {samples} training samples, got {config.batch_size}"
        raise ConfigError(msg)
    if config.batch_norm and config.batch_size != "full" and samples % config.batch_size == 1:
        msg = (
            f"--batch-size: {config.batch_size} leaves a last batch of one sample, which --batch-norm "
            "cannot normalise: use another"
        )
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
