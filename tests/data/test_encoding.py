"""Columns of text from the table to the exported file: the same bits from every library and rank."""

from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import complaint, printed, printed_json
from mpi_job import mpi

import xpnet
from xpnet import train
from xpnet.storage import model_file, record

ROWS = 240
DRAW = np.random.default_rng(3)
TABLE = pd.DataFrame(
    {
        "key": np.arange(ROWS),
        "shape": DRAW.choice(["round", "é, big", "flat"], ROWS),
        "size": np.where(DRAW.random(ROWS) < 0.1, np.nan, DRAW.normal(50, 20, ROWS)),
        "colour": DRAW.choice(["red", "green", None], ROWS),
        "weight": DRAW.normal(size=ROWS).round(3),
    }
)
TABLE["kind"] = np.where((TABLE["shape"] == "flat") ^ (TABLE["weight"] > 0), "yes", "no")
FLAGS = "--data table.csv --label kind --test-split 0.25 --recipe tabular --epochs 4 --drop key"
FLAGS = [*FLAGS.split(), "--encode", "onehot", "--missing", "category", "--device", "cpu", "--no-report"]
ORDER = ["weight", "colour", "key", "kind", "size", "shape"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the table, and a run on it."""
    folder = tmp_path_factory.mktemp("encoding")
    TABLE.to_csv(folder / "table.csv", index=False)
    with chdir(folder):
        assert train.main([*FLAGS, "--name", "mine", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def test_the_run_takes_the_full_table_in_any_order(capsys):
    model, rows = xpnet.load("runs/mine", device="cpu"), TABLE[ORDER]
    assert model.sizes[0] == 2 + 3 + 3
    rows.to_csv("rows.csv", index=False)
    results = printed_json(capsys, "predict", "runs/mine", "rows.csv")["predictions"]
    assert [result["probabilities"] for result in results] == model.predict_proba(rows).tolist()
    tested = printed_json(capsys, "evaluate", "runs/mine")
    assert tested["accuracy"] == record.read_run(Path("runs/mine"))["metrics"]["test_accuracy"]
    rows.assign(shape="huge").iloc[3:].to_csv("rows.csv", index=False)
    line = "rows.csv, line 2, column shape: 'huge' is none of the categories flat, round, é, big: training"
    assert complaint(capsys, "predict", "runs/mine", "rows.csv").startswith(line)


@pytest.mark.parametrize(
    "backend", ["array-api-strict", pytest.param("torch", marks=pytest.mark.needs("torch"))]
)
def test_a_run_on_a_table_with_text_is_verified_on_every_library(capsys, backend):
    out = printed(capsys, "verify", "runs/mine", "--device", "cpu", "--backend", backend)
    assert "\nverified      runs/mine: epochs 1 to 4, model and metrics are the same bits\n" in out


def test_a_data_frame_is_verified():
    X, y = TABLE.drop(columns="kind"), TABLE["kind"]
    settings = {"drop": ["key"], "encode": "onehot", "missing": "category", "recipe": "tabular"}
    xpnet.fit(X, y, **settings, epochs=2, run="runs/frame", report=False, device="cpu")
    assert xpnet.verify("runs/frame", X, y)
    with pytest.raises(xpnet.ConfigError, match="was trained on other data"):
        xpnet.verify("runs/frame", X.assign(shape=X["shape"].str.replace("flat", "round")), y)


@pytest.mark.slow
@pytest.mark.needs("mpi")
def test_ranks_encode_as_one_process_does():
    job = mpi(2, ["train", *FLAGS, "--name", "ranks", "--quiet"], ["verify", "runs/mine", "--device", "cpu"])
    assert job.returncode == 0, job.stderr
    first, second = (record.read_run(Path("runs", name)) for name in ("mine", "ranks"))
    assert (first["fingerprint"], first["data"]) == (second["fingerprint"], second["data"])


def test_only_models_of_such_columns_have_the_new_format_which_an_older_xpnet_refuses(tmp_path, monkeypatch):
    X, y = TABLE[["weight", "size"]], TABLE["kind"]
    for settings, version in (({}, "2"), ({"drop": ["size"]}, "3")):
        xpnet.fit(X, y, **settings, missing="mean", recipe="tabular", epochs=0).save(tmp_path / version)
        with model_file.open_tensors(tmp_path / version) as file:
            assert file.metadata()["format_version"] == version
    monkeypatch.setattr(model_file, "FORMAT_VERSION", 2)
    xpnet.load(tmp_path / "2")
    line = r"3: written by a newer xpnet \(format version 3, this one reads up to 2\): update xpnet$"
    with pytest.raises(xpnet.DataError, match=line):
        xpnet.load(tmp_path / "3")


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("zeros", [True, False])
def test_the_graph_encodes_as_xpnet_does_or_refuses_other_text(zeros):
    import onnxruntime

    from xpnet.storage.export import encode_onnx

    network = xpnet.load("runs/mine").network
    network = replace(network, columns=replace(network.columns, zeros=zeros))
    frame = TABLE.assign(shape=["huge", *TABLE["shape"][1:]]).fillna({"colour": ""})
    rows = {f"texts.{name}": frame[name].to_numpy(object) for name in ("shape", "colour")}
    rows["rows"] = frame[["size", "weight"]].to_numpy(float)
    session = onnxruntime.InferenceSession(encode_onnx(network, pixels=False))
    if zeros:
        expected = xpnet.Model(network, device="cpu", arithmetic="native").predict_proba(frame)
        np.testing.assert_allclose(session.run(["probabilities"], rows)[0], expected, rtol=0, atol=1e-13)
    else:
        with pytest.raises(Exception, match="zeros = 0"):
            session.run(None, rows)
