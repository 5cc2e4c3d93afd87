"""The memory that a training takes on the host."""

import numpy as np

from xpnet._lib.machine import available_memory
from xpnet.arithmetic.blocks import BLOCK_SIZE
from xpnet.config import TrainConfig
from xpnet.errors import ConfigError, setting
from xpnet.nn.architecture import Network, format_sizes

MEMORY_VALUES = {"reproducible": (8, 8, 6, 12), "native": (6, 5, 4, 6), "": (4, 0, 3, 3)}
"""Numbers in memory: of each parameter, with Adam of each besides, and of each hidden unit and class a sample
that is computed. Most are in the memory of replayed functions, in this arithmetic; "": none is replayed."""
MEMORY_MARGIN = 1.5
"""The largest factor between the estimate and peaks measured with 4,000 and 21,000 classes, on NumPy."""


def estimate_memory(config: TrainConfig, network: Network, samples: int, threads: int) -> int:
    """Return an estimate of the bytes that training takes beside its data.

    Parameters
    ----------
    config, network
        The settings and the architecture.
    samples
        The number of training samples.
    threads
        The number of threads that record functions of blocks, to replay them; 0 if none is recorded.

    Raises
    ------
    ConfigError
        This machine has less, even if the estimate is `MEMORY_MARGIN` times too high.
    """
    batch = samples if config.batch_size == "full" else config.batch_size
    block, step = (min(BLOCK_SIZE, samples, count) for count in (BLOCK_SIZE, batch))
    is_recorded = threads and config.epochs * samples > step  # a function is, in its second call
    of_parameter, of_adam, of_unit, of_class = MEMORY_VALUES[config.arithmetic if is_recorded else ""]
    of_parameter += of_adam * config.optimizer.startswith("adam")
    # A step, recorded after evaluation, takes half of its memory besides. Each thread evaluates a block: the
    # memory of all adds up for many classes, but not always for hidden layers.
    parameters = network.multiplications + sum(network.sizes[1:])
    values = of_parameter * parameters + (block + step // 2) * of_unit * sum(network.sizes[1:-1])
    values += (block * max(threads, 1) + step // 2) * of_class * network.sizes[-1]
    needed, available = np.dtype(config.float_type).itemsize * values, available_memory()
    if available is not None and needed > MEMORY_MARGIN * available:
        size = f"a {format_sizes(network.sizes)} network has {parameters} parameters"
        memory = f"needs about {needed / 2**30:.1f} GiB, this machine has {available / 2**30:.1f}"
        remedy = f"{setting('workers')}, or {setting('arithmetic', 'native')}"
        raise ConfigError(f"{setting('hidden')}: {size} and {memory}: use fewer units, classes or {remedy}")
    return needed
