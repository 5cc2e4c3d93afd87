"""Every setting reaches the training: it changes the result, and in the same bits on every backend."""

from dataclasses import replace

import numpy as np
import pytest
from backend_enum import CASES
from networks import BASE, SETTINGS, image_data
from published_vectors import FILES
from vectors import trainings

from xpnet._lib.tree import leaves
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError
from xpnet.training.trainer import Trainer

DATA = image_data()
NUMPY = make("numpy", "cpu")
MANY = replace(DATA, x_train=np.tile(DATA.x_train, (12, 1)), y_train=np.tile(DATA.y_train, 12))
DECIMALS = replace(DATA, x_train=DATA.x_train / 255, x_test=DATA.x_test / 255)
OF_EVERY_KIND = (
    *("tanh", "glorot", "batch norm", "loss", "label smoothing", "class weight", "weight decay of adamw"),
    *("clipping", "max-norm", "cosine", "warm-up", "dropout", "input dropout of standardised inputs"),
    *("input noise", "validation", "fading"),
)
EVERYTHING = {key: value for name in OF_EVERY_KIND for key, value in SETTINGS[name].items()}
EVERYTHING |= {"validation": 52}  # which leaves whole batches: JAX compiles the step for one size
NAMES = ["subnormal features", "distortions that fade"]
NAMES += ["equal logits and equal epochs", "best by balanced weights"]
PUBLISHED = {case["name"]: case for case in FILES["trainings"]["trainings"]}


def trained(backend, config, data=DATA, stack=None):
    with Trainer.open(config, data, backend) as trainer:
        if stack is not None:
            trainer.context = replace(trainer.context, stack=stack)
        variables = trainer.fit().state.variables
        arrays = map(backend.to_host, leaves([variables.parameters, variables.statistics]))
        return b"".join(array.tobytes() for array in arrays)


@pytest.mark.parametrize("backend", CASES[1:], indirect=True)
def test_every_backend_gives_the_same_bits_with_everything_on(backend):
    config = replace(BASE, **EVERYTHING)
    assert trained(backend, config) == trained(NUMPY, config)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_published_trainings_have_their_results_on_every_library(name, case):
    inputs = {key: PUBLISHED[name][key] for key in ("name", "features", "samples", "settings")}
    assert trainings.train(inputs, case.make()) == PUBLISHED[name]


def test_workers_and_stacked_blocks_change_no_bit():
    config = replace(BASE, **{**EVERYTHING, "validation": 0, "epochs": 2, "batch_size": 2150})
    beside = make("numpy", "cpu")
    with beside.workers(3):
        assert trained(beside, config, MANY, stack=2) == trained(NUMPY, config, MANY, stack=1)


@pytest.mark.parametrize(("batch_norm", "fitted"), [(True, 7), (False, 5)])
def test_with_batch_norm_no_batch_has_a_single_sample(batch_norm, fitted):
    config = replace(BASE, batch_size=5, batch_norm=batch_norm, validation=180 - 31)
    assert Trainer(config, DATA, NUMPY).loader.batch_size == fitted


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"validation": 180}, DATA, "--validation: expected fewer than the 180 training samples, got 180"),
        ({"augment_shift": 1.0}, DECIMALS, "needs images of pixels"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_one_line(changes, data, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(replace(BASE, **changes), data, NUMPY)
