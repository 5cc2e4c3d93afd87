"""Trains a table of small networks on real images and prints their fingerprints as JSON.

Run in processes of their own, whose environment decides how the libraries compute; what is printed must
not depend on it.
"""

import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from hooks import OnEpoch

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data import datasets
from xpnet.storage.model_file import fingerprint
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

NETWORKS = {
    "default": TrainConfig(epochs=3),
    "deep": TrainConfig(epochs=2, hidden=(128, 64)),
    "no hidden layer": TrainConfig(epochs=3, hidden=()),
    "batches of a prime size": TrainConfig(epochs=1, batch_size=509),
    "batches of more than a block": TrainConfig(epochs=2, batch_size=1500, class_weight="balanced"),
    "standardized": TrainConfig(epochs=2, normalize="standardize"),
    "batches of one": TrainConfig(epochs=1, batch_size=1),  # on few samples
}
ROW = re.compile(r"^\| (?:initial|after (\d+) epochs?) \| `([0-9a-f]{64})` \|$", re.MULTILINE)
PAGE = (Path(__file__).parents[2] / "docs" / "reproducibility.md").read_text(encoding="utf-8")
GOLDEN = {int(epoch or 0): digest for epoch, digest in ROW.findall(PAGE)}
"""The published fingerprints of the default network on MNIST, by the number of epochs."""

mnist = cache(datasets.load)
"""All of MNIST, which takes a fifth of a second to read."""


def real_data(train=2100, test=300):
    data, sizes = mnist(), {"train": train, "test": test}
    parts = {f"{kind}_{part}": size for part, size in sizes.items() for kind in "xy"}
    return replace(data, **{name: getattr(data, name)[:size] for name, size in parts.items()})


def trained(name, backend, data=None):
    """Return the SHA-256 of what training a network gives: parameters, history, loss and classes of tests."""
    config, history = replace(NETWORKS[name], log_every=1), []
    data = data or (real_data(40, 20) if config.batch_size == 1 else real_data())
    with backend.scope(), backend.workers(1):
        trainer = Trainer(config, data, backend)
        keep = OnEpoch(lambda log: history.extend([log.training.loss, log.training.accuracy]))
        state = trainer.fit([Evaluate(), keep]).state
        tested = trainer.evaluate_test(state)
        classes = backend.to_host(tested.predictions).tolist()
        results = fingerprint(trainer.model(state).layers), history, tested.loss, classes
        return hashlib.sha256(repr(results).encode()).hexdigest()


if __name__ == "__main__":
    print(json.dumps({name: trained(name, make("numpy", "cpu")) for name in NETWORKS}))
