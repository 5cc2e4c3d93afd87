"""The same bits everywhere, tested as equality: docs/reproducibility.md lists what must not matter.

Every test compares with NumPy in this process.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import fingerprints
import numpy as np
import pytest
from fingerprints import NETWORKS, leave_unrounded, probabilities, real_data, trained
from networks import rows_on_backends

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.training.callbacks import Evaluate
from xpnet.training.trainer import Trainer

OLDEST = "XPNET_OLDEST_PYTHON"
"""Names a Python that has the oldest NumPy that xpnet admits."""


@cache
def on_numpy(name):
    return trained(name, make("numpy", "cpu"))


@rows_on_backends("name", NETWORKS, "no hidden layer")
def test_every_backend_gives_the_same_bits(backend, name):
    assert trained(name, backend) == on_numpy(name)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_number_of_workers_does_not_matter(name, workers):
    assert trained(name, make("numpy", "cpu"), workers=workers) == on_numpy(name)


@rows_on_backends("stack", [1, 2, 1000], 2)
def test_blocks_may_be_computed_one_by_one_or_in_one_call(backend, stack):
    assert trained("default", backend, stack=stack) == on_numpy("default")


@pytest.mark.parametrize("name", ["default", "standardized"])
def test_the_memory_order_of_the_inputs_does_not_matter(name):
    data = real_data()
    other = replace(data, x_train=np.asfortranarray(data.x_train), x_test=np.asfortranarray(data.x_test))
    assert trained(name, make("numpy", "cpu"), other) == on_numpy(name)


@pytest.mark.needs("torch")
def test_settings_of_pytorch_do_not_matter():
    import torch

    data = real_data(300, 50)
    torch.set_default_dtype(torch.float16)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("medium")
    try:
        found = trained("default", make("torch", "cpu"), data)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")
    assert found == trained("default", make("numpy", "cpu"), data)


@pytest.mark.needs("torch")
def test_the_default_device_of_pytorch_does_not_matter():
    import torch

    torch.set_default_device("meta")
    try:
        found = trained("batches of a prime size", make("torch", "cpu"))
    finally:
        torch.set_default_device(None)
    assert found == on_numpy("batches of a prime size")


@pytest.mark.needs("torch")
def test_the_number_of_threads_of_pytorch_does_not_matter():
    import torch

    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert trained("default", make("torch", "cpu")) == on_numpy("default")
    finally:
        torch.set_num_threads(before)


def native_fingerprint(device, as_floats, **changes):
    """Train in native float32 on a device of array-api-strict; return the SHA-256 of the parameters."""
    config, data = TrainConfig(arithmetic="native", epochs=2, validation=20, **changes), real_data(300, 50)
    if as_floats:
        data = replace(data, x_train=data.x_train / 255.0, x_test=data.x_test / 255.0)
    with Trainer.open(config, data, make("array-api-strict", device)) as trainer:
        state = trainer.fit([Evaluate()]).state
        trainer.evaluate_test(state)
        return trainer.fingerprint(state)


@pytest.mark.needs("array-api-strict")
@pytest.mark.parametrize("device", ["no_float64", "no_x64"])
@pytest.mark.parametrize(
    ("as_floats", "changes"),
    [
        pytest.param(False, {}, id="default"),
        pytest.param(False, {"optimizer": "adam", "batch_norm": True, "dropout": 0.2}, id="adam"),
        pytest.param(True, {"batch_size": 32, "normalize": "standardize"}, id="table"),
    ],
)
def test_native_training_needs_no_64_bit_numbers(device, as_floats, changes):
    expected = native_fingerprint("device1", as_floats, **changes)
    assert native_fingerprint(device, as_floats, **changes) == expected


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "adam", "batch_norm": True, "dropout": 0.2}], ids=["sgd", "adam"]
)
def test_native_training_with_pytorch_makes_no_float64_where_there_is_none(changes):
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutFloat64(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            assert getattr(result, "dtype", None) != torch.float64
            return result

    backend, config = (
        make("torch", "cpu"),
        TrainConfig(arithmetic="native", epochs=2, batch_size=64, **changes),
    )
    backend.device_name, backend.has_float64 = "mps:0", False  # in its place
    with WithoutFloat64(), Trainer.open(config, real_data(300, 50), backend) as trainer:
        state = trainer.fit([Evaluate()]).state
        found = trainer.fingerprint(state), trainer.evaluate_test(state).loss
    with Trainer.open(config, real_data(300, 50), make("torch", "cpu")) as trainer:
        state = trainer.fit([Evaluate()]).state
        assert (trainer.fingerprint(state), trainer.evaluate_test(state).loss) == found


@rows_on_backends("units", [30], 30)
def test_a_samples_probabilities_do_not_depend_on_its_neighbours(backend, units):
    trainer = Trainer(TrainConfig(hidden=(units,)), real_data(100), backend)
    state = trainer.initial_state()
    together = probabilities(trainer, state)
    for rows in (slice(0, 1), slice(100, 203)):
        alone = probabilities(trainer, state, rows)
        assert alone.tobytes() == np.ascontiguousarray(together[:, rows]).tobytes()


# The environment of the process


def features(name):
    """The processor's features as Linux names them, or those for which NumPy has code of its own."""
    if name == "numpy":
        from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

        return [feature for feature in __cpu_dispatch__ if __cpu_features__[feature]]
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith("flags")), "").split()


ENVIRONMENTS = {
    "1 BLAS thread": {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    "2 BLAS threads": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    "Nehalem kernels": {"OPENBLAS_CORETYPE": "Nehalem"},
    "Haswell kernels": {"OPENBLAS_CORETYPE": "Haswell"},
    "SkylakeX kernels": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "NumPy without vector instructions": {"NPY_DISABLE_CPU_FEATURES": " ".join(features("numpy"))},
    "C library without FMA and AVX2": {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-FMA4,-AVX512F"
    },
}
NEEDS = {"Haswell kernels": "avx2", "SkylakeX kernels": "avx512f"}

PRODUCT = """
import numpy as np
for rows, inner, columns in [(300, 300, 300), (400, 400, 400), (1024, 784, 128), (784, 1024, 128)]:
    np.ones((rows, inner)) @ np.ones((inner, columns))
"""
"""Plain float64 products, of shapes for which forced kernels were seen to crash."""


def in_process(*words, python=sys.executable, **environment):
    """The table of a process with these environment variables.

    NumPy 2.5.5 crashes with OPENBLAS_CORETYPE=Haswell on processors with AVX-512, in any product.
    """

    def start(*words):
        command = [python, *words]
        return subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )

    result = start(fingerprints.__file__, *words)
    if result.returncode < 0 and start("-c", PRODUCT).returncode < 0:
        pytest.skip(f"a plain product of NumPy {np.__version__} crashes here with {environment}")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


FIRST, *SLOW = sorted(ENVIRONMENTS, key="Nehalem kernels".__ne__)


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_environment_of_the_process_does_not_matter(name):
    if NEEDS.get(name, "") not in ["", *features("processor")]:
        pytest.skip(f"this processor has no {NEEDS[name]}")
    assert in_process(**ENVIRONMENTS[name]) == {network: on_numpy(network) for network in NETWORKS}


@pytest.mark.slow
def test_the_oldest_numpy_gives_the_same_bits():
    if OLDEST not in os.environ:
        pytest.skip(f"{OLDEST} names no Python with the oldest NumPy")
    found = in_process(python=os.environ[OLDEST])
    assert found == {network: on_numpy(network) for network in NETWORKS}


# These tests can fail


@pytest.mark.needs("torch")
def test_without_rounding_backends_differ(monkeypatch):
    monkeypatch.setattr(Reproducible, "_round_to_grid", leave_unrounded)
    ours, theirs = (trained("deep", make(name, "cpu"), real_data(300, 50)) for name in ("numpy", "torch"))
    assert ours != theirs


@pytest.mark.slow
def test_without_rounding_kernels_differ():
    if "avx2" not in features("processor"):
        pytest.skip("this processor has no avx2, and may choose Nehalem's kernels itself")
    assert in_process("--unrounded", **ENVIRONMENTS["Nehalem kernels"]) != in_process("--unrounded")
