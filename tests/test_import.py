"""Importing the package is cheap, and each of its names brings what it needs."""

import subprocess
import sys

import pytest

import xpnet

HEAVY = {"numpy", "pandas", "torch", "jax", "cupy", "matplotlib", "sklearn", "safetensors", "rich"}


def printed(code):
    """What a new Python prints that runs this code."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def loaded_by(code):
    return set(printed(f"import sys\n{code}\nprint(*sys.modules)"))


def test_the_import_loads_nothing_heavy():
    assert not loaded_by("import xpnet; xpnet.__version__; dir(xpnet)") & HEAVY


def test_the_import_loads_no_other_module_of_the_package():
    assert {name for name in loaded_by("import xpnet") if name.startswith("xpnet")} == {"xpnet"}


@pytest.mark.parametrize("name", ["ConfigError", "DataError"])
def test_errors_load_no_array_library(name):
    assert not loaded_by(f"import xpnet; xpnet.{name}") & HEAVY


@pytest.mark.parametrize("name", ["fit", "load", "Model"])
def test_the_interface_loads_no_other_array_library(name):
    loaded = loaded_by(f"import xpnet; xpnet.{name}")
    assert "numpy" in loaded
    assert not loaded & {"pandas", "torch", "jax", "cupy", "matplotlib", "sklearn"}


@pytest.mark.parametrize("name", xpnet.__all__)
def test_every_public_name_is_there(name):
    assert printed(f"from xpnet import {name} as found; print(found is not None)") == ["True"]
    assert name in dir(xpnet)
    if name != "__version__":
        assert getattr(xpnet, name).__name__ == name


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="module 'xpnet' has no attribute 'nothing'"):
        _ = xpnet.nothing


def test_a_name_is_found_once():
    assert xpnet.fit is xpnet.fit
    assert "fit" in vars(xpnet)


def test_the_estimator_says_what_it_needs():
    code = """
import sys
sys.modules["sklearn"] = None
import xpnet
try:
    xpnet.XPNetClassifier
except ImportError as error:
    print(error)
"""
    assert " ".join(printed(code)) == (
        'XPNetClassifier needs scikit-learn 1.6 or newer: pip install "scikit-learn>=1.6"'
    )
