"""A data set in the memory of each machine, shared by the ranks of an MPI job there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data import datasets
from xpnet.data.datasets import Dataset
from xpnet.data.memmap import is_mapped
from xpnet.data.table import ROLES
from xpnet.distributed.exchange import share_memory
from xpnet.distributed.ranks import Ranks
from xpnet.nn.columns import Columns


def load_shared(ranks: Ranks, data: Path | None, test_data: Path | None, **options: Any) -> Dataset:
    """Read a data set once on each machine, with `datasets.load`; the ranks there share the memory.

    Each rank maps mapped files itself.

    Raises
    ------
    ConfigError, DataError
        A rank cannot read the data, or machines have different ones: some rows of mapped features count.
    """
    if ranks.comm is None:
        return datasets.load(data, test_data, **options)
    comm = ranks.on_this_host()
    is_reader, found = comm.rank == 0, None
    with ranks.agreement():
        found = datasets.load(data, test_data, **options) if is_reader else None
    if len(set(ranks.hosts)) > 1:  # each of which reads its own files
        ranks.compare({"the data's SHA-256": None if found is None else datasets.digest(found, some=True)})
    header = b"" if found is None else _describe(found)
    size = np.array([len(header)])
    comm.Bcast(size)
    content = np.frombuffer(header, np.uint8).copy() if is_reader else np.empty(int(size[0]), np.uint8)
    comm.Bcast(content)
    described = json.loads(content.tobytes())
    if described["mapped"]:
        with ranks.agreement():
            found = found or datasets.load(data, test_data, **options)
    names = [name for name in ROLES if name not in described["mapped"]]
    sources = {name: getattr(found, name, None) if is_reader else None for name in names}
    arrays = {name: _share(comm, source, *described[name]) for name, source in sources.items()}
    comm.Barrier()
    if found is not None:
        return replace(found, **arrays)
    classes = max(int(arrays[name].max(initial=0)) for name in ("y_train", "y_test")) + 1
    features = arrays["x_train"].shape[1]
    columns = Columns.from_json(described["columns"], features, described["classes"] or classes)
    return Dataset(**arrays, name=described["name"], columns=columns, notes=tuple(described["notes"]))


def _describe(data: Dataset) -> bytes:
    """Return what the other ranks of the machine need to know, as JSON."""
    arrays = {name: (getattr(data, name).dtype.str, getattr(data, name).shape) for name in ROLES}
    classes = None if data.columns.classes is None else len(data.columns.classes)
    mapped = [name for name in ROLES if is_mapped(getattr(data, name))]
    words = {"name": data.name, "notes": data.notes, "columns": data.columns.to_json()}
    return json.dumps({**arrays, **words, "classes": classes, "mapped": mapped}).encode()


def _share(comm: Any, array: Any, dtype: str, shape: list[int]) -> Any:
    """Return an array in memory that the ranks of a machine share; the first one has its values."""
    shared = share_memory(comm, tuple(shape), dtype)
    if array is not None:
        shared[...] = array
    return shared
