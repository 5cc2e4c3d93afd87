"""What is where an output goes is kept.

A path that the user names may be a link or a device. Files that xpnet writes into the folder of a run
replace links, and are never written through them.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from folders import put_device, tree

import xpnet
from xpnet.__main__ import main
from xpnet.backends.probing import Probe
from xpnet.parity import devices
from xpnet.storage.run import WritableRun

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such files")

RUN = "runs/plain"
OUTPUTS = [
    f"predict {RUN} rows.npy --out FILE.csv",
    f"evaluate {RUN} --predictions FILE.csv",
    f"export {RUN} --to torch --out FILE.safetensors",
    "parity --data small.npz --epochs 1 --hidden 2 --json FILE",
    f"report {RUN} runs/mine --out FILE",
]


@pytest.fixture(autouse=True)
def work(copied, monkeypatch):
    """Work in a folder with runs and data, where parity finds NumPy alone."""
    np.save("rows.npy", np.zeros((2, 36), np.uint8))
    found = [(devices.NUMPY, Probe(usable=True, version="1.0", devices=()))]
    monkeypatch.setattr(devices, "probe_all", lambda: found)


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_file_that_the_user_names_is_written_where_a_link_points_to(command):
    path = Path(command.split()[-1])
    Path("elsewhere").mkdir()
    path.symlink_to("elsewhere/target")
    assert main(command.split()) == 0
    Path("elsewhere/target").write_bytes(b"")
    assert main(command.split()) == 0
    assert path.is_symlink()
    assert len(tree(Path("elsewhere"))) == 1
    assert path.read_bytes()


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_device_that_the_user_names_is_written_to(command):
    path = Path(command.split()[-1])
    put_device(path)
    assert main(command.split()) == 0
    assert path.is_char_device()


FILES = ("run.json", "metrics.jsonl", "checkpoint.safetensors", "checkpoint-4.safetensors")
FILES += ("model.safetensors", "report.html", ".lock")
SEVERAL = "train --data small.npz --epochs 1 --repeats 2 --out . --name several --quiet"


def plant(folder, names):
    """Put links in a folder, to copies outside of the files whose place they take, or else to others."""
    for name in names:
        path, target = Path(folder, name), Path("outside", Path(folder).name, name).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.exists() else b"kept\n")
        path.unlink(missing_ok=True)
        path.symlink_to(target)


@pytest.mark.parametrize(
    ("words", "folder", "planted", "written"),
    [
        (f"report {RUN}", RUN, FILES, ["report.html"]),
        (f"export {RUN} --to torch", RUN, ["model-torch.safetensors"], ["model-torch.safetensors"]),
        ("train --resume runs/stopped", "runs/stopped", FILES, FILES[:5]),
        (f"train --extend {RUN} --epochs 1 --name more --overwrite", "runs/more", FILES, FILES[:3]),
        (f"{SEVERAL} --overwrite", "several", ["summary.json"], ["summary.json"]),
    ],
)
def test_files_of_a_run_are_never_written_through_links(words, folder, planted, written):
    if "several" in words:
        assert main(SEVERAL.split()) == 0
    plant(folder, planted)
    before = tree(Path("outside"))
    assert main(words.split()) == 0
    assert tree(Path("outside")) == before
    paths = [Path(folder, name) for name in written]
    assert [path for path in paths if not path.is_file() or path.is_symlink()] == []


def test_a_link_that_takes_the_place_of_the_history_during_a_training_is_refused():
    run = WritableRun.reopen(Path("runs/stopped"))
    plant(run.folder, ["metrics.jsonl"])
    before = tree(Path("outside"))
    with pytest.raises(xpnet.ConfigError, match=r"metrics.jsonl: cannot be written \(Too many levels of sym"):
        run.log({"epoch": 3})
    run.release()
    assert tree(Path("outside")) == before
