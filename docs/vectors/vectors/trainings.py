"""trainings.json: complete trainings, which together use every setting that affects the results.

Training and test samples are made by a rule, so that nothing has to be downloaded.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from vectors.numbers import UNUSED, Content, Device, hexadecimal, real, word_texts
from xpnet.arithmetic import random
from xpnet.backends.base import Backend
from xpnet.config import TrainConfig
from xpnet.config.training import DEFAULTS, to_json
from xpnet.data.arrays import weigh_samples
from xpnet.data.datasets import Dataset
from xpnet.inference.predictor import Predictor
from xpnet.training.callbacks import Evaluate, build_final, order_callbacks
from xpnet.training.loop import EpochLog, LoopCallback
from xpnet.training.trainer import Trainer

FEATURES, CLASSES, TEST = 64, 4, 20

FILES = """
    data test_data test_split label missing drop encode unknown columns init_from out name overwrite resume
    extend
"""
COMPUTATION = "arithmetic dtype device backend require_device workers jobs repeats"
RECORDS = "log_every checkpoint_seconds keep_checkpoint_every resume_or_start tags report track quiet debug"
WITHOUT_EFFECT = {*FILES.split(), *COMPUTATION.split(), *RECORDS.split()}
"""The settings that choose files, devices or records, or another arithmetic: the trainings leave them out."""


def read_settings(case: Content) -> dict[str, Any]:
    """Return the settings of a training, as they are in Python."""
    settings = {}
    for name, value in case["settings"].items():
        if isinstance(value, str) and re.match("-?0x", value):
            settings[name] = int(value, 16) if name == "seed" else real(value)
        else:
            settings[name] = tuple(value) if isinstance(value, list) else value
    return settings


def samples(case: Content) -> Dataset:
    """Return training and test samples by the rule."""
    first = case["samples"]
    count = first + TEST
    words = random.words_per_index(0, UNUSED, FEATURES, epoch=0, indices=np.arange(count))
    x: Any = (words % np.uint64(256)).astype(np.uint8)
    if case["features"] != "pixels":
        places, dtype = {"floats": (3, np.float64), "float32": (125, np.float32)}[case["features"]]
        x = (random.uniform(words) - 0.5) * np.ldexp(1.0, np.arange(FEATURES) % 7 - places)
        x = x.astype(dtype)
    y = (random.words(0, UNUSED, count, epoch=1) % np.uint64(CLASSES)).astype(np.int32)
    data = Dataset(x[:first], y[:first], x[first:], y[first:], "by rule")
    own, of_classes = (real(case.get(f"{kind} weights")) for kind in ("sample", "class"))
    mapping = None if of_classes is None else dict(enumerate(of_classes))
    return weigh_samples(data, own, mapping, range(CLASSES))


class Record(LoopCallback):
    """Records fingerprints, losses, accuracies and scores after each epoch."""

    def __init__(self) -> None:
        self.fingerprints: list[str] = []
        self.history: list[list[str]] = []

    def on_epoch_end(self, log: EpochLog) -> None:
        """Record the epoch."""
        self.fingerprints.append(self._trainer.fingerprint(log.state))
        evaluations = [each for each in (log.training, log.validation) if each is not None]
        figures = [x for each in evaluations for x in (each.loss, each.accuracy, each.score)]
        self.history.append(hexadecimal([x for x in figures if x is not None]))


def train(case: Content, backend: Backend) -> Content:
    """Return a training and its results."""
    data = samples(case)
    config = TrainConfig(**read_settings(case), log_every=1)
    with Trainer.open(config, data, backend) as trainer:
        # One block a call: JAX would compile each operation for stacks of blocks too, which takes a minute.
        trainer.context = replace(trainer.context, stack=1)
        record, final = Record(), build_final(config)
        best = trainer.fit(order_callbacks(Evaluate(final=final), [record])).best
        model, test = trainer.model(best), trainer.evaluate_test(best)
    probabilities = Predictor(model, backend).outputs(data.x_test)[1][:2]
    return {
        **case,
        "sizes": list(model.sizes),
        "fingerprints": record.fingerprints,
        "history": record.history,
        **{name.replace("_", " "): value for name, value in final.metrics.items()},
        "fingerprint": trainer.fingerprint(best),
        "test": hexadecimal([test.loss, test.accuracy]),
        "probabilities": hexadecimal(probabilities),
    }


def trainings_of_new_names(cases: list[Content]) -> Iterator[Content]:
    """Yield the inputs of a training for each name, such as that of an optimiser, that none of these has."""
    for setting, hint in get_type_hints(TrainConfig).items():
        if setting not in WITHOUT_EFFECT and get_origin(hint) is Literal:
            used = {case["settings"].get(setting, DEFAULTS[setting]) for case in cases}
            for name in get_args(hint):
                if name not in used:
                    settings = {setting: name, "epochs": 3, "batch_size": 30, "learning_rate": "0x1.0p-6"}
                    case = {"name": f"{setting} {name}", "features": "floats", "samples": 90}
                    yield {**case, "settings": settings}


def content(device: Device, file: Content) -> Content:
    """Return the entries of the file."""
    defaults = {
        key: hexadecimal(value) if isinstance(value, float) else value
        for key, value in to_json(TrainConfig()).items()
        if key not in WITHOUT_EFFECT
    }
    defaults["seed"] = word_texts([defaults["seed"]])[0]
    cases = [*file["trainings"], *trainings_of_new_names(file["trainings"])]
    return {"defaults": defaults, "trainings": [train(case, device.backend) for case in cases]}
