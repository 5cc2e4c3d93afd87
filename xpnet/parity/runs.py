"""Training runs on each backend and in each arithmetic, compared with NumPy's."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from xpnet.backends.probing import one_line
from xpnet.errors import BackendError
from xpnet.parity.compare import EpochDigest, RecordEpochs, first_difference, first_differing_layer
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


class ArithmeticKind(NamedTuple):
    """An arithmetic, its dtype, and the tolerance of its parameters."""

    arithmetic: Arithmetic
    dtype: FloatType
    tolerance: float | None  # relative to the largest parameter of the tensor; None: the same bits

    def __str__(self) -> str:
        return f"{self.arithmetic} {self.dtype}"


KINDS: Final = (
    ArithmeticKind("reproducible", "float64", None),
    ArithmeticKind("native", "float32", 1e-4),
    ArithmeticKind("native", "float64", 1e-7),
)


def format_tolerance(tolerance: float) -> str:
    """Format a tolerance, such as 1e-4."""
    return f"{tolerance:.0e}".replace("e-0", "e-")


@dataclass(frozen=True)
class ParityResult:
    """The result of a training run, and its distance from NumPy's.

    Attributes
    ----------
    fingerprint
        The SHA-256 of the parameters; None if training failed.
    epoch, layer
        The first epoch whose results have other bits than NumPy's, and the first layer whose parameters do
        (None: only loss or accuracy differ). None if nothing differs.
    max_ulp, max_relative
        The largest distances of the final parameters: in ulp, and relative to the largest magnitude of
        their tensor.
    seconds
        The duration of training and evaluation.
    verdict
        same: the same bits; close: within the tolerance; or FAIL.
    problem
        The reason for FAIL, else None.
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
    def kind(self) -> ArithmeticKind:
        """The arithmetic and its dtype."""
        return ArithmeticKind(self.arithmetic, self.dtype, self.tolerance)


class _Run(NamedTuple):
    version: str
    epochs: list[EpochDigest]
    parameters: list[NDArray[np.floating]]
    fingerprint: str
    test: tuple[float, float]
    seconds: float


def compare_backends(
    config: TrainConfig,
    data: Dataset,
    targets: Sequence[BackendDevice],
    on_epoch: Callable[[BackendDevice, ArithmeticKind, int], None] = lambda *_: None,
) -> Iterator[ParityResult]:
    """Train on each backend in each arithmetic, NumPy first, and yield the results.

    Raises
    ------
    XPNetError
        NumPy cannot train; if another backend cannot, its result holds the reason.
    """
    for kind in KINDS:
        settings = _with_arithmetic(kind, config)
        for target in dict.fromkeys([NUMPY, *targets]):
            try:
                run = _train(target, settings, data, partial(on_epoch, target, kind))
            except Exception as error:  # each library raises its own errors
                if target == NUMPY:
                    raise
                version = target.probe().version or "-"
                yield ParityResult(target.backend, version, target.device, *kind, problem=one_line(error))
                continue
            if target == NUMPY:
                reference = run
            yield _compare(target, kind, run, reference)


def first_operation(config: TrainConfig, data: Dataset, target: BackendDevice) -> str:
    """Describe, in one line, the first operation in which a reproducible run differs from NumPy's."""
    settings = _with_arithmetic(KINDS[0], config)
    with (
        Trainer.open(settings, data, NUMPY.make()) as left,
        Trainer.open(settings, data, target.make()) as right,
    ):
        try:
            difference = first_difference(left, right)
        except BackendError as error:
            return str(error)
    if difference is None:
        return "only the test metrics differ"
    return f"{difference}, NumPy's value first"


def _with_arithmetic(kind: ArithmeticKind, config: TrainConfig) -> TrainConfig:
    return replace(config, arithmetic=kind.arithmetic, dtype=kind.dtype, log_every=1)


def _train(
    target: BackendDevice, settings: TrainConfig, data: Dataset, on_epoch: Callable[[int], None]
) -> _Run:
    on_epoch(0)
    backend = target.make()
    with Trainer.open(settings, data, backend) as trainer:
        start = time.perf_counter()
        record = RecordEpochs(trainer, on_epoch)
        result = trainer.fit([Evaluate(trainer), record])
        if result.interrupted:
            raise KeyboardInterrupt
        test = trainer.evaluate_test(result.state)
        layers = trainer.model(result.state).layers
    seconds = time.perf_counter() - start
    parameters = [array for layer in layers for array in layer.values()]
    metrics = test.loss, test.accuracy
    return _Run(backend.version, record.epochs, parameters, fingerprint(layers), metrics, seconds)


def _compare(target: BackendDevice, kind: ArithmeticKind, run: _Run, reference: _Run) -> ParityResult:
    epochs = enumerate(zip(run.epochs, reference.epochs, strict=True))
    epoch, layer = next(
        ((n, first_differing_layer(*pair)) for n, pair in epochs if pair[0] != pair[1]), (None, None)
    )
    pairs = list(zip(run.parameters, reference.parameters, strict=True))
    relative = max(relative_difference(a, b) for a, b in pairs)
    same = epoch is None and run.test == reference.test
    close = kind.tolerance is not None and relative <= kind.tolerance
    problem = "not the bits of NumPy"
    if kind.tolerance is not None:
        problem = f"{relative:.1e} from NumPy, more than {format_tolerance(kind.tolerance)}"
    return ParityResult(
        *(target.backend, run.version, target.device, *kind),
        fingerprint=run.fingerprint,
        epoch=epoch,
        layer=layer,
        max_ulp=max(float(np.max(ulp_distance(a, b), initial=0.0)) for a, b in pairs),
        max_relative=relative,
        seconds=round(run.seconds, 3),
        verdict="same" if same else "close" if close else "FAIL",
        problem=None if same or close else problem,
    )
