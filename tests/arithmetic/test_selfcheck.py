"""The check of the arithmetic passes on every backend, and finds what would change bits."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from fingerprints import real_data

from xpnet.arithmetic import Reproducible, selfcheck
from xpnet.arithmetic.selfcheck import check
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.errors import BackendError, ConfigError
from xpnet.training.trainer import Trainer


def test_every_backend_and_its_compiler_of_exact_functions_pass(backend):
    ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
    assert check(ops, f"{backend.name} on {backend.device_name}", partial(backend.compile, exact=True))


def test_a_compiler_that_changes_bits_is_named_and_not_used(capsys, monkeypatch):
    def compile_wrongly(function, **_):
        return lambda *args: [*function(*args)[:-1], np.zeros(64)]

    backend = make("numpy", "cpu")
    monkeypatch.setattr(backend, "compile", compile_wrongly)
    monkeypatch.setattr(selfcheck, "_COMPILED", {})
    trainer = Trainer(TrainConfig(), real_data(10, 5), backend)
    assert trainer.context.compile(len) is len
    assert capsys.readouterr().err.startswith("xpnet: warning: numpy on cpu changes quotients by rows when")


def test_a_gpu_is_checked_with_the_shapes_of_the_run(monkeypatch):
    shapes, gpu = [], make("numpy", "cpu")

    def matmul(a, b):  # right but for one shape
        shapes.append((*a.shape, b.shape[-1]))
        return np.matmul(a, b) + (a.shape == (1, 20, 784))

    monkeypatch.setattr(gpu, "on_gpu", True)
    monkeypatch.setattr(gpu, "xp", SimpleNamespace(**{**vars(gpu.xp), "matmul": matmul}))
    monkeypatch.setattr(gpu, "compile", lambda function, **_: function)
    with pytest.raises(BackendError, match=r"^numpy on cpu does not compute products of matrices in IEEE"):
        Trainer(TrainConfig(hidden=(20,), batch_size=32), real_data(64, 5), gpu)
    hidden, output = [(20, 784, 32), (20, 32, 784)], [(10, 20, 32), (10, 32, 20), (20, 10, 32)]
    assert shapes[1:] == [(1, *shape) for shape in hidden + output]


def test_variables_that_change_products_are_refused_on_a_gpu_unless_arithmetic_is_native(monkeypatch):
    gpu, data = make("numpy", "cpu"), real_data(10, 5)
    monkeypatch.setattr(gpu, "device_name", "cuda:0")
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(ConfigError, match=r"^CUPY_TF32=1: .* unset CUPY_TF32$"):
        Trainer(TrainConfig(), data, gpu)
    Trainer(TrainConfig(arithmetic="native"), data, gpu)
