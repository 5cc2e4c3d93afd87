"""docs/reproducibility.md and its second implementation, tests/reference*.py, agree."""

import re
import sys

import pytest
import reference
import reference_images
import reference_network
import reference_training
from fingerprints import PAGE, real_data
from published_vectors import DEFAULTS, MODULES, TESTS

from xpnet.arithmetic import elementary, host
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.storage.model_file import fingerprint
from xpnet.training.trainer import Trainer


def test_reference_imports_only_the_standard_library_and_numpy():
    text = "\n".join((TESTS / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)
    imported = set(re.findall(r"^ *(?:from|import) +([A-Za-z_]+)", text, re.MULTILINE))
    assert {"math"} <= imported <= {*sys.stdlib_module_names, "numpy", *MODULES}


@pytest.mark.parametrize("images", [200, pytest.param(5500, marks=pytest.mark.slow)])
def test_fingerprints_at_the_start_and_after_one_epoch(images):
    data = real_data(images)
    x, labels = data.x_train.reshape(images, -1), data.y_train
    training = reference_training.Training(DEFAULTS, reference_training.Data(True, x, labels, [], [], 10))
    digests = [reference.fingerprint_of(reference_network.pack(training.network))]
    training.train_epoch(1)
    digests += [reference.fingerprint_of(reference_network.pack(training.network))]
    assert re.findall(rf"^\| (?:initial|{images:,} images) \| `(\w{{64}})`", PAGE, re.MULTILINE) == digests
    trainer = Trainer(TrainConfig(epochs=1), data, make("numpy", "cpu"))
    assert fingerprint(trainer.model(trainer.fit().state).layers) == digests[1]


def test_the_constants_in_hexadecimal_are_those_of_both_implementations():
    annex = PAGE.partition("## Annex D")[2].partition("## Annex E")[0]
    values = [float.fromhex(text) for text in re.findall(r"0x\w+\.\w+p[+-]\d+", annex)]
    steps = (elementary.PER_STEP, elementary.STEP_HIGH, elementary.STEP_LOW)
    ours = (*steps, elementary.LN2_HIGH, elementary.LN2_LOW, host._RADIANS)
    assert values == [*ours, *elementary.powers_of_two()[1022 * 64 : 1023 * 64]]
    of_exp = (reference.EXP_64_BY_LN2, reference.EXP_H, reference.EXP_L)
    of_log = (reference.LOG_H, reference.LOG_L)
    assert values == [*of_exp, *of_log, reference_images.RADIANS_OF_A_DEGREE, *reference.EXP_T]
