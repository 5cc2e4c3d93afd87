"""scripts/benchmark.py: what it computes from its measurements, what it writes, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import benchmark
import numpy as np
import pytest
from benchmarks import against, contenders, peers, runs
from benchmarks.limits import Limits
from benchmarks.page import table_section
from benchmarks.peers import Images
from benchmarks.runs import Line, Table
from benchmarks.tasks import Task
from checkout import ROOT
from networks import pixels

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.tooling

LIMITS = Limits(float32=100e9, float64=50e9, bandwidth=10e9)
NATIVE = "xpnet:native:numpy"
OTHERS = [pytest.param(who, marks=pytest.mark.needs(who[:5])) for who in ("torch", "torch-manual", "jax")]


@pytest.fixture(scope="module")
def small():
    x, y = pixels(40, 784, 10)
    return Images(x, y, x[:20], y[:20])


@pytest.fixture(scope="module")
def one_epoch(small):
    x, y = small.x_train, small.y_train
    trained = {}
    for batch in (None, 16):
        config = TrainConfig(hidden=(10,), epochs=1, batch_size=batch or "full", learning_rate=0.5)
        with Trainer.open(config, Dataset(x, y, x[:1], y[:1], "images"), make("numpy", "cpu")) as trainer:
            states = trainer.initial_state(), trainer.fit().state
            layers = [trainer.model(state).layers for state in states]
            order = trainer.loader.order(1).host
        start, end = ([(each["weight"].T, each["bias"]) for each in half] for half in layers)
        trained[batch] = start, order, end
    return trained


@pytest.mark.parametrize("batch", [None, 16], ids=str)
@pytest.mark.parametrize("who", ["notebook", *OTHERS])
def test_contenders_have_the_parameters_of_xpnet_after_an_epoch(who, batch, small, one_epoch, monkeypatch):
    start, order, end = one_epoch[batch]
    monkeypatch.setattr(peers, "initial_layers", lambda _: [[*map(np.float32, layer)] for layer in start])
    monkeypatch.setattr(peers, "order_of", lambda _: order)
    batches = lambda self, task: self.torch.from_numpy(order).split(task.batch)  # noqa: E731
    monkeypatch.setattr(peers.Torch, "batches", batches)
    one = contenders.contender(who, small)
    assert one.inference(Task("inference", rows=20))(1) > 0
    one.training(Task(batch=batch, rows=len(order), learning_rate=0.5))(1)
    arrays = [array for layer in one.parameters for array in (layer if isinstance(layer, tuple) else [layer])]
    for array, right in zip(arrays, [array for layer in end for array in layer], strict=True):
        values = np.asarray(array.detach() if who == "torch" else array)
        values = values if who == "torch-manual" else values.T
        np.testing.assert_allclose(values.reshape(right.shape), right, rtol=0, atol=1e-5)


def test_a_table_shows_times_floors_memory_and_the_medians_of_the_ratios_within_a_round():
    lines = [
        Line("notebook", "notebook", [0.2, 0.1, 0.3], [800.0, 801.0, 802.0]),
        Line("torch", "PyTorch eager", [0.1, 0.1, 0.1], [600.0] * 3),
        Line(NATIVE, "xpnet native", [0.06, 0.05, 0.04], [150.0] * 3),
    ]
    assert table_section(Table("epoch", "One epoch", lines, Task()), LIMITS).splitlines() == [
        "## One epoch",
        "",
        "|  | ms an epoch | min-max | × notebook | × best peer | × floor | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| notebook | 200 | 100-300 |  | 2.00 |  | 801 |",
        "| **PyTorch eager** | 100 | 100-100 | 0.500 |  |  | 600 |",
        "| xpnet native | 50.0 | 40.0-60.0 | 0.300 | 0.500 | 2.61 | 150 |",
    ]


def test_a_quick_run_writes_every_run_and_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "takes_part", lambda _: [NATIVE])
    assert benchmark.main(["--quick", "--only", "steps,startup", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "benchmarks.json").read_text())
    lines = record["tables"][0]["lines"]
    assert {line["who"]: len(line["seconds"]) for line in lines} == {NATIVE: 1}
    text = (tmp_path / "benchmarks.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert text.count("| --- |") == 2


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone, which has commits")
def test_two_commits_are_compared_each_with_its_own_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(against, "commits", lambda _: ("HEAD", "HEAD"))
    monkeypatch.setattr(against, "OWN", [NATIVE])
    assert benchmark.main(["--against", "HEAD", "--quick", "--only", "steps,startup"]) == 0
    head, *_, last = capsys.readouterr().out.splitlines()
    assert head.startswith("old HEAD, new HEAD, 1 round, ")
    assert last.startswith("worst ratio: ")
    words = [sys.executable, "-c", "import xpnet; print(xpnet.__file__)"]
    variables = runs.environment(1, against.unpack("HEAD", tmp_path))
    ran = subprocess.run(words, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True)
    assert Path(ran.stdout.strip()).parents[1] == tmp_path
