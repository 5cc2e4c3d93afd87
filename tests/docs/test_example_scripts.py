"""The scripts in examples/ are short, and have equal bits."""

import re
import runpy
import sys

import numpy as np
import pytest
from backend_enum import JAX_AT_NIGHT
from checkout import ROOT
from fingerprints import real_data
from script_processes import run

import xpnet
from xpnet.backends.resolve import make
from xpnet.storage.model_file import fingerprint

pytestmark = pytest.mark.tooling

FROM_SCRATCH, NUMPY_ONLY, LENET, GPT, ALGORITHMS = (
    ROOT / "examples" / f"{name}.py" for name in ("from_scratch", "numpy_only", "lenet", "gpt", "algorithms")
)


def test_from_scratch_trains_to_the_bits_of_fit_and_prints_accuracies(backend, capsys):
    data = real_data(2048, 1024)  # blocks of one shape, for which JAX compiles once
    with backend.workers(1):
        layers = runpy.run_path(str(FROM_SCRATCH))["gradient_descent"](backend, data, epochs=11)
    model = xpnet.fit(data.x_train, data.y_train, epochs=11, log_every=10)
    assert fingerprint(layers) == model.fingerprint
    expected = [row["train_accuracy"] for row in model.history if row["epoch"] in (0, 10)]
    expected += [np.mean(model.predict(data.x_test) == data.y_test)]
    printed = re.findall(r"accuracy (\S+)", capsys.readouterr().out)
    assert printed == [f"{value:.4f}" for value in expected]


def test_numpy_only_has_the_accuracies_that_readme_shows_of_xpnet_train(capsys):
    code = NUMPY_ONLY.read_text(encoding="utf-8").replace("iterations=100", "iterations=10")
    exec(compile(code, NUMPY_ONLY, "exec"), {"__name__": "__main__", "__file__": str(NUMPY_ONLY)})  # noqa: S102
    printed = re.findall(r"accuracy (\S+)", capsys.readouterr().out)
    shown = re.findall(r"^epoch +(?:0|10) .*accuracy (\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert (len(printed), printed[:2]) == (3, shown[:2])


@pytest.mark.parametrize(("path", "lines"), [(FROM_SCRATCH, 60), (LENET, 110), (GPT, 110), (NUMPY_ONLY, 45)])
def test_the_scripts_are_short(path, lines):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= lines


def test_numpy_only_imports_numpy_alone():
    modules = re.findall(r"^ *(?:from|import) +(\w+)", NUMPY_ONLY.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*modules} - {*sys.stdlib_module_names} == {"numpy"}


@pytest.mark.parametrize("backend", JAX_AT_NIGHT, indirect=True)
def test_lenet_and_gpt_have_the_bits_and_losses_of_numpy_on_every_library(backend, capsys):
    data = real_data(30, 30)

    def trained(backend):
        lenet, gpt = (runpy.run_path(str(script))["gradient_descent"] for script in (LENET, GPT))
        layers = lenet(backend, data.x_train, data.y_train, steps=3, alpha=0.2, m=10)
        p = gpt(backend, steps=3, alpha=1.0, m=4)
        arrays = [*(part for layer in layers for part in layer), *p.values()]
        return [backend.to_host(each).tobytes() for each in arrays], capsys.readouterr().out

    assert trained(backend) == trained(make("numpy", "cpu"))


@pytest.mark.parametrize("backend", JAX_AT_NIGHT, indirect=True)
def test_the_algorithms_have_the_digests_of_their_page_on_every_library(backend):
    functions, page = runpy.run_path(str(ALGORITHMS)), (ROOT / "docs" / "arithmetic.md").read_text("utf-8")
    assert functions["digests"](backend) == re.findall(r"^[0-9a-f]{64}$", page, re.MULTILINE)


def test_the_last_line_of_a_script_is_the_fingerprint():
    lines = run(GPT, "--steps", "1", "--backend", "numpy")
    assert re.fullmatch(r"step +0   loss \d\.\d{4}", lines[0])
    assert re.fullmatch(r"fingerprint  [0-9a-f]{64}", lines[-1])
