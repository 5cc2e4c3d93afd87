"""With --debug or XPNET_COMPILE=0, what one reads is what runs: every step calls the mathematics itself."""

import re
import threading
from unittest.mock import patch

import numpy as np
import pytest
from commands import printed
from networks import pixels

from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.nn import functional, layers
from xpnet.training.trainer import Trainer

X, LABELS = pixels(2600, 20, 5)  # two blocks and a short one
DATA = Dataset(X, LABELS, X[:10], LABELS[:10], "small")
EPOCHS, LAYERS = 3, 2


def fingerprint_of(output):
    """Return the fingerprint that a training prints."""
    return re.search("^fingerprint +([0-9a-f]{64})$", output, re.MULTILINE)[1]


def count_calls(config, backend):
    """Return the calls of linear and softmax in a training, their threads, and the fingerprint."""
    calls, threads = [], set()

    def counted(name, function):
        def call(*arguments, **options):
            calls.append(name)
            threads.add(threading.current_thread())
            return function(*arguments, **options)

        return call

    with (
        Trainer.open(config, DATA, backend) as trainer,
        patch.object(layers, "linear", counted("linear", layers.linear)),
        patch.object(functional, "softmax", counted("softmax", functional.softmax)),
    ):
        digest = trainer.fingerprint(trainer.fit().state)
    return calls.count("linear"), calls.count("softmax"), threads, digest


@pytest.mark.parametrize(("batch_size", "blocks_and_steps"), [("full", 3), (128, 21), (1500, 4)])
def test_every_step_calls_the_mathematics_for_every_block(backend, monkeypatch, batch_size, blocks_and_steps):
    config = TrainConfig(epochs=EPOCHS, hidden=(4,), batch_size=batch_size)
    *counts, _, digest = count_calls(config, backend)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    *written, threads, digest_as_written = count_calls(config, backend)
    assert written == [LAYERS * blocks_and_steps * EPOCHS, blocks_and_steps * EPOCHS]
    assert threads == {threading.main_thread()}
    assert counts != written or backend.compile(len, exact=True) is len  # of a library that compiles nothing
    assert digest_as_written == digest


@pytest.mark.parametrize("words", [["--debug"], []], ids=["--debug", "XPNET_COMPILE=0"])
def test_the_command_does_so_and_says_it(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X, y_train=LABELS, x_test=X[:10], y_test=LABELS[:10])
    line = "each step runs as it is written, for debuggers, and takes longer (--debug or XPNET_COMPILE=0)\n"
    common = ("train", "--data", "small.npz", "--epochs", EPOCHS, "--no-report")
    usual = printed(capsys, *common, "--name", "usual")
    if not words:
        monkeypatch.setenv("XPNET_COMPILE", "0")
    with patch.object(layers, "linear", wraps=layers.linear) as linear:
        written = printed(capsys, *common, *words, "--name", "written")
    assert (line in usual, line in written) == (False, True)
    assert fingerprint_of(written) == fingerprint_of(usual)
    assert linear.call_count >= LAYERS * 3 * EPOCHS  # and those of evaluation
