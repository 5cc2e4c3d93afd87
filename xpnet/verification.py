"""``xpnet.verify``: prove from Python that a recorded training gives the results in its record."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xpnet.config.keywords import with_keywords
from xpnet.config.settings import BackendName
from xpnet.data import datasets
from xpnet.data.arrays import table_from_arrays, weigh_samples
from xpnet.data.datasets import Dataset
from xpnet.fitting import make_dataset, select_from_settings
from xpnet.recording.recorded_run import RecordedRun, find_file_difference, read_recorded
from xpnet.recording.verification import find_difference
from xpnet.storage.record import check_files
from xpnet.training.console import TrainingConsole
from xpnet.training.trainer import Trainer


@dataclass(frozen=True)
class Verification:
    """The result of a verification, which is true if everything is the same."""

    difference: str | None
    """The first difference, in words; None if there is none."""

    start: tuple[Path, str | None] | None = None
    """The file that the training was computed from, and its SHA-256; None if it starts from the seed."""

    def __bool__(self) -> bool:
        return self.difference is None


@with_keywords
def verify(
    run: str | Path,
    X: object = None,
    y: object = None,
    *,
    validation_data: tuple[object, object] | None = None,
    sample_weight: object = None,
    class_weight: Mapping[Any, float] | None = None,
    between: tuple[int, int] | None = None,
    device: str = "auto",
    backend: BackendName = "auto",
    workers: Literal["auto"] | int = "auto",
    verbose: bool = False,
) -> Verification:
    """Train again with the settings of a record, and compare every result bit by bit, as `xpnet verify` does.

    Parameters
    ----------
    run
        The folder of the run.
    X, y, validation_data, sample_weight, class_weight
        The data and weights of a training by `fit`, as they were passed to it. The data of `xpnet train` are
        read from their files: leave all of these out.
    between
        Two epochs (A, B): verify those after A up to B alone, from the checkpoint that was kept after A.
    device, backend, workers
        Where to compute, as for `fit`; not necessarily where the training was.
    verbose
        Print the metrics of the epochs, with a progress bar.

    Returns
    -------
    Verification
        True if everything is the same; else `difference` names the first epoch, metric or layer that differs.

    Raises
    ------
    ConfigError
        It cannot be verified: the data are others, the arithmetic was native, the training has not ended, or
        it followed another version of the specification.
    DataError
        There is no run, or one of its files is damaged; or the data are not as `fit` takes them.
    BackendError
        The backend or device is not usable here.
    """
    folder = Path(run)
    if (difference := find_file_difference(folder, all_files=False)) is not None:
        return Verification(difference)
    recorded = read_recorded(folder, between)
    config = replace(recorded.config, device=device, backend=backend, workers=workers, require_device=False)
    if X is None:
        check_files(folder, recorded.record, "pass them")
        data = datasets.load(config.data, config.test_data, **config.table_options)
    else:
        weights = sample_weight, class_weight
        data = _make_data(recorded, (X, y), validation_data, weights)
    selection = select_from_settings(config, X)
    with Trainer.open(config, data, selection.backend) as trainer:
        console = TrainingConsole(trainer, recorded.last, quiet=not verbose, advise=False)
        return Verification(find_difference(recorded, trainer, console), recorded.initial_file)


def _make_data(
    run: RecordedRun,
    samples: tuple[object, object],
    validation_data: tuple[object, object] | None,
    weights: tuple[object, Mapping[Any, float] | None],
) -> Dataset:
    """Return the data set that ``fit`` makes of these arguments."""
    training, validation = table_from_arrays(*samples, missing=run.config.missing), None
    if validation_data is not None:
        validation = table_from_arrays(*validation_data, " in validation_data", columns=training.columns)
    data = make_dataset(training, validation, run.record["data"].get("classes"))
    return weigh_samples(data, *weights, data.columns.classes or range(data.classes))
