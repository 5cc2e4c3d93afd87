"""With --debug or XPNET_COMPILE=0, what one reads is what runs: every step calls the mathematics itself."""

import re
import threading
from unittest.mock import patch

import numpy as np
from commands import printed
from networks import pixels

from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.nn import functional, layers
from xpnet.training.trainer import Trainer

X, LABELS = pixels(2600, 20, 5)
DATA = Dataset(X, LABELS, X[:10], LABELS[:10], "small")


def count_calls(backend):
    """Return the calls of linear and softmax in a training, their threads, and the fingerprint."""
    calls, threads = [], set()

    def counted(name, function):
        def call(*arguments, **options):
            calls.append(name)
            threads.add(threading.current_thread())
            return function(*arguments, **options)

        return call

    with (
        Trainer.open(TrainConfig(epochs=3, hidden=(4,), batch_size=1500), DATA, backend) as trainer,
        patch.object(layers, "linear", counted("linear", layers.linear)),
        patch.object(functional, "softmax", counted("softmax", functional.softmax)),
    ):
        digest = trainer.fingerprint(trainer.fit().state)
    return calls.count("linear"), calls.count("softmax"), threads, digest


def test_every_step_calls_the_mathematics_for_every_block(backend, monkeypatch):
    *counts, _, digest = count_calls(backend)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    *written, threads, digest_as_written = count_calls(backend)
    assert written == [2 * 4 * 3, 4 * 3]  # two layers of four blocks in three epochs
    assert threads == {threading.main_thread()}
    assert counts != written or backend.compile(len, exact=True) is len  # of a library that compiles nothing
    assert digest_as_written == digest


def test_the_command_does_so_and_says_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X, y_train=LABELS, x_test=X[:10], y_test=LABELS[:10])
    line = "each step runs as it is written, for debuggers, and takes longer (--debug or XPNET_COMPILE=0)\n"
    common = ("train", "--data", "small.npz", "--epochs", 3, "--no-report")
    usual = printed(capsys, *common)
    with patch.object(layers, "linear", wraps=layers.linear) as linear:
        outputs = [printed(capsys, *common, "--debug")]
        monkeypatch.setenv("XPNET_COMPILE", "0")
        outputs.append(printed(capsys, *common))
    assert linear.call_count >= 2 * 2 * 3 * 3  # and those of evaluation
    assert [line in output for output in (usual, *outputs)] == [False, True, True]
    assert len({re.search("^fingerprint .*", text, re.MULTILINE)[0] for text in (usual, *outputs)}) == 1
