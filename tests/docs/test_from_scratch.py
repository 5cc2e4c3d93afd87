"""examples/from_scratch.py is short, and trains the network of ``fit`` on every backend."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fingerprints import real_data

import xpnet
from xpnet.storage.model_file import fingerprint

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "from_scratch.py"
pytestmark = pytest.mark.tooling


def test_it_trains_to_the_bits_of_fit_and_prints_shapes_and_accuracies(backend, capsys):
    data = real_data(2048, 1024)  # blocks of one shape, for which JAX compiles once
    with backend.workers(1):
        layers = runpy.run_path(str(SCRIPT))["gradient_descent"](backend, data, epochs=11)
    model = xpnet.fit(data.x_train, data.y_train, epochs=11, log_every=10)
    assert fingerprint(layers) == model.fingerprint
    shapes, accuracies = capsys.readouterr().out.split("epoch", 1)
    assert re.findall(r"^(X|b2|Z2|dW1) +(\d+ x \d+)$", shapes, re.MULTILINE) == [
        ("X", "784 x 1024"), ("b2", "10 x 1"), ("Z2", "10 x 1024"), ("dW1", "10 x 784")
    ]  # fmt: skip
    expected = [f"{row['train_accuracy']:.4f}" for row in model.history if row["epoch"] in (0, 10)]
    expected.append(f"{np.mean(model.predict(data.x_test) == data.y_test):.4f}")
    assert re.findall(r"accuracy (\S+)", accuracies) == expected


def test_it_is_a_command_of_at_most_60_lines():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 60
    command = [sys.executable, str(SCRIPT), "--backend", "nompy"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert re.fullmatch("xpnet: unknown backend 'nompy': expected auto, numpy.*\n", result.stderr)
