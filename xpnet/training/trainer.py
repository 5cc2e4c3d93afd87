"""One training, from a network that is ready to its best parameters; it writes nothing and prints nothing."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from xpnet._lib.machine import available_cpus
from xpnet._lib.tree import mapped
from xpnet.backends.base import Backend
from xpnet.backends.resolve import Selection, resolve
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError
from xpnet.storage.model_file import SavedModel, saved_layers
from xpnet.training.early_stopping import EarlyStopping
from xpnet.training.evaluation import Evaluation
from xpnet.training.setup import Experiment
from xpnet.training.state import TrainingState

REQUIRE_DEVICE_VARIABLE = "XPNET_REQUIRE_DEVICE"

Validate = Callable[[TrainingState], Evaluation | None]
"""Evaluates a state on samples that are not trained on, if there are any."""
OnEpoch = Callable[[int, Evaluation | None, Evaluation | None], None]
"""(epochs that are complete, figures on the training samples or None, on those held out or None)."""


class Ending(NamedTuple):
    """How a training ended."""

    state: TrainingState  # with the best parameters, if there is a patience; else the last
    epochs: int
    early: bool  # the patience was exhausted
    interrupted: bool  # by Ctrl-C, or because ``stop`` said so


class Training:
    """A training on its way: where it is, and which epoch was the best; used inside the backend's scope.

    Parameters
    ----------
    experiment
        What is trained.
    patience
        Epochs without a better validation accuracy after which to stop; None: never.
    validate
        By default the evaluation on the samples that the settings hold out.
    """

    def __init__(
        self, experiment: Experiment, patience: int | None, validate: Validate | None = None
    ) -> None:
        self.experiment = experiment
        self.state = experiment.start()
        self.stopping = EarlyStopping(patience)
        self.validate = experiment.validate if validate is None else validate
        self._evaluated: tuple[int, Evaluation | None] = (-1, None)  # the last epoch that ended

    def run(
        self,
        on_epoch: OnEpoch,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[], None] = lambda: None,
    ) -> Ending:
        """Train to the end; see ``xpnet.training.loop.fit`` for what the functions are called for, and errors."""

        def epoch_ended(epoch: int, found: Evaluation | None, state: TrainingState) -> None:
            validation = self.validate(state)
            if validation is not None:
                self.stopping.update(validation, state, _copied)
            self.state, self._evaluated = state, (epoch, found)
            on_epoch(epoch, found, validation)

        def step_ended(state: TrainingState) -> None:
            self.state = state
            on_step()

        fitted = self.experiment.fit(
            epoch_ended,
            lambda: stop() or self.stopping.exhausted(self.state.epoch),
            state=self.state,
            on_step=step_ended,
        )
        self.state = fitted.state
        early = self.stopping.exhausted(self.state.epoch)
        chosen = self.stopping.chosen(self.state)
        return Ending(chosen, fitted.epochs, early, fitted.interrupted and not early)

    def evaluate(self, state: TrainingState) -> Evaluation:
        """Evaluate on the training samples; what the last epoch ended with is not computed again."""
        epoch, found = self._evaluated
        if found is not None and state is self.state and (epoch, 0) == (state.epoch, state.batch):
            return found
        return self.experiment.evaluate(state)

    def snapshot(self) -> TrainingState:
        """Return the state as host arrays."""
        state = self.state
        parameters, statistics, optimizer = self._kept(tuple(state[:3]))
        return TrainingState(parameters, statistics, optimizer, state.epoch, state.batch)

    def restore(self, snapshot: TrainingState) -> None:
        """Go on from what ``snapshot`` returned, here or in another training of the same network."""
        put = self.experiment.backend.from_host
        # A copy, for a step may use the memory of what it is given.
        parameters, statistics, optimizer = mapped(
            lambda array: put(array.copy()), tuple(snapshot[:3])
        )
        self.state = TrainingState(
            parameters, statistics, optimizer, snapshot.epoch, snapshot.batch
        )

    def model(self, state: TrainingState) -> SavedModel:
        """Return what a model file holds of a state."""
        experiment, normalization = self.experiment, self.experiment.normalization
        layers, norms = saved_layers(self._kept(state.parameters), self._kept(state.statistics))
        return SavedModel(
            layers,
            experiment.sizes,
            normalization.kind,
            {"shift": normalization.shift, "scale": normalization.scale},
            norms=norms,
            activation=experiment.network.activation,
        )

    def _kept(self, tree: Any) -> Any:
        """Return host copies of arrays, for the next step may use their memory."""
        return mapped(lambda array: self.experiment.backend.to_host(array).copy(), tree)


def select(config: TrainConfig) -> Selection:
    """Return the backend that the settings, and XPNET_REQUIRE_DEVICE=1 in the environment, ask for.

    Raises
    ------
    BackendError
        It is not usable here.
    """
    require = config.require_device or os.environ.get(REQUIRE_DEVICE_VARIABLE) == "1"
    return resolve(config.device, config.backend, require_device=require)


def workers(config: TrainConfig, backend: Backend) -> int:
    """Return how many blocks are computed side by side.

    Raises
    ------
    ConfigError
        The settings give a number, but the backend has threads of its own.
    """
    if config.workers == "auto":
        return available_cpus()
    if not backend.parallel_blocks:
        msg = f"--workers: the {backend.name} backend has threads of its own: leave --workers out"
        raise ConfigError(msg)
    return config.workers


def figures(prefix: str, evaluation: Evaluation | None) -> dict[str, float]:
    """Return loss and accuracy by the names that a record has for them; nothing of nothing."""
    if evaluation is None:
        return {}
    return {f"{prefix}_loss": evaluation.loss, f"{prefix}_accuracy": evaluation.accuracy}


def _copied(layers: Any) -> Any:
    return mapped(lambda array: array * 1.0, layers)
