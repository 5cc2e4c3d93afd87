"""scripts/benchmark.py: what it computes from its measurements, what it writes, and how it ends."""

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from itertools import cycle

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
from xpnet.errors import ConfigError
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.tooling

LIMITS = Limits(float32=100e9, float64=50e9, bandwidth=10e9)
NATIVE = "xpnet:native:numpy"


@pytest.fixture(scope="module")
def small():
    x, y = pixels(40, 784, 10)
    return Images(x, y, x[:20], y[:20])


@pytest.fixture(scope="module")
def one_epoch(small):
    """The start, the order and the parameters of an epoch of xpnet, by batch size."""
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
@pytest.mark.parametrize(
    "who",
    ["notebook", *(pytest.param(who, marks=pytest.mark.needs(who.split("-")[0]))
        for who in ("sklearn", "torch", "torch-manual", "jax"))],
)  # fmt: skip
def test_contenders_have_the_parameters_of_xpnet_after_an_epoch(who, batch, small, one_epoch, monkeypatch):
    start, order, end = one_epoch[batch]
    monkeypatch.setattr(peers, "initial_layers", lambda _: [[*map(np.float32, layer)] for layer in start])
    monkeypatch.setattr(peers, "order_of", lambda _: order)
    monkeypatch.setattr(
        peers.Torch, "batches", lambda self, task: self.torch.from_numpy(order).split(task.batch)
    )
    if who == "sklearn":
        layers = cycle(start)
        network = import_module("sklearn.neural_network._multilayer_perceptron")
        monkeypatch.setattr(network.MLPClassifier, "_init_coef", lambda *_: [x.copy() for x in next(layers)])
        monkeypatch.setattr(network, "shuffle", lambda *_, **__: order)
    one = contenders.contender(who, small)
    assert one.inference(Task("inference", rows=20))(1) > 0
    one.training(Task(batch=batch, rows=len(order), learning_rate=0.5))(1)
    if who == "sklearn":
        one.parameters = list(zip(one.model.coefs_, one.model.intercepts_, strict=True))
    arrays = [array for layer in one.parameters for array in (layer if isinstance(layer, tuple) else [layer])]
    for array, right in zip(arrays, [array for layer in end for array in layer], strict=True):
        values = np.asarray(array.detach() if who == "torch" else array)
        values = values if who in {"sklearn", "torch-manual"} else values.T
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
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_bad_input_is_one_line_and_code_2(capsys):
    assert benchmark.main(["--against", "HEAD", "--only", "epoch,wide"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("benchmark: .* some of epoch,steps,large,main,startup, got 'wide'", line)


def git(folder, *words):
    """Run git in a folder, whatever the user's own settings are; return its output."""
    identity = ("-c", "user.name=xpnet", "-c", "user.email=xpnet@example.invalid")
    command = ["git", *identity, "-c", "core.hooksPath=/dev/null", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_two_commits_are_compared_each_with_its_own_code(tmp_path, monkeypatch, capsys):
    root = tmp_path / "repository"
    for name in against.PACKED:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "--quiet")
    for content in ("old", "new"):
        (root / "xpnet" / "side.py").write_text(f"SIDE = {content!r}\n")
        git(root, "add", "--force", ".")
        git(root, "commit", "--quiet", "--message", content)
    monkeypatch.setattr(against, "ROOT", root)
    monkeypatch.setattr(against, "OWN", [NATIVE])
    assert benchmark.main(["--against", "HEAD~1", "--quick", "--only", "steps,startup"]) == 0
    head, _, *lines, last = capsys.readouterr().out.splitlines()
    old, new = against.commits("HEAD~1")
    assert head.startswith(f"old {old[:12]}, new {new[:12]}, 1 round, ")
    titles = [f"xpnet native, NumPy: a step, batches of {size}" for size in ("32", "128", "1,024")]
    assert [line.partition("  ")[0] for line in lines] == [*titles, "--help", "import xpnet"]
    assert last.startswith("worst ratio: ")
    for commit, content in ((old, "old"), (new, "new")):
        words = [sys.executable, "-c", "import xpnet.side; print(xpnet.side.SIDE)"]
        variables = runs.environment(1, against.unpack(commit, tmp_path / content))
        ran = subprocess.run(words, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True)
        assert ran.stdout.strip() == content
    (root / "xpnet" / "side.py").write_text("SIDE = 'neither'")
    with pytest.raises(ConfigError, match=r"but xpnet/side.py has changes: commit or stash them$"):
        against.commits("HEAD")
