"""The check of the arithmetic passes on every backend, and finds what would change bits."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from fingerprints import real_data

from xpnet.arithmetic import Reproducible, reproducible, selfcheck
from xpnet.arithmetic.selfcheck import check
from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.errors import BackendError, ConfigError
from xpnet.training.trainer import Trainer


def test_every_backend_and_its_compiler_of_exact_functions_pass(backend):
    ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
    check(ops, "here")
    assert check(ops, f"{backend.name} on {backend.device_name}", partial(backend.compile, exact=True))


@pytest.mark.needs("jax")
def test_a_compiler_that_changes_bits_is_not_used(capsys, monkeypatch):
    backend = make("jax", "cpu")
    monkeypatch.setattr(backend, "compile", lambda function, **_: backend.library.jit(function))
    monkeypatch.setattr(selfcheck, "_COMPILED", {})
    with backend.scope():
        trainer = Trainer(TrainConfig(), real_data(10, 5), backend)
    assert (trainer.context.compile(len), trainer.context.stack) == (len, 1)
    assert capsys.readouterr().err.startswith("xpnet: warning: jax on cpu changes separate products and")


@pytest.mark.parametrize("operation", selfcheck._ELEMENTWISE)
def test_a_compiler_that_changes_one_operation_is_named(operation, capsys):
    index = 1 + list(selfcheck._ELEMENTWISE).index(operation)

    def compile_wrongly(function):
        def run(*args):
            results = function(*args)
            results[index] = -results[index]
            return results

        return run

    ops = Reproducible(np, "cpu", np.float64)
    assert not check(ops, operation, compile_wrongly)
    assert f": {operation} changes {operation} when it compiles: " in capsys.readouterr().err


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


def test_variables_that_change_products_are_refused_on_a_gpu(monkeypatch):
    gpu = make("numpy", "cpu")
    monkeypatch.setattr(gpu, "device_name", "cuda:0")
    data = real_data(10, 5)
    Trainer(TrainConfig(), data, gpu)
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(ConfigError, match=r"^CUPY_TF32=1: .* unset CUPY_TF32$"):
        Trainer(TrainConfig(), data, gpu)
    Trainer(TrainConfig(arithmetic="native"), data, gpu)


def test_a_budget_that_cannot_be_met_names_layer_sizes_and_bits(monkeypatch):
    monkeypatch.setattr(reproducible, "FEWEST_BITS", 46)
    expected = r"^layer 0 \(784 inputs, 64 units\): a sum over 784 terms leaves 21 of 53 bits for each"
    with pytest.raises(ConfigError, match=expected):
        Trainer(TrainConfig(hidden=(64,)), real_data(10, 5), make("numpy", "cpu"))
