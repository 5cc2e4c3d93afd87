"""The same bits as NumPy's in this process: docs/reproducibility.md lists what must not matter."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import fingerprints
import numpy as np
import pytest
from fingerprints import NETWORKS, real_data, trained
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

import xpnet
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.inference.predictor import Predictor
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

OLDEST = "XPNET_OLDEST_PYTHON"


@cache
def numpys(name):
    return trained(name, make("numpy", "cpu"))


def test_the_memory_order_of_the_inputs_does_not_matter():
    data = real_data()
    data = replace(data, x_train=np.asfortranarray(data.x_train), x_test=np.asfortranarray(data.x_test))
    assert trained("standardized", make("numpy", "cpu"), data) == numpys("standardized")


@pytest.mark.needs("torch")
def test_threads_and_settings_of_pytorch_do_not_matter():
    import torch

    changes = {
        "set_num_threads": (3, torch.get_num_threads()),
        "set_default_dtype": (torch.float16, torch.float32),
        "set_default_device": ("meta", None),
        "set_flush_denormal": (True, False),
        "set_float32_matmul_precision": ("medium", "highest"),
    }
    try:
        for name, (value, _) in changes.items():
            getattr(torch, name)(value)
        digest = trained("batches of a prime size", make("torch", "cpu"))
    finally:
        for name, (_, value) in changes.items():
            getattr(torch, name)(value)
    assert digest == numpys("batches of a prime size")


@pytest.mark.needs("torch")
def test_casts_and_determinism_that_a_program_asks_pytorch_for_do_not_matter():
    import torch

    data, digests = real_data(300, 50), set()
    for is_set in (False, True):
        torch.use_deterministic_algorithms(is_set)
        with torch.autocast("cpu", enabled=is_set):
            model = xpnet.fit(data.x_train, data.y_train, backend="torch", arithmetic="native", epochs=1)
            digests.add((model.fingerprint, model.predict_proba(data.x_test).tobytes()))
        torch.use_deterministic_algorithms(mode=False)
    assert len(digests) == 1


@pytest.mark.needs("array-api-strict")
@pytest.mark.parametrize("device", ["no_float64", "no_x64"])
def test_native_training_needs_no_64_bit_numbers(device):
    settings = {"optimizer": "adam", "batch_norm": True, "dropout": 0.2, "normalize": "standardize"}
    config = TrainConfig(arithmetic="native", epochs=2, validation=20, batch_size=32, **settings)
    results = []
    for name in (device, "device1"):
        with Trainer.open(config, real_data(300, 50), make("array-api-strict", name)) as trainer:
            state = trainer.fit([Evaluate()]).state
            predicted = Predictor(trainer.model(state), trainer.backend).predict(trainer.data.x_test).tolist()
            results.append((trainer.fingerprint(state), trainer.evaluate_test(state).loss, predicted))
    assert results[0] == results[1]


ENVIRONMENTS = {
    "Nehalem kernels, 1 thread": {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1"},
    "2 threads, NumPy and C library without vector instructions": {
        "OPENBLAS_NUM_THREADS": "2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name]),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-FMA4,-AVX512F",
    },
}
FIRST, *SLOW = ENVIRONMENTS
NO_OLDEST = pytest.mark.skipif(OLDEST not in os.environ, reason=f"{OLDEST} names no Python with that NumPy")
NAMES = [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
NAMES += [pytest.param("the oldest NumPy", marks=[pytest.mark.slow, NO_OLDEST])]


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_of_the_process_does_not_matter(name):
    python = sys.executable if name in ENVIRONMENTS else os.environ[OLDEST]
    variables = os.environ | ENVIRONMENTS.get(name, {})
    printed = subprocess.check_output([python, fingerprints.__file__], env=variables, text=True)
    assert json.loads(printed) == {network: numpys(network) for network in NETWORKS}
