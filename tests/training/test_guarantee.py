"""The same bits everywhere, tested as equality: docs/reproducibility.md lists what must not matter.

Every test compares with one table, computed by NumPy in this process.
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
from fingerprints import NETWORKS, all_fingerprints, probabilities, real_data, trained

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.training.trainer import Trainer

SCRIPT = [sys.executable, fingerprints.__file__]
OLDEST = "XPNET_OLDEST_PYTHON"
"""Names a Python that has the oldest NumPy that xpnet admits."""


@pytest.fixture(scope="module")
def table():
    return all_fingerprints(make("numpy", "cpu"))


def in_process(*words, python=None, **environment):
    """The table of a process with these environment variables."""
    command = [python, *SCRIPT[1:], *words] if python else [*SCRIPT, *words]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def flags():
    """The processor's features, as Linux names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def numpy_features():
    """The features for which NumPy chooses code at run time and which this processor has."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])


ENVIRONMENTS = {
    "1 BLAS thread": {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    "2 BLAS threads": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    "Nehalem kernels": {"OPENBLAS_CORETYPE": "Nehalem"},
    "Haswell kernels": {"OPENBLAS_CORETYPE": "Haswell"},
    "SkylakeX kernels": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "NumPy without vector instructions": {"NPY_DISABLE_CPU_FEATURES": numpy_features()},
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
"""Plain float64 products, of the shapes among others for which forced kernels were seen to crash."""


def environment(name):
    needed = NEEDS.get(name)
    if needed is not None and needed not in flags():
        pytest.skip(f"this processor has no {needed}")
    if numpy_crashes(name):
        pytest.skip(f"{name}: a plain product of NumPy {np.__version__} crashes with them here")
    return ENVIRONMENTS[name]


@cache
def numpy_crashes(name):
    """Whether a process with these environment variables dies of a product that is none of xpnet's.

    NumPy 2.5.5 does, with OPENBLAS_CORETYPE=Haswell on processors with AVX-512.
    """
    variables = {**os.environ, **ENVIRONMENTS[name]}
    code = subprocess.run([sys.executable, "-c", PRODUCT], env=variables, check=False).returncode
    assert code <= 0, f"{name}: the plain product ended with code {code}"
    return code < 0


def test_every_backend_gives_the_same_bits(backend, table):
    assert all_fingerprints(backend) == table


@pytest.mark.needs("array-api-strict")
def test_the_other_device_of_array_api_strict_gives_the_same_bits(table):
    backend, data = make("array-api-strict", "cpu"), real_data()
    for name in ("default", "deep", "standardized"):
        assert trained(NETWORKS[name], data, backend) == table[name]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_the_number_of_workers_does_not_matter(table, workers):
    assert all_fingerprints(make("numpy", "cpu"), workers=workers) == table


@pytest.mark.parametrize("stack", [1, 2, 1000])
def test_blocks_may_be_computed_one_by_one_or_in_one_call(backend, table, stack):
    data = real_data()
    for name in ("default", "deep"):
        assert trained(NETWORKS[name], data, backend, stack=stack) == table[name]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_of_the_process_does_not_matter(table, name):
    assert in_process(**environment(name)) == table


def test_the_oldest_numpy_gives_the_same_bits(table):
    if OLDEST not in os.environ:
        pytest.skip(f"{OLDEST} names no Python with the oldest NumPy")
    assert in_process(python=os.environ[OLDEST]) == table


def test_the_memory_order_of_the_inputs_does_not_matter(table):
    data = real_data()
    other = replace(data, x_train=np.asfortranarray(data.x_train), x_test=np.asfortranarray(data.x_test))
    for name in ("default", "standardized"):
        assert trained(NETWORKS[name], other, make("numpy", "cpu")) == table[name]


@pytest.mark.needs("torch")
def test_settings_of_pytorch_do_not_matter(table):
    import torch

    data, backend = real_data(), make("torch", "cpu")
    torch.set_default_dtype(torch.float16)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("medium")
    try:
        assert trained(NETWORKS["default"], data, backend) == table["default"]
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")


def test_a_samples_probabilities_do_not_depend_on_its_neighbours(backend):
    trainer = Trainer(TrainConfig(hidden=(30,)), real_data(), backend)
    state = trainer.initial_state()
    together = probabilities(trainer, state)
    for rows in (slice(0, 1), slice(7, 8), slice(100, 303)):
        alone = probabilities(trainer, state, rows)
        assert alone.tobytes() == np.ascontiguousarray(together[:, rows]).tobytes()


@pytest.fixture
def unrounded(monkeypatch):
    """Operands are left as they are, so that sums depend on their order."""
    rounded = fingerprints.Reproducible._round_to_grid
    fingerprints.without_rounding()
    yield
    fingerprints.Reproducible._round_to_grid = rounded


@pytest.mark.needs("torch")
def test_without_rounding_backends_differ(unrounded):
    data = real_data()
    ours, theirs = (trained(NETWORKS["deep"], data, make(name, "cpu")) for name in ("numpy", "torch"))
    assert ours != theirs


def test_without_rounding_kernels_differ():
    if "avx2" not in flags():
        pytest.skip("this processor has no avx2, and may choose Nehalem's kernels itself")
    own = in_process("--unrounded")
    assert in_process("--unrounded", **environment("Nehalem kernels")) != own
