"""The one way into a training: backend, data, normalisation and trainer, from settings."""

import platform
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from xpnet._lib.text import announce, complain, pluralize
from xpnet._typing import Names, Notify
from xpnet.backends.base import Backend
from xpnet.backends.probing import identify_gpu
from xpnet.backends.resolve import Selection, resolve
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset, load_shared
from xpnet.distributed.ranks import ALONE, Ranks, count_sharing
from xpnet.nn.inputs import Normalization
from xpnet.storage.folder import describe_files
from xpnet.training.trainer import Trainer, normalize_inputs


@contextmanager
def open_training(
    config: TrainConfig,
    data: Dataset | None = None,
    ranks: Ranks = ALONE,
    *,
    like: Backend | None = None,
    normalization: Normalization | None = None,
    jobs: int = 1,
    warn: Notify = lambda text: complain(f"warning: {text}"),
) -> Iterator[tuple[Trainer, Selection]]:
    """Build a trainer from settings, with its backend, data and normalisation; yield the selection too.

    All ranks of an MPI job must call this.

    Parameters
    ----------
    config
        The settings.
    data
        The training and test samples; by default those that the settings name, read here.
    ranks
        The processes that train together.
    like
        The backend of the user's arrays, as in ``xpnet.backends.resolve.resolve``.
    normalization
        The normalisation of the inputs; by default as the settings say, fitted to the training samples.
    jobs
        The number of trainings that share the processors.
    warn
        Receives the warning if a GPU was asked for and the CPU is used instead; by default it is printed.

    Raises
    ------
    BackendError
        The backend or device is not usable here, or cannot compute in the dtype that the arithmetic needs.
    DataError
        The data are missing or damaged.
    ConfigError
        The settings do not fit the data, the initial model or this machine's memory, or the ranks differ.
    """
    with ranks.agreement():
        place, rank = (config.device, config.backend), ranks.local_rank
        selection = resolve(*place, require_device=config.require_device, like=like, local_rank=rank)
    backend = selection.backend
    ranks = replace(ranks, places=_compare_places(ranks, selection, warn))
    facts = describe_files(config.init_from) if config.init_from else {}
    if config.arithmetic == "native":  # whose bits depend on them
        facts |= {"Python": platform.python_version(), "library": f"{backend.name} {backend.version}"}
    ranks.compare(facts)
    if data is None:
        with announce(f"reading {config.data or 'mnist'}", quiet=config.quiet or ranks.rank > 0):
            data = load_shared(config, ranks)
    normalization = normalization or normalize_inputs(config, data, ranks)
    jobs *= count_sharing(ranks)[ranks.rank]
    with ExitStack() as stack:
        with ranks.agreement():
            opened = Trainer.open(config, data, backend, jobs=jobs, normalization=normalization, ranks=ranks)
            trainer = stack.enter_context(opened)
        yield trainer, selection


def _compare_places(ranks: Ranks, selection: Selection, warn: Notify) -> Names:
    """Return library and device of each rank; warn of those that use the CPU instead, or share a GPU."""
    backend, device = selection.backend, selection.device_used
    place, gpu = f"{backend.name} {backend.version} on {device}", identify_gpu(device) or ""
    every = ranks.gather([place, gpu, selection.warning or "", selection.reason or ""])
    is_mixed = any(gpu for _, gpu, *_ in every)
    gpus, fallen = defaultdict[str, list[str]](list), defaultdict[str, list[int]](list)
    for rank, (_, gpu, warning, reason) in enumerate(every):
        if gpu:
            gpus[ranks.hosts[rank]].append(gpu)
        elif warning or is_mixed:
            fallen[warning or f"computes on the CPU: {reason}"].append(rank)
    lines = [f"{ranks.describe(each)}: {text}" if ranks.size > 1 else text for text, each in fallen.items()]
    for host, used in gpus.items():
        if len({*used}) < len(used):
            lines.append(f"{host}: {len(used)} ranks share {pluralize(len({*used}), 'GPU')}")
    for line in lines if ranks.rank == 0 else ():
        warn(line)
    return tuple(place for place, *_ in every)
