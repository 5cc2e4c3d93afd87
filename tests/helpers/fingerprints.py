"""Trains a table of small networks on real images and prints their fingerprints as JSON.

Run in processes of their own, whose environment decides how the libraries compute; what is printed must
not depend on it.
"""

import hashlib
import json
import struct
from dataclasses import replace
from functools import cache

import numpy as np

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data import datasets
from xpnet.nn import functional as F
from xpnet.nn.network import forward
from xpnet.storage.model_file import fingerprint
from xpnet.training.callbacks import Evaluate
from xpnet.training.loop import LoopCallback
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


mnist = cache(datasets.load)
"""All of MNIST, which takes a fifth of a second to read."""


def real_data(train=2100, test=300):
    """Return the first images of MNIST."""
    data = mnist()
    return replace(
        data,
        x_train=data.x_train[:train],
        y_train=data.y_train[:train],
        x_test=data.x_test[:test],
        y_test=data.y_test[:test],
    )


def trained(name, backend, data=None):
    """Return the SHA-256 of all that training a network gives: parameters, history, probabilities."""
    config = replace(NETWORKS[name], log_every=1)
    data = data or (real_data(40, 20) if config.batch_size == 1 else real_data())
    with backend.scope(), backend.workers(1):
        trainer = Trainer(config, data, backend)
        history = []

        class Keep(LoopCallback):
            def on_epoch_end(self, log):
                history.extend([log.training.loss, log.training.accuracy])

        state = trainer.fit([Evaluate(), Keep()]).state
        tested = trainer.evaluate_test(state)
        digest = hashlib.sha256(fingerprint(trainer.model(state).layers).encode())
        digest.update(struct.pack(f"<{len(history) + 1}d", *history, tested.loss))
        digest.update(backend.to_host(tested.predictions).astype("<i8").tobytes())
        digest.update(probabilities(trainer, state).astype("<f8").tobytes())
        return digest.hexdigest()


def probabilities(trainer, state, rows=slice(None)):
    """Return the probabilities (classes, samples) of test samples."""
    context = trainer.context
    x = context.inputs(trainer.test.x[rows, :])
    logits, _ = forward(context.ops, state.variables.parameters, x)
    return np.ascontiguousarray(trainer.backend.to_host(F.softmax(context.ops, logits)))


def leave_unrounded(self, x, powers, bits, count):
    """Stand in for ``Reproducible._round_to_grid``: sums then depend on their order."""
    return [x]


if __name__ == "__main__":
    print(json.dumps({name: trained(name, make("numpy", "cpu")) for name in NETWORKS}))
