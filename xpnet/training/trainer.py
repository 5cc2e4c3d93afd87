"""The trainer: network, data on the device, optimiser and schedule, built from settings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from xpnet._lib.machine import available_cpus
from xpnet._lib.tree import Tree, leaves, tree_map
from xpnet._typing import Array, HostArray
from xpnet.arithmetic import SPECIFICATION_VERSION, random
from xpnet.arithmetic.blocks import BLOCK_SIZE, Group
from xpnet.backends.base import Backend
from xpnet.backends.workers import MAX_PENDING
from xpnet.compute.context import build_context, is_compiled
from xpnet.compute.evaluation import SampleEvaluation, evaluate_groups
from xpnet.config import TrainConfig
from xpnet.data.array_files import is_mapped, with_random_access
from xpnet.data.augment import build_augmenter, build_fade, is_augmented, square_side
from xpnet.data.datasets import Dataset, check_copy_memory
from xpnet.distributed.ranks import ALONE, Ranks
from xpnet.errors import ConfigError, setting
from xpnet.nn import optim, schedules
from xpnet.nn.architecture import Network, describe
from xpnet.nn.dropout import Masks, dropout_masks, put_packed
from xpnet.nn.init import initial_running_statistics, initialize
from xpnet.nn.inputs import Normalization, fit_normalization, flush_subnormals
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.metrics import class_metrics
from xpnet.nn.network import BlockResults
from xpnet.storage.model_file import TrainedNetwork, load_model
from xpnet.training.batches import BatchLoader, SampleOrder, Samples, single_batch
from xpnet.training.loop import FitResult, LoopCallback, TrainState, fit
from xpnet.training.memory import estimate_memory
from xpnet.training.score import build_score, normalize_weights, resolve_best_by
from xpnet.training.shared_step import SharedStep, share
from xpnet.training.step import Step, Variables

NETWORK_SETTINGS = ("activation", "batch_norm", "input_dropout", "input_noise", "loss", "label_smoothing")
"""The settings that are attributes of a network."""


class Trainer:
    """A network in training. Build and use it inside the backend's scope, or by ``Trainer.open``.

    Parameters
    ----------
    config
        The settings.
    data
        The training and test samples.
    backend
        The array library and its device.
    normalization
        The normalisation of the inputs; by default as the settings say, fitted to the training samples.
    workers
        The number of threads that compute blocks.

    Attributes
    ----------
    config, data, backend
        The parameters of these names.
    network, normalization, context, optimizer, learning_rate
        Built from the settings and the data.
    samples, test
        All training samples, including those held out for validation, and the test samples.
    training_indices, validation_indices
        The indices of the samples to train on and to validate with, on the device; None: all and none.
    best_by
        What makes an epoch the best: that of the settings, where "auto" is resolved.
    loader
        Yields the batches of an epoch.
    memory
        An estimate of the memory that training takes on the host beside the data, in bytes.

    Raises
    ------
    ConfigError
        The settings do not fit the data, the initial model or this machine's memory.
    BackendError
        The device cannot compute in the dtype that the arithmetic needs.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        backend: Backend,
        normalization: Normalization | None = None,
        ranks: Ranks = ALONE,
        workers: int = 1,
    ) -> None:
        if not backend.on_host:
            check_copy_memory(data, backend.name)
        self.config = config
        self.backend = backend
        self.data = data
        self.ranks = ranks
        sizes = data.features, *config.hidden, data.classes
        options = {name: getattr(config, name) for name in NETWORK_SETTINGS}
        self.network = network = Network(sizes, hidden_dropout=config.dropout, **options)
        training, validation = split_samples(config, data)
        count = len(data.y_train) if training is None else len(training)
        threads = min(workers, MAX_PENDING, -(-count // (BLOCK_SIZE * ranks.size)))
        self.memory = estimate_memory(config, network, count, threads * backend.parallel_blocks)
        self.normalization = normalization = normalization or normalize_inputs(config, data)
        kind = config.arithmetic, config.float_type
        block = min(_fit_batch_size(config, count) or count, BLOCK_SIZE)
        self.context = build_context(*kind, backend, network, normalization, ranks, block, debug=config.debug)
        self.optimizer = optim.build(self.context.ops, config.optimizer, **config.optimizer_options)
        self._initial_parameters = _initial_parameters(config, network)
        weights = normalize_weights(data, training, config)
        x_train, x_test = data.x_train, data.x_test
        if is_mapped(x_train) or is_mapped(x_test):  # read in blocks
            self.context = replace(self.context, inputs=replace(self.context.inputs, flushes=True))
        else:
            x_train, x_test = map(flush_subnormals, (x_train, x_test))
        self.samples = tree_map(backend.put, Samples(x_train, data.y_train, weights))
        self.test = tree_map(backend.put, Samples(x_test, data.y_test))
        self.training_indices, self.validation_indices = tree_map(backend.put, (training, validation))
        self.best_by = resolve_best_by(config, data.weights)
        self._score = build_score(self, validation)
        self.loader = self._build_loader(data, training, count)
        rate, steps = config.learning_rates[0], len(self.loader.bounds)
        self.learning_rate = schedules.build(
            config.schedule,
            rate,
            steps,
            config.epochs,
            step_epochs=config.schedule_step_epochs,
            factor=config.schedule_factor,
            warmup_epochs=config.warmup_epochs,
        )
        self._evaluated: tuple[TrainState, SampleEvaluation] | None = None  # the last, of training samples

    @classmethod
    @contextmanager
    def open(
        cls, config: TrainConfig, data: Dataset, backend: Backend, *, jobs: int = 1, **options: Any
    ) -> Iterator["Trainer"]:
        """Build a trainer inside the backend's scope and with its workers; errors as in the constructor.

        `jobs` is the number of processes that share the processors; the options are those of the constructor.
        Workers compute blocks in parallel, but for one if nothing is compiled: a debugger then sees every
        block in the main thread.
        """
        if config.workers == "auto":
            workers = available_cpus(jobs) if is_compiled(debug=config.debug) else 1
        elif backend.parallel_blocks:
            workers = config.workers
        else:
            name = setting("workers")
            raise ConfigError(f"{name}: the {backend.name} backend has threads of its own: leave {name} out")
        with backend.scope(), backend.workers(workers):
            trainer = cls(config, data, backend, **options, workers=workers)
            try:
                yield trainer
            finally:
                # Compiled methods and cached blocks hold their objects: in these cycles of references, the
                # samples and the memory of the step would outlive the training.
                vars(trainer.loader).pop("_fixed_blocks", None)
                vars(trainer.step).clear()
                del trainer.step

    @cached_property
    def step(self) -> Step:
        """The training step."""
        if self.ranks.size == 1:
            return Step(self.context, self.optimizer)
        shapes = tuple(array.shape for array in leaves(self._initial_parameters))
        return SharedStep(self.context, self.optimizer, self.loader.samples_per_step, shapes)

    def initial_state(self) -> TrainState:
        """Return the state before the first step."""
        dtype, put = self.config.float_type, self.backend.from_host
        # The sum is a copy, whose memory a step may reuse, and has no negative zeros.
        layers, statistics = tree_map(lambda array: put(array.astype(dtype)) + 0.0, self._initial_parameters)
        return TrainState(self.step.own(Variables(layers, statistics, self.optimizer.init(layers))))

    def fit(
        self,
        callbacks: Sequence[LoopCallback] = (),
        state: TrainState | None = None,
        epochs: int | None = None,
        *,
        first_epoch: int = 0,
    ) -> FitResult:
        """Train, calling the callbacks.

        Parameters
        ----------
        callbacks
            Called in their order; see ``LoopCallback``.
        state
            The state to start from; by default the initial state.
        epochs
            The last epoch; by default that of the settings.
        first_epoch
            As in ``xpnet.training.loop.fit``.

        Raises
        ------
        DivergedError
            The loss or the parameters are no longer finite.
        """
        loader, start = self.loader, state or self.initial_state()
        self.ranks.compare({"the first step": f"step {start.batch + 1} after epoch {start.epoch}"})
        last = self.config.epochs if epochs is None else epochs
        multiplications = loader.samples_per_step * self.network.multiplications
        with self.backend.single_blocks(multiplications) if loader.single_block else nullcontext():
            return fit(self, start, epochs=last, first_epoch=first_epoch, callbacks=callbacks)

    def evaluate(self, state: TrainState) -> SampleEvaluation:
        """Evaluate on the training samples, if weighted with predictions; the last result is kept."""
        if self._evaluated is None or self._evaluated[0] is not state:
            is_weighted = self.samples.weights is not None
            evaluation = self._evaluate(state, self.samples, self.training_indices, predict=is_weighted)
            self._evaluated = state, evaluation
        return self._evaluated[1]

    def training_recalls(self, state: TrainState) -> list[float | None] | None:
        """Return the recall of each class on the training samples; None unless these have weights."""
        evaluation, indices = self.evaluate(state), self.to_host(self.training_indices)
        labels = self.data.y_train if indices is None else self.data.y_train[indices]
        return None if evaluation.predictions is None else self.recalls(evaluation, labels)

    def recalls(self, evaluation: SampleEvaluation, labels: HostArray) -> list[float | None]:
        """Return the recall of each class, from the predictions of samples with these labels."""
        predictions = self.backend.to_host(evaluation.predictions)
        return [each.recall for each in class_metrics(predictions, labels, self.data.classes)]

    def validate(self, state: TrainState) -> SampleEvaluation | None:
        """Evaluate on the validation samples, with the score; None if there are none."""
        if self.data.test_is_validation:
            evaluation = self.evaluate_test(state)
        elif self.validation_indices is None:
            return None
        else:
            is_scored = self._score is not None
            evaluation = self._evaluate(state, self.samples, self.validation_indices, predict=is_scored)
        return evaluation if self._score is None else replace(evaluation, score=self._score(evaluation))

    def estimate(self, state: TrainState, count: int = BLOCK_SIZE) -> SampleEvaluation:
        """Evaluate on the first ``count`` training samples, which takes little time.

        All ranks of an MPI job must call this.
        """
        if self.training_indices is not None:
            return self._evaluate(state, self.samples, self.training_indices[:count])
        x, labels, *_ = self.samples
        return self._evaluate(state, Samples(x[:count, :], labels[:count]))

    def evaluate_test(self, state: TrainState) -> SampleEvaluation:
        """Evaluate on the test samples."""
        return self._evaluate(state, self.test, predict=True)

    def _evaluate(
        self, state: TrainState, samples: Samples, order: Array | None = None, *, predict: bool = False
    ) -> SampleEvaluation:
        """Evaluate on all samples, or those with the indices in ``order``; see `evaluate_groups`."""
        batch, (parameters, statistics, _) = single_batch(self.context.ops, samples, order), state.variables

        def evaluate_group(group: Group) -> BlockResults:
            x, labels, *_ = batch.block(group)
            return self.context.block_evaluation(parameters, statistics, x, labels)

        return evaluate_groups(self.context, batch.size, evaluate_group, predict=predict)

    def model(self, state: TrainState) -> TrainedNetwork:
        """Return the parameters of a state as a model, on the host."""
        parameters, statistics = self.to_host((state.variables.parameters, state.variables.statistics))
        activation, columns = self.network.activation, self.data.columns
        specification = None if self.config.arithmetic == "native" else SPECIFICATION_VERSION
        return TrainedNetwork(parameters, statistics, self.normalization, activation, columns, specification)

    def fingerprint(self, state: TrainState) -> str:
        """Return the SHA-256 of the parameters of a state, as that of its model."""
        return self.model(state).fingerprint

    def to_host(self, tree: Tree) -> Tree:
        """Return copies on the host: the next step may reuse the memory of the arrays."""
        return tree_map(lambda array: self.backend.to_host(array).copy(), tree)

    def to_device(self, tree: Tree) -> Tree:
        """Return copies on the device: a step may reuse their memory."""
        return tree_map(lambda array: self.backend.from_host(array.copy()), tree)

    def _build_loader(self, data: Dataset, training: "HostArray | None", count: int) -> BatchLoader:
        config = self.config
        network, backend = self.network, self.backend
        ops = self.context.ops
        put, memory_mapped = backend.put, is_mapped(data.x_train)

        @lru_cache(maxsize=2)
        def order(epoch: int) -> SampleOrder:
            positions = random.permutation(config.seed, count, epoch=epoch)
            host = backend.narrow(positions if training is None else training[positions])
            return SampleOrder(host, put(host))

        def masks(epoch: int, begin: int, end: int, steps: int | None = None) -> Masks:
            host = dropout_masks(network, config.seed, epoch, begin, end)
            if backend.on_gpu:
                return put_packed(ops, host, put, steps)
            return tree_map(put, host)

        samples = self.samples
        if memory_mapped and backend.on_host:
            samples = samples._replace(x=with_random_access(data.x_train))
        augment = None
        if is_augmented(config):
            side = square_side(data.features, pixels=data.x_train.dtype == np.uint8)
            strength = build_fade(config.augment_fade_epochs, config.epochs)
            augment = build_augmenter(ops, config, side, config.seed, put, strength)
        has_masks = network.input_dropout or network.hidden_dropout or network.input_noise
        return BatchLoader(
            self.context,
            samples,
            order,
            samples_per_epoch=count,
            batch_size=_fit_batch_size(config, count),
            augment=augment,
            masks=masks if has_masks else None,
            in_memory=not memory_mapped,
            share=partial(share, self.context),
        )


def normalize_inputs(config: TrainConfig, data: Dataset, ranks: Ranks = ALONE) -> Normalization:
    """Return the normalisation of the settings, fitted to the training samples, which one rank reads.

    Raises
    ------
    ConfigError
        All samples are held out for validation.
    """

    def fit_inputs() -> list[Any]:
        training, _ = split_samples(config, data)
        x = data.x_train if training is None else data.x_train[training]
        fitted = fit_normalization(config.normalize, x)
        return [fitted.shift.tolist(), fitted.scale.tolist()]

    shift, scale = (np.asarray(statistic, np.float64) for statistic in ranks.from_first(fit_inputs))
    return Normalization(config.normalize, shift, scale)


def split_samples(config: TrainConfig, data: Dataset) -> "tuple[HostArray | None, ...]":
    """Return the indices of the samples to train on and to validate with; None stands for all and none.

    Raises
    ------
    ConfigError
        All samples are held out for validation.
    """
    if not config.validation or data.test_is_validation:
        return None, None
    count = len(data.y_train)
    held_out = config.validation_samples(count)
    if held_out >= count:
        problem = f"expected fewer than the {count} training samples, got {config.validation}"
        raise ConfigError(f"{setting('validation')}: {problem}")
    return random.split(config.seed, count, held_out)


def _initial_parameters(config: TrainConfig, network: Network) -> tuple[Parameters, list[RunningStatistics]]:
    """Return the parameters and running statistics to start from, on the host."""
    if config.init_from is None:
        parameters = initialize(network.sizes, config.seed, config.init, batch_norm=network.batch_norm)
        return parameters, initial_running_statistics(network)
    model = load_model(config.init_from)
    start = model.architecture
    if start.sizes != network.sizes or start.batch_norm != network.batch_norm:
        content = f"{config.init_from} holds a {describe(start)}"
        problem = f"{content}, but the settings and the data make it a {describe(network)}"
        raise ConfigError(f"{setting('init_from')}: {problem}")
    return model.parameters, model.statistics


def _fit_batch_size(config: TrainConfig, samples: int) -> int | None:
    """Return the batch size, at most `samples`, and such that batch norm has two samples in each batch.

    None stands for full batches.
    """
    if config.batch_size == "full":
        return None
    size = min(config.batch_size, samples)
    while config.batch_norm and size > 1 and samples % size == 1:
        size += 1
    return size
