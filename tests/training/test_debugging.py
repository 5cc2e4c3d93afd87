"""With --debug or XPNET_COMPILE=0, what one reads is what runs: every step calls the mathematics itself."""

import re
import threading

import numpy as np
from commands import printed
from networks import pixels

from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.nn import layers
from xpnet.training.trainer import Trainer

X, LABELS = pixels(4096, 20, 5)  # blocks of one size, for which JAX compiles once


def test_every_step_calls_the_mathematics_for_every_block_in_the_main_thread(backend, monkeypatch):
    data, threads, linear = Dataset(X, LABELS, X[:10], LABELS[:10], "small"), [], layers.linear

    def noted(*arguments):
        threads.append(threading.current_thread())
        return linear(*arguments)

    def fingerprint():
        config = TrainConfig(epochs=1, hidden=(4,), batch_size=2048)
        with Trainer.open(config, data, backend) as trainer:
            return trainer.fingerprint(trainer.fit().state)

    compiled = fingerprint()
    monkeypatch.setattr(layers, "linear", noted)
    monkeypatch.setenv("XPNET_COMPILE", "0")
    assert fingerprint() == compiled
    assert threads == [threading.main_thread()] * (2 * 4)  # two layers, four blocks


def test_the_command_does_so_says_it_and_has_the_same_fingerprint(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=X[:90], y_train=LABELS[:90], x_test=X[:10], y_test=LABELS[:10])
    common = ("train", "--data", "small.npz", "--epochs", 3, "--no-report")
    plain, debugged = printed(capsys, *common), printed(capsys, *common, "--debug")
    line = "each step runs as it is written, for debuggers, and takes longer (--debug or XPNET_COMPILE=0)\n"
    assert [line in text for text in (plain, debugged)] == [False, True]
    assert re.search("^fingerprint .*", plain, re.MULTILINE)[0] in debugged
