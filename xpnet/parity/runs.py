"""One training at each place and in each arithmetic, compared with NumPy's."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from xpnet.backends.probing import one_line
from xpnet.errors import BackendError
from xpnet.parity.compare import Epoch, KeepEpochs, first_difference, first_layer_apart
from xpnet.parity.devices import NUMPY
from xpnet.parity.distance import relative_difference, ulp_distance
from xpnet.storage.model_file import fingerprint
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from xpnet.config import TrainConfig
    from xpnet.config.settings import Arithmetic
    from xpnet.data.datasets import Dataset
    from xpnet.parity.devices import BackendDevice

FloatType = Literal["float32", "float64"]
Verdict = Literal["same", "close", "FAIL"]


class Kind(NamedTuple):
    """An arithmetic and its dtype, and how near to NumPy's its parameters must be."""

    arithmetic: Arithmetic
    dtype: FloatType
    tolerance: float | None  # relative to the largest parameter of the tensor; None: the same bits

    def __str__(self) -> str:
        return f"{self.arithmetic} {self.dtype}"


KINDS: Final = (
    Kind("reproducible", "float64", None),
    Kind("native", "float32", 1e-4),
    Kind("native", "float64", 1e-7),
)


def format_tolerance(tolerance: float) -> str:
    """Return a tolerance as it is written: 1e-4."""
    return f"{tolerance:.0e}".replace("e-0", "e-")


@dataclass(frozen=True)
class Row:
    """A training and how far it is from NumPy's.

    Attributes
    ----------
    fingerprint
        The SHA-256 of the parameters; None if the training failed.
    epoch, layer
        The first epoch after which anything has other bits than NumPy's, and the first layer with such
        parameters (None: only loss or accuracy differ). None if nothing differs.
    max_ulp, max_relative
        The largest distances of the last parameters: in units in the last place, and relative to the
        largest magnitude of their tensor.
    seconds
        Training and evaluation.
    verdict
        same: the same bits; close: within the tolerance; or FAIL.
    problem
        Why it failed, else None.
    """

    backend: str
    version: str
    device: str
    arithmetic: Arithmetic
    dtype: FloatType
    tolerance: float | None
    fingerprint: str | None = None
    epoch: int | None = None
    layer: int | None = None
    max_ulp: float | None = None
    max_relative: float | None = None
    seconds: float | None = None
    verdict: Verdict = "FAIL"
    problem: str | None = None

    @property
    def kind(self) -> Kind:
        """The arithmetic and its dtype."""
        return Kind(self.arithmetic, self.dtype, self.tolerance)


class _TrainingResult(NamedTuple):
    version: str
    epochs: list[Epoch]
    parameters: list[NDArray[Any]]
    fingerprint: str
    test: tuple[float, float]
    seconds: float


def rows(
    config: TrainConfig,
    data: Dataset,
    places: Sequence[BackendDevice],
    on_epoch: Callable[[BackendDevice, Kind, int], None] = lambda *_: None,
) -> Iterator[Row]:
    """Train at each place in each arithmetic, NumPy first, and yield what came of it.

    Raises
    ------
    XPNetError
        NumPy itself cannot train so; where another cannot, its row says why.
    """
    for kind in KINDS:
        settings = _settings(kind, config)
        for place in dict.fromkeys([NUMPY, *places]):
            try:
                trained = _train(place, settings, data, partial(on_epoch, place, kind))
            except Exception as error:  # each library raises its own errors
                if place == NUMPY:
                    raise
                version = place.probe().version or "-"
                yield Row(place.backend, version, place.device, *kind, problem=one_line(error))
                continue
            if place == NUMPY:
                reference = trained
            yield _compared(place, kind, trained, reference)


def first_operation(config: TrainConfig, data: Dataset, place: BackendDevice) -> str:
    """Return in one line where a reproducible run first parts from NumPy's."""
    settings = _settings(KINDS[0], config)
    with (
        Trainer.open(settings, data, NUMPY.make()) as left,
        Trainer.open(settings, data, place.make()) as right,
    ):
        try:
            difference = first_difference(left, right)
        except BackendError as error:
            return str(error)
    if difference is None:
        return "only the test figures differ"
    return f"{difference}, NumPy's value first"


def _settings(kind: Kind, config: TrainConfig) -> TrainConfig:
    return replace(config, arithmetic=kind.arithmetic, dtype=kind.dtype, log_every=1)


def _train(
    place: BackendDevice, settings: TrainConfig, data: Dataset, on_epoch: Callable[[int], None]
) -> _TrainingResult:
    on_epoch(0)
    backend = place.make()
    with Trainer.open(settings, data, backend) as trainer:
        begin = time.perf_counter()
        keep = KeepEpochs(trainer, on_epoch)
        result = trainer.fit([Evaluate(trainer), keep])
        if result.interrupted:
            raise KeyboardInterrupt
        test = trainer.evaluate_test(result.state)
        layers = trainer.model(result.state).layers
    seconds = time.perf_counter() - begin
    parameters = [array for layer in layers for array in layer.values()]
    figures = test.loss, test.accuracy
    return _TrainingResult(backend.version, keep.epochs, parameters, fingerprint(layers), figures, seconds)


def _compared(place: BackendDevice, kind: Kind, trained: _TrainingResult, reference: _TrainingResult) -> Row:
    epochs = enumerate(zip(trained.epochs, reference.epochs, strict=True))
    epoch, layer = next(
        ((n, first_layer_apart(*pair)) for n, pair in epochs if pair[0] != pair[1]), (None, None)
    )
    pairs = list(zip(trained.parameters, reference.parameters, strict=True))
    relative = max(relative_difference(a, b) for a, b in pairs)
    same = epoch is None and trained.test == reference.test
    close = kind.tolerance is not None and relative <= kind.tolerance
    problem = "not the bits of NumPy"
    if kind.tolerance is not None:
        problem = f"{relative:.1e} from NumPy, more than {format_tolerance(kind.tolerance)}"
    return Row(
        *(place.backend, trained.version, place.device, *kind),
        fingerprint=trained.fingerprint,
        epoch=epoch,
        layer=layer,
        max_ulp=max(float(np.max(ulp_distance(a, b), initial=0.0)) for a, b in pairs),
        max_relative=relative,
        seconds=round(trained.seconds, 3),
        verdict="same" if same else "close" if close else "FAIL",
        problem=None if same or close else problem,
    )
