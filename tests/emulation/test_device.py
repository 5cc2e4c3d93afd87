"""xpnet.emulation: CuPy on a CUDA device that the host emulates."""

import json
import os
import subprocess
import sys

import emulated_cuda
import numpy as np
import pytest
from checkout import ROOT
from commands import printed
from script_processes import run

from xpnet.emulation import __main__ as command, build, device, wheels

pytestmark = [pytest.mark.tooling, pytest.mark.needs("emulated-cuda")]

TRAIN = ["train", "--epochs", "1", "--no-report", "--out"]


def run_emulated(*words):
    """Return the lines of a process that succeeds, and says on standard error that its device is emulated."""
    words = [sys.executable, "-m", "xpnet.emulation", *map(str, words)]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (process.stderr, process.returncode) == (f"{device.describe()}\n", 0)
    return process.stdout.splitlines()


def test_a_script_prints_the_fingerprint_of_numpy():
    words = [ROOT / "examples" / "gpt.py", "--steps", "2", "--backend"]
    assert run_emulated(*words, "cupy") == run(*words, "numpy")


def test_training_prints_the_fingerprint_of_numpy(tmp_path, capsys):
    expected = printed(capsys, *TRAIN, tmp_path, "--backend", "numpy", "--device", "cpu").splitlines()
    lines = run_emulated("-m", "xpnet", *TRAIN, tmp_path, "--backend", "cupy", "--device", "cuda")
    assert f"cupy {wheels.find()[1]} on cuda:0" in lines[0]
    (fingerprint,) = [line for line in lines if line.startswith("fingerprint")]
    assert fingerprint in expected


FULL_BATCH = """
import numpy as np, xpnet
from xpnet.emulation.device import read_counts
x, ends = np.random.default_rng(0).integers(0, 256, (7500, 784), np.uint8), []
settings = {"batch_size": "full", "epochs": 3, "log_every": 3, "classes": 10, "backend": "cupy"}
count = lambda _: ends.append([*read_counts().values()])
model = xpnet.fit(x, x[:, 0] % 10, callback=count, device="cuda", **settings)
print(*np.diff(ends, axis=0)[1], model.fingerprint)
"""


def test_a_full_batch_is_one_call_behind_a_switch_with_the_same_bits(monkeypatch):
    outputs = []
    for switch in ("0", "1"):
        monkeypatch.setenv("XPNET_WHOLE_BATCHES", switch)
        outputs.append(run_emulated("-c", FULL_BATCH)[0].split())
    assert outputs[0][-1] == outputs[1][-1]
    assert outputs[1][:-1] == ["6", "10", "0", "0", "0", "0"]  # of 60,000 samples, too


BUDGET = {
    "784-10-10": (5.04, 5.0, 0.04, 0.0, 0.0, 0.0),
    "784-10-10 Adam": (5.04, 5.0, 0.04, 0.0, 0.0, 0.0),
    "784-256-128-10 dropout": (7.2, 8.0, 0.08, 0.0, 0.0, 0.0),
    "784-64-10 batch norm": (5.04, 5.0, 0.04, 0.0, 0.0, 0.0),
    "784-10-10 native": (5.04, 5.0, 0.04, 0.0, 0.0, 0.0),
    "784-10-10 by hand, float32": (24.0, 5.0, 0.04, 0.0, 0.0, 0.04),
}
"""Kernels, products, uploads, downloads, copies and synchronizations of a step, in the order of ``KINDS``."""


def test_a_step_asks_no_more_of_the_device_than_its_budget():
    counts = json.loads("\n".join(run(emulated_cuda.__file__, "--json")))
    steps = {name: tuple(each[kind] for kind in emulated_cuda.KINDS) for name, each in counts.items()}
    above = {name: step for name, step in steps.items() if np.greater(step, BUDGET[name]).any()}
    assert not above, "a step asks for more than BUDGET"
    assert steps == BUDGET, "a step asks for less: lower BUDGET, and the table of docs/devices.md"
    for name in emulated_cuda.NETWORKS:
        assert counts[name]["epoch"]["downloads"] == counts[name]["epoch"]["synchronizations"] == 0
        assert counts[name]["evaluation"]["downloads"] > 0


@pytest.mark.parametrize(
    ("place", "name", "value", "problem"),
    [
        (build.shutil, "which", lambda _: None, "g++ is not on the PATH: install it, for example with apt"),
        (wheels, "KNOWN", {"cupy-cuda12x": ("9.0",)}, "cupy-cuda12x 9.0 alone, but found {} {}: pip"),
        (wheels, "OTHERS", ("numpy", "scipy"), "numpy and scipy are installed, of which one"),
        (wheels, "OTHERS", (), "CuPy is not installed; the emulated device knows cupy-cuda12x"),
        (build, "OLDEST", 99, "is too old: install version 99 or newer"),
        (build, "CPU_FLAGS", ("amx3",), "the processor lacks amx3: the emulated device needs one of 2015"),
        (device, "CARDS", ("/dev/null",), "/dev/null is a CUDA device: use it, or set XPNET_EMULATED_CUDA=f"),
        (device.platform, "machine", lambda: "aarch64", "needs Linux on x86-64, not linux on aarch64"),
    ],
)
def test_a_machine_that_cannot_emulate_is_one_line(monkeypatch, capsys, place, name, value, problem):
    problem = problem.format(*wheels.find())
    monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(sys, "argv", ["python", "script.py"])
    assert command.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xpnet.emulation: ")
    assert problem in line


PLANTED = """
from xpnet.emulation import install
install()
import cupy, cupyx
import numpy as np
from xpnet.backends.resolve import make

host, backend = cupyx.empty_pinned(3), make("cupy", "cuda:0")
x = backend.from_host(np.full(3, 2.0))
print("waiting", backend.to_host(x + 1.0))
cupy.asnumpy = lambda array: array.get(out=host, blocking=False)
print("not waiting", backend.to_host(x + 1.0))

one, other = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
with one:
    y = cupy.ones(3)
    written = one.record()
print("of another stream", y.get(stream=other))
other.wait_event(written)
print("after its event", y.get(stream=other))

z = cupy.zeros(3)
address = z.data.ptr
del z
z = cupy.empty(3)
print("never written", z.data.ptr == address, z.get())
"""


def test_a_missing_wait_and_a_read_of_fresh_memory_give_nan():
    reused = not wheels.find()[1].startswith("13.")  # the freed memory, by the next array of its size
    assert run("-c", PLANTED) == [
        "waiting [3. 3. 3.]",
        "not waiting [nan nan nan]",
        "of another stream [nan nan nan]",
        "after its event [1. 1. 1.]",
        f"never written {reused} [nan nan nan]",
    ]


TEST = """
import cupy

def test_it():
    assert float(cupy.ones(3).sum()) == 3.0
"""


def run_pytest(folder, text=TEST, **environment):
    (folder / "conftest.py").write_text("import cupy\n")
    (folder / "test_it.py").write_text(text)
    words = [sys.executable, "-m", "pytest"]
    environment = os.environ | environment
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_pytest_installs_it_before_a_conftest_imports_cupy_and_its_header_says_so(tmp_path):
    process = run_pytest(tmp_path, XPNET_EMULATED_CUDA="1")
    assert f"\n{device.describe()}\n" in process.stdout
    assert "1 passed" in process.stdout


def test_unset_nothing_of_it_is_imported(tmp_path):
    process = run_pytest(
        tmp_path, "def test_it():\n    import sys\n    assert 'xpnet.emulation' not in sys.modules\n"
    )
    assert "1 passed" in process.stdout
    assert "emulated" not in process.stdout


def test_pytest_refuses_in_one_line(tmp_path):
    process = run_pytest(tmp_path, XPNET_EMULATED_CUDA="perhaps")
    assert process.returncode == 4
    assert process.stderr.startswith("ERROR: XPNET_EMULATED_CUDA: expected 1, true")
