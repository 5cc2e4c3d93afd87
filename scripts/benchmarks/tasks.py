"""Who takes part in the benchmark, what is asked of them, and the least work that each task needs."""

from dataclasses import dataclass
from itertools import pairwise

PIXELS, CLASSES = 784, 10
IMAGES, TEST_IMAGES = 60_000, 10_000

TIMING_RATE = 1e-6
"""The learning rate of networks that the notebook's initial weights and rate would make diverge."""

TABLES = {"wine": (178, 13, 3), "breast_cancer": (569, 30, 2), "digits": (1797, 64, 10)}
"""scikit-learn's tables that networks are cross-validated on: rows, features and classes."""
FOLDS, TABLE_EPOCHS = 5, 60


@dataclass(frozen=True)
class Contender:
    """A library, or one of its forms: its name in the tables, and the parts of the benchmark it is in."""

    title: str
    parts: str
    peer: str | None = None  # a class of peers.py; None: xpnet


CONTENDERS = {
    "notebook": Contender("notebook, float64", "epoch steps inference", "Notebook"),
    "sklearn": Contender("scikit-learn, float32", "steps wide tables inference", "ScikitLearn"),
    "torch": Contender("PyTorch eager, float32", "epoch steps wide large inference", "Torch"),
    "torch-compile": Contender(
        "PyTorch compiled, float32", "epoch steps wide large inference", "TorchCompiled"
    ),
    "torch-manual": Contender("PyTorch without autograd, float32", "epoch steps wide", "TorchManual"),
    "jax": Contender("JAX, float32", "epoch steps wide inference first", "Jax"),
    "torch-graph": Contender("PyTorch as a CUDA graph, float32", "", "TorchGraph"),
    "cupy": Contender("CuPy by hand, float32", "", "CuPy"),
} | {
    f"xpnet:{arithmetic}:{library}": Contender(f"xpnet {arithmetic}, {title}", parts)
    for arithmetic in ("native", "reproducible")
    for library, title, parts in (
        ("numpy", "NumPy", "epoch steps wide large inference tables"),
        ("torch", "PyTorch", "epoch steps wide large inference"),
        ("jax", "JAX", "epoch steps wide large inference first"),
        ("cupy", "CuPy", ""),
        ("cupy:XPNET_WHOLE_BATCHES", "CuPy, whole batches", ""),
    )
}


def takes_part(part: str) -> list[str]:
    """Return the contenders in a part of the benchmark."""
    return [who for who, contender in CONTENDERS.items() if part in contender.parts.split()]


@dataclass(frozen=True)
class Task:
    """A pass over images with the network 784-hidden-10: an epoch of training, or predictions.

    Or a cross-validation on a table, whose every fit is a training of ``TABLE_EPOCHS`` epochs.
    """

    kind: str = "training"  # or "inference", over the test images; or "validation", on a table
    unit: str = "an epoch"  # what the times are of: also "a step" of an epoch, "a pass", or ""
    hidden: tuple[int, ...] = (10,)
    batch: int | None = None  # images a step; None for all of them
    rows: int = IMAGES
    learning_rate: float = 0.1
    recipe: str | None = None  # of xpnet, whose settings replace plain gradient descent
    table: str | None = None  # a name of TABLES

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, the units of each hidden layer, and classes."""
        features, classes = (PIXELS, CLASSES) if self.table is None else TABLES[self.table][1:]
        return (features, *self.hidden, classes)

    @property
    def units(self) -> int:
        """Units of time in a pass: the steps of an epoch, whose last batch may be short, or 1."""
        return 1 if self.batch is None or self.unit != "a step" else -(-self.rows // self.batch)

    @property
    def flops(self) -> float:
        """Operations of a unit: 2 n k m for each product of n × k and k × m matrices.

        Training takes three products a layer, W A, dZ Aᵀ and Wᵀ dZ, the last one not in the first layer.
        """
        layers = [2 * inputs * units for inputs, units in pairwise(self.sizes)]
        products = 3 * sum(layers) - layers[0] if self.kind == "training" else sum(layers)
        return products * self.rows / self.units

    @property
    def bytes(self) -> float:
        """Bytes that a unit must read at least: each pixel once, as uint8."""
        return PIXELS * self.rows / self.units

    @property
    def title(self) -> str:
        """The heading of the task's table."""
        network = "-".join(map(str, self.sizes))
        if self.kind == "inference":
            return f"Predicting {self.rows:,} images, {network}"
        if self.table is not None:
            name = self.table.replace("_", " ")
            return f"Cross-validation on {name}: {FOLDS} folds, {network}, Adam, {TABLE_EPOCHS} epochs"
        if self.batch is None:
            return f"One epoch, {network}, full batch of {self.rows:,} images"
        recipe = "" if self.recipe is None else f" of the recipe {self.recipe}"
        return f"One {self.unit.split()[1]}{recipe}, {network}, mini-batches of {self.batch}"


WORKLOADS = {
    "epoch": [Task()],
    "steps": [Task(batch=size, unit="a step") for size in (32, 128, 200, 512)],
    "wide": [Task(hidden=(800,), batch=256, learning_rate=TIMING_RATE)],
    "large": [Task(hidden=(1024,) * 3, batch=256, rows=20 * 256, unit="a step", recipe="dropout-1024")],
    "tables": [
        Task("validation", "", (64,), batch=32, rows=rows, learning_rate=0.001, table=name)
        for name, (rows, *_) in TABLES.items()
    ],
    "inference": [Task("inference", "a pass", rows=TEST_IMAGES)],
}
"""Tasks that the same contenders do, each in one process."""
