"""With --debug or XPNET_COMPILE=0, what one reads is what runs: every step calls the mathematics itself."""

import re
import threading

import numpy as np
from commands import printed
from networks import pixels

from xpnet.nn import layers


def test_every_step_calls_the_mathematics_for_every_block_in_the_main_thread(capsys, tmp_path, monkeypatch):
    x, labels = pixels(2600, 20, 5)
    monkeypatch.chdir(tmp_path)
    np.savez("small.npz", x_train=x, y_train=labels, x_test=x[:10], y_test=labels[:10])
    common = ("train", "--data", "small.npz", "--epochs", 3, "--no-report")
    usual = printed(capsys, *common)
    threads, linear = [], layers.linear

    def noted(*arguments):
        threads.append(threading.current_thread())
        return linear(*arguments)

    monkeypatch.setattr(layers, "linear", noted)
    outputs = [printed(capsys, *common, "--debug")]
    monkeypatch.setenv("XPNET_COMPILE", "0")
    outputs.append(printed(capsys, *common))
    assert len(threads) >= 2 * (2 * 3 * 3)  # two layers of three blocks in three epochs
    assert set(threads) == {threading.main_thread()}
    line = "each step runs as it is written, for debuggers, and takes longer (--debug or XPNET_COMPILE=0)\n"
    assert [line in output for output in (usual, *outputs)] == [False, True, True]
    assert len({re.search("^fingerprint .*", text, re.MULTILINE)[0] for text in (usual, *outputs)}) == 1
