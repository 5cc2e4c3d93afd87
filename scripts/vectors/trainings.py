"""trainings.json: complete trainings, which together use every setting that affects the results.

Training and test samples are made by a rule, so that nothing has to be downloaded.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vectors.numbers import UNUSED, hexadecimal, hexadecimals, word_text
from xpnet.arithmetic import random
from xpnet.backends.base import Backend
from xpnet.config import TrainConfig
from xpnet.config.flags import Parser, add_settings, get_settings
from xpnet.config.training import DEFAULTS, to_json
from xpnet.data.datasets import Dataset
from xpnet.inference.predictor import Predictor
from xpnet.training.callbacks import Evaluate, build_final
from xpnet.training.loop import Callback, EpochLog
from xpnet.training.trainer import Trainer

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURES, CLASSES, TEST = 64, 4, 20
PROBABILITIES = 2
"""The number of test samples whose probabilities are given."""

FILES = "data test_data test_split label missing columns init_from out name overwrite resume extend"
COMPUTATION = "arithmetic dtype device backend require_device workers jobs repeats"
RECORDS = "log_every checkpoint_seconds keep_checkpoint_every resume_or_start tags report track quiet debug"
WITHOUT_EFFECT = {*FILES.split(), *COMPUTATION.split(), *RECORDS.split()}
"""The settings that choose files, devices or records, or another arithmetic: the trainings leave them out."""

DATA_RULE = (
    "Sample i (from 0; the test samples follow the training samples) and feature f (from 0) have word f of "
    "seed 0, purpose 0, epoch 0, index i. Pixels: word mod 256. Floats: (u - 0.5)*2^((f mod 7) - 3), with u "
    "of that word. The label of sample i is word i of seed 0, purpose 0, epoch 1, index 0, mod 4 (classes)."
)


@dataclass(frozen=True)
class Training:
    """A training: flags of ``xpnet train``, and the size and kind of its data."""

    name: str
    flags: str
    samples: int = 90
    kind: Literal["pixels", "floats"] = "pixels"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the flags give."""
        return parse(self.flags)


@cache
def parse(flags: str) -> dict[str, Any]:
    """Return the settings that flags of ``xpnet train`` give."""
    parser = Parser(debug=False, prog="make_vectors.py", description="", epilog="")
    add_settings(parser, DEFAULTS)
    return get_settings(parser.parse_args(flags.split()))


TRAININGS = [
    Training("the defaults, in four blocks", "--epochs 3", samples=3142),
    # A batch of more samples than there are.
    Training(
        "softmax regression",
        "--epochs 4 --hidden --batch-size 200 --loss squared-error --normalize none "
        "--optimizer momentum --momentum 0.5 --learning-rate 0.0002 --seed 18446744073709551615 "
        "--schedule exponential",
    ),
    # The last batch would have one sample.
    Training(
        "batch norm and dropout in mini-batches",
        "--epochs 3 --hidden 10 10 --init he --batch-size 70 --batch-norm --seed 7 --dropout 0.25 "
        "--input-dropout 0.1 --label-smoothing 0.1 --optimizer adam --learning-rate 0.01 "
        "--schedule cosine --warmup-epochs 1 --clip-norm 0.5",
        samples=141,
    ),
    Training(
        "batch norm in a full batch of three blocks",
        "--epochs 3 --activation tanh --init glorot --batch-norm --normalize standardize "
        "--optimizer nesterov --validation 20 --seed 9223372036854775813 --schedule step "
        "--schedule-step-epochs 2 --weight-decay 0.01",
        samples=2138,
        kind="floats",
    ),
    Training(
        "mini-batches of two blocks, and of one",
        "--epochs 2 --activation sigmoid --batch-size 1094 --dropout 0.5 --batch-norm "
        "--class-weight balanced --optimizer adamw --learning-rate 0.01",
        samples=2118,
        kind="floats",
    ),
    # The best epoch is one of two with its accuracy.
    Training(
        "early stopping",
        "--epochs 20 --activation leaky-relu --batch-norm --batch-size 16 --validation 0.18 "
        "--patience 3 --optimizer adamw --weight-decay 0.2 --learning-rate 0.01 --max-norm 1.5 "
        "--seed 10 --class-weight balanced",
        samples=110,
    ),
    Training(
        "the mean of the last epochs",
        "--epochs 5 --batch-norm --batch-size 32 --dropout 0.25 --average-epochs 3 --input-noise 0.3 "
        "--schedule cosine --schedule-factor 0.25 --optimizer adam --learning-rate 0.01 --validation 20 "
        "--seed 3",
        samples=110,
    ),
    Training("ELU", "--epochs 3 --activation elu --init he --batch-size 30 --seed 4"),
    Training(
        "images moved, turned, scaled and sheared",
        "--epochs 3 --batch-size 20 --augment-shift 1.5 --augment-rotate 20.0 --seed 1 "
        "--augment-scale 0.2 --augment-shear 0.3 --optimizer momentum --schedule step "
        "--schedule-step-epochs 1 --schedule-factor 0.5 --learning-rate 0.05",
        samples=40,
    ),
    Training(
        "elastic deformation, in full batch",
        "--epochs 3 --normalize standardize --augment-elastic-alpha 8.0 --seed 2 "
        "--augment-elastic-sigma 2.0 --augment-rotate 90.0 --input-dropout 0.2 --validation 20 "
        "--dropout 0.4 --loss squared-error --label-smoothing 0.2 --warmup-epochs 2",
        samples=40,
    ),
    Training(
        "distortions that fade",
        "--epochs 4 --batch-size 20 --augment-shift 1.5 --augment-rotate 20.0 "
        "--augment-elastic-alpha 8.0 --augment-fade-epochs 2 --seed 5 --learning-rate 0.05",
        samples=40,
    ),
    Training(
        "thicker and thinner lines",
        "--epochs 3 --batch-size 20 --augment-elastic-alpha 8.0 --augment-thickness 0.75 "
        "--augment-fade-epochs 1 --seed 6 --learning-rate 0.05",
        samples=40,
    ),
    Training(
        "floats as they are",
        "--epochs 3 --normalize none --batch-size 70 --input-dropout 0.3 --max-norm 1.0 "
        "--weight-decay 0.05 --schedule exponential --schedule-factor 0.7 --init he --clip-norm 0.5",
        kind="floats",
    ),
]


def samples(training: Training) -> Dataset:
    """Return training and test samples by the rule."""
    count = training.samples + TEST
    words: NDArray[np.uint64] = random.words_per_index(
        0, UNUSED, FEATURES, epoch=0, indices=np.arange(count, dtype=np.int64)
    )
    x: NDArray[Any] = (words % np.uint64(256)).astype(np.uint8)
    if training.kind == "floats":
        x = (random.uniform(words) - 0.5) * np.ldexp(1.0, np.arange(FEATURES) % 7 - 3)
    y = (random.words(0, UNUSED, count, epoch=1) % np.uint64(CLASSES)).astype(np.int32)
    first = training.samples
    return Dataset(x[:first], y[:first], x[first:], y[first:], "by rule")


class Record(Callback):
    """Records fingerprints, losses and accuracies after each epoch."""

    def __init__(self) -> None:
        self.fingerprints: list[str] = []
        self.history: list[list[str]] = []

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        """Record the epoch."""
        self.fingerprints.append(trainer.fingerprint(log.state))
        evaluations = [each for each in (log.training, log.validation) if each is not None]
        self.history.append(hexadecimals([x for each in evaluations for x in (each.loss, each.accuracy)]))


def result(training: Training, backend: Backend) -> dict[str, Any]:
    """Return a training and what comes of it."""
    data = samples(training)
    config = TrainConfig(**training.settings, log_every=1)
    with Trainer.open(config, data, backend) as trainer:
        # One block a call: JAX would compile each operation for stacks of blocks too, which takes a minute.
        trainer.context = replace(trainer.context, stack=1)
        record, final = Record(), build_final(config)
        best = trainer.fit([Evaluate(), final, record]).best
        model, test = trainer.model(best), trainer.evaluate_test(best)
    probabilities = Predictor(model, backend).outputs(data.x_test)[1][:PROBABILITIES]
    shown = {key: value for key, value in to_json(config).items() if value != to_json(TrainConfig())[key]}
    del shown["log_every"]
    return {
        "name": training.name,
        "features": training.kind,
        "samples": training.samples,
        "sizes": list(model.sizes),
        "settings": {key: setting_text(key, value) for key, value in shown.items()},
        "fingerprints": record.fingerprints,
        "history": record.history,
        **{name.replace("_", " "): value for name, value in final.metrics.items()},
        "fingerprint": trainer.fingerprint(best),
        "test": hexadecimals([test.loss, test.accuracy]),
        "probabilities": hexadecimals(probabilities),
    }


def setting_text(name: str, value: Any) -> Any:
    """Return the value of a setting for the file: floats in hexadecimal, the seed as a word."""
    if name == "seed":
        return word_text(value)
    return hexadecimal(value) if isinstance(value, float) else value


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    defaults = {key: value for key, value in to_json(TrainConfig()).items() if key not in WITHOUT_EFFECT}
    return {
        "data": DATA_RULE,
        "features": FEATURES,
        "classes": CLASSES,
        "test samples": TEST,
        "defaults": {key: setting_text(key, value) for key, value in defaults.items()},
        "trainings": [result(training, backend) for training in TRAININGS],
    }
