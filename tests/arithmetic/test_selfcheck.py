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
    check(ops, "here")
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


def shortened(a, b):
    """A product of matrices in float32, as with emulation or TF32."""
    return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float64)


class Reciprocal(np.ndarray):
    """An array whose a / b is a · (1/b)."""

    def __truediv__(self, other):
        return np.asarray(self) * (1.0 / np.asarray(other))


@pytest.mark.parametrize(
    ("replaced", "operation"),
    [
        ({"matmul": shortened}, "products of matrices"),
        ({"asarray": lambda x, **_: np.array(x).view(Reciprocal)}, "quotients"),
    ],
    ids=["float32", "reciprocal"],
)
def test_what_would_change_bits_is_named(replaced, operation):
    ops = Reproducible(SimpleNamespace(**{**vars(np), **replaced}), "cpu", np.float64)
    with pytest.raises(BackendError, match=f"^cupy on cuda:0 does not compute {operation} in IEEE"):
        check(ops, "cupy on cuda:0")


def test_variables_that_change_products_are_refused_on_a_gpu_unless_arithmetic_is_native(monkeypatch):
    gpu, data = make("numpy", "cpu"), real_data(10, 5)
    monkeypatch.setattr(gpu, "device_name", "cuda:0")
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(ConfigError, match=r"^CUPY_TF32=1: .* unset CUPY_TF32$"):
        Trainer(TrainConfig(), data, gpu)
    Trainer(TrainConfig(arithmetic="native"), data, gpu)
