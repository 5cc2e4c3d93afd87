"""What the benchmark asks of every contender, and the least work that each task needs."""

from dataclasses import dataclass
from itertools import pairwise

PIXELS, CLASSES = 784, 10
IMAGES, TEST_IMAGES = 60_000, 10_000

TIMING_RATE = 1e-6
"""The learning rate of networks that the notebook's initial weights and rate would make diverge."""

PEERS = {
    "notebook": "notebook, float64",
    "torch": "PyTorch eager, float32",
    "torch-compile": "PyTorch compiled, float32",
    "torch-manual": "PyTorch without autograd, float32",
    "jax": "JAX jit, float32",
    "jax-scan": "JAX scan, float32",
    "sklearn": "scikit-learn, float32",
}
LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
OWN = {
    f"xpnet:{arithmetic}:{library}": f"xpnet {arithmetic}, {title}"
    for arithmetic in ("native", "reproducible")
    for library, title in LIBRARIES.items()
}
NAMES = PEERS | OWN

TABLES = {"wine": (178, 13, 3), "breast_cancer": (569, 30, 2), "digits": (1797, 64, 10)}
"""scikit-learn's tables that networks are cross-validated on: rows, features and classes."""
FOLDS, TABLE_EPOCHS, TABLE_BATCH = 5, 60, 32


@dataclass(frozen=True)
class Task:
    """A pass over images with the network 784-hidden-10: an epoch of training, or predictions.

    Or a cross-validation on a table, whose every fit is a training of ``TABLE_EPOCHS`` epochs.
    """

    kind: str = "train"  # or "predict", over the test images; or "validate", on a table
    hidden: tuple[int, ...] = (10,)
    batch: int | None = None  # images a step; None for all of them
    rows: int = IMAGES
    learning_rate: float = 0.1
    recipe: str | None = None  # of xpnet, whose settings replace plain gradient descent
    table: str | None = None  # a name of TABLES

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, the units of each hidden layer, and classes."""
        _, features, classes = (self.rows, PIXELS, CLASSES) if self.table is None else TABLES[self.table]
        return (features, *self.hidden, classes)

    @property
    def steps(self) -> int:
        """Steps of an epoch; 1 for predictions and cross-validations."""
        return steps(self.rows, self.batch) if self.kind == "train" else 1

    @property
    def flops(self) -> int:
        """Operations of a pass: 2 n k m for each product of n × k and k × m matrices.

        Training takes three products a layer, W A, dZ Aᵀ and Wᵀ dZ, the last one not in the first layer.
        """
        layers = [2 * inputs * units for inputs, units in pairwise(self.sizes)]
        products = sum(layers)
        if self.kind == "train":
            products += sum(layers) + sum(layers[1:])
        return products * self.rows

    @property
    def bytes(self) -> int:
        """Bytes that a pass must read at least: each pixel once, as uint8."""
        return PIXELS * self.rows


@dataclass(frozen=True)
class Workload:
    """Tasks that the same contenders do, each in one process."""

    key: str
    tasks: tuple[Task, ...]
    contenders: tuple[str, ...]
    trial: int = 10  # steps from which the time of an epoch is foreseen


def steps(rows: int, batch: int | None) -> int:
    """Return the steps of an epoch over so many rows; the last batch may be short."""
    return 1 if batch is None else -(-rows // batch)


def title(task: Task) -> str:
    """Return the heading of a task's table."""
    network = "-".join(map(str, task.sizes))
    if task.kind == "predict":
        return f"Predicting {task.rows:,} images, {network}"
    if task.table is not None:
        name = task.table.replace("_", " ")
        return f"Cross-validation on {name}: {FOLDS} folds, {network}, Adam, {TABLE_EPOCHS} epochs"
    if task.batch is None:
        return f"One epoch, {network}, full batch of {task.rows:,} images"
    if task.hidden == (10,):
        return f"One step, {network}, mini-batches of {task.batch}"
    if task.recipe is not None:
        return f"One epoch of the recipe {task.recipe}, {network}, mini-batches of {task.batch}"
    return f"One epoch, {network}, mini-batches of {task.batch}"


_INFERENCE = ("torch", "torch-compile", "jax", *OWN)
_TRAINING = ("torch", "torch-compile", "torch-manual", "jax", "jax-scan", *OWN)
WORKLOADS = (
    Workload("epoch", (Task(),), ("notebook", *_TRAINING)),
    Workload(
        "steps", tuple(Task(batch=size) for size in (32, 128, 200, 512)), ("notebook", "sklearn", *_TRAINING)
    ),
    Workload("wide", (Task(hidden=(800,), batch=256, learning_rate=TIMING_RATE),), ("sklearn", *_TRAINING)),
    Workload(
        "large",
        (Task(hidden=(1024, 1024, 1024), batch=256, recipe="dropout-1024"),),
        ("torch", "torch-compile", *OWN),
        trial=2,
    ),
    Workload(
        "tables",
        tuple(Task("validate", hidden=(64,), learning_rate=0.001, table=name) for name in TABLES),
        ("sklearn", "xpnet:native:numpy", "xpnet:reproducible:numpy"),
    ),
    Workload("inference", (Task("predict", rows=TEST_IMAGES),), ("notebook", "sklearn", *_INFERENCE)),
)
