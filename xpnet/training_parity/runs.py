"""Training runs on each backend and in each arithmetic, compared with NumPy's."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from xpnet._lib.tree import leaves
from xpnet._typing import HostArray, Json, Notify
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import probe
from xpnet.config import TrainConfig
from xpnet.config.settings import Arithmetic
from xpnet.data.datasets import Dataset
from xpnet.parity.devices import NUMPY, BackendDevice
from xpnet.parity.distance import relative_difference, ulp_distance
from xpnet.training.callbacks import Evaluate
from xpnet.training.loop import EpochLog, LoopCallback
from xpnet.training.opening import open_training
from xpnet.training_parity.difference import first_difference


class ArithmeticKind(NamedTuple):
    """An arithmetic, its dtype, and the tolerance of its parameters."""

    arithmetic: Arithmetic
    dtype: Literal["float32", "float64"]
    tolerance: float | None  # relative to the largest parameter of the tensor; None: the same bits

    def __str__(self) -> str:
        return f"{self.arithmetic} {self.dtype}"


KINDS = (
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

    target: BackendDevice
    version: str
    kind: ArithmeticKind
    fingerprint: str | None = None
    epoch: int | None = None
    layer: int | None = None
    max_ulp: float | None = None
    max_relative: float | None = None
    seconds: float | None = None
    verdict: Literal["same", "close", "FAIL"] = "FAIL"
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.target.where}, {self.kind}"


Digests = list[tuple[int, int | None, str]]
"""Digests by epoch and layer."""


class _RecordEpochs(LoopCallback):
    """Records digests of each epoch, which are small enough to keep; called after ``Evaluate``."""

    def __init__(self, notify: Callable[[int], object]) -> None:
        self._notify, self.digests = notify, Digests()

    def on_epoch_end(self, log: EpochLog) -> None:
        """Record digests of each layer, of the other variables and of the metrics."""
        self._notify(log.epoch)
        parameters, *variables = self._trainer.to_host(log.state.variables)
        self.digests += [(log.epoch, *each) for each in enumerate(map(_hash_arrays, parameters))]
        # In the text of the metrics NaN equals NaN and the two zeros differ.
        self.digests += [(log.epoch, None, text) for text in (_hash_arrays(variables), repr(log.metrics))]


class _Run(NamedTuple):
    facts: Json  # of the result
    digests: Digests
    parameters: list[HostArray]
    test: tuple[float, float]


def compare_backends(
    config: TrainConfig, data: Dataset, targets: Sequence[BackendDevice], show: Notify
) -> Iterator[ParityResult]:
    """Yield the results of training on each backend in each arithmetic, NumPy first.

    ``show`` receives descriptions of the progress.

    Raises
    ------
    XPNetError
        NumPy cannot train; if another backend cannot, its result holds the reason.
    """
    pairs = [*product(KINDS, dict.fromkeys([NUMPY, *targets]))]
    for number, (kind, target) in enumerate(pairs, 1):
        heading = f"run {number} of {len(pairs)}, {target.where}, {kind}"
        try:
            run = _train(_configure(config, kind, target), data, heading, show)
        except Exception as error:  # each library raises its own errors
            if target == NUMPY:
                raise
            yield ParityResult(target, probe(*target).version or "-", kind, problem=one_line(error))
            continue
        if target == NUMPY:
            reference = run
        yield _compare(ParityResult(target, kind=kind, **run.facts), run, reference)


def first_operation(config: TrainConfig, data: Dataset, row: ParityResult) -> str:
    """Describe, in one line, the first operation in which a reproducible run differs from NumPy's."""
    if row.epoch is None:
        return "only the test metrics differ"
    numpy, library = (_configure(config, row.kind, target) for target in (NUMPY, row.target))
    with open_training(numpy, data) as (left, _), open_training(library, data) as (right, _):
        difference = first_difference(left, right)
    if not difference:
        return f"epoch {row.epoch} differs, but not when computed again: a backend does not repeat itself"
    return f"{difference}, NumPy's value first"


def _configure(config: TrainConfig, kind: ArithmeticKind, target: BackendDevice) -> TrainConfig:
    changes = {**target._asdict(), "arithmetic": kind.arithmetic, "dtype": kind.dtype}
    return replace(config, **changes, log_every=1, require_device=True)


def _train(config: TrainConfig, data: Dataset, heading: str, show: Notify) -> _Run:
    show(heading)
    with open_training(config, data) as (trainer, _):
        start = time.perf_counter()
        record = _RecordEpochs(lambda epoch: show(f"{heading}: epoch {epoch} of {config.epochs}"))
        end = trainer.fit([Evaluate(), record])
        if end.interrupted:
            raise KeyboardInterrupt
        test = trainer.evaluate_test(end.state)
        model = trainer.model(end.state)
    seconds = round(time.perf_counter() - start, 3)
    facts = {"version": trainer.backend.version, "fingerprint": model.fingerprint, "seconds": seconds}
    return _Run(facts, record.digests, [*leaves(model.parameters)], (test.loss, test.accuracy))


def _hash_arrays(tree: object) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(leaf).data for leaf in leaves(tree))).hexdigest()


def _compare(result: ParityResult, run: _Run, reference: _Run) -> ParityResult:
    both = zip(run.digests, reference.digests, strict=True)
    epoch, layer, _ = next((own for own, theirs in both if own != theirs), (None, None, None))
    pairs = list(zip(run.parameters, reference.parameters, strict=True))
    max_ulp = max(float(np.max(ulp_distance(a, b), initial=0.0)) for a, b in pairs)
    relative = max(relative_difference(a, b) for a, b in pairs)
    result = replace(result, epoch=epoch, layer=layer, max_ulp=max_ulp, max_relative=relative)
    tolerance = result.kind.tolerance
    if epoch is None and run.test == reference.test:
        return replace(result, verdict="same")
    if tolerance is None:
        return replace(result, problem="not the bits of NumPy")
    if relative <= tolerance:
        return replace(result, verdict="close")
    return replace(result, problem=f"{relative:.1e} from NumPy, more than {format_tolerance(tolerance)}")
