"""Columns of text from the table to the exported file: the same bits from every library and rank."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import complaint, printed
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
SETTINGS = {"drop": ["key"], "encode": "onehot", "missing": "category", "recipe": "tabular", "epochs": 4}
ORDER = ["weight", "colour", "key", "kind", "size", "shape"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the table, and a run on it."""
    folder = tmp_path_factory.mktemp("encoding")
    TABLE.to_csv(folder / "table.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main([*FLAGS, "--name", "mine", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(work, monkeypatch):
    monkeypatch.chdir(work)


def test_the_run_keeps_its_encoding_and_takes_the_full_table(capsys):
    config = record.read_run(Path("runs/mine"))["config"]
    assert (config["drop"], config["encode"], config["unknown"]) == (["key"], "onehot", "error")
    model, rows = xpnet.load("runs/mine", device="cpu"), TABLE[ORDER]
    assert model.sizes[0] == len(model.network.columns.inputs) == 2 + 3 + 3
    rows.to_csv("rows.csv", index=False)
    results = json.loads(printed(capsys, "predict", "runs/mine", "rows.csv", "--json"))["predictions"]
    assert [result["probabilities"] for result in results] == model.predict_proba(rows).tolist()
    evaluated = json.loads(printed(capsys, "evaluate", "runs/mine", "--data", "rows.csv", "--json"))
    assert evaluated["accuracy"] == model.score(rows, TABLE["kind"])
    tested = json.loads(printed(capsys, "evaluate", "runs/mine", "--json"))
    assert tested["accuracy"] == record.read_run(Path("runs/mine"))["metrics"]["test_accuracy"]
    model.report("page.html")
    assert all(f"shape={name}" in Path("page.html").read_text() for name in ("flat", "round", "é, big"))
    rows.assign(shape="huge").iloc[3:].to_csv("rows.csv", index=False)
    line = "rows.csv, line 2, column shape: 'huge' is none of the categories flat, round, é, big: training"
    assert complaint(capsys, "predict", "runs/mine", "rows.csv").startswith(line)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[pytest.mark.needs(name), *marks])
        for name, marks in (("array-api-strict", []), ("torch", []), ("jax", [pytest.mark.slow]))
    ],
)
def test_a_csv_file_and_a_data_frame_are_verified_on_every_library(capsys, backend):
    out = printed(capsys, "verify", "runs/mine", "--device", "cpu", "--backend", backend)
    assert "\nverified      runs/mine: epochs 1 to 4, model and metrics are the same bits\n" in out
    X, y = TABLE.drop(columns="kind"), TABLE["kind"]
    xpnet.fit(X, y, **SETTINGS, run="runs/frame", overwrite=True, report=False, device="cpu")
    assert xpnet.verify("runs/frame", X, y, backend=backend)
    with pytest.raises(xpnet.ConfigError, match="was trained on other data"):
        xpnet.verify("runs/frame", X.assign(shape=X["shape"].str.replace("flat", "round")), y)


@pytest.mark.slow
@pytest.mark.needs("mpi")
def test_ranks_encode_as_one_process_does():
    job = mpi(2, ["train", *FLAGS, "--name", "ranks", "--quiet"], ["verify", "runs/mine", "--device", "cpu"])
    assert job.returncode == 0, job.stderr
    first, second = (record.read_run(Path("runs", name)) for name in ("mine", "ranks"))
    assert first["fingerprint"] == second["fingerprint"]
    assert first["data"] == second["data"]


@pytest.mark.parametrize("settings", [{}, {"unknown": "zeros"}])
@pytest.mark.needs("onnx")
def test_the_graph_encodes_as_xpnet_does(settings):
    import onnxruntime

    from xpnet.storage.export import encode_onnx

    X, y = TABLE.drop(columns="kind"), TABLE["kind"]
    model = xpnet.fit(X, y, **SETTINGS, **settings, device="cpu")
    native = xpnet.Model(model.network, device="cpu", arithmetic="native")
    session = onnxruntime.InferenceSession(encode_onnx(model.network, pixels=False))
    categories = json.loads(session.get_modelmeta().custom_metadata_map["categories"])
    assert categories == {"shape": ["flat", "round", "é, big"], "colour": ["", "green", "red"]}
    assert [each.name for each in session.get_inputs()] == ["rows", "texts.shape", "texts.colour"]

    def run(frame):
        texts = {f"texts.{name}": frame[name].fillna("").to_numpy(object) for name in ("shape", "colour")}
        return session.run(["probabilities"], {"rows": frame[["size", "weight"]].to_numpy(float), **texts})[0]

    np.testing.assert_allclose(run(TABLE), native.predict_proba(X), rtol=0, atol=1e-13)
    other = TABLE.assign(shape="huge")
    if settings:
        expected = native.predict_proba(other.drop(columns="kind"))
        np.testing.assert_allclose(run(other), expected, rtol=0, atol=1e-13)
    else:
        with pytest.raises(Exception, match="zeros = 0"):
            run(other)


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


DAMAGED = [{"categories": {"a": [1]}}, {"categories": {"a": ["x"]}}, {"categories": [1]}, {"dropped": [1]}]


@pytest.mark.parametrize("change", DAMAGED)
def test_a_damaged_encoding_is_refused(change):
    text = xpnet.load("runs/mine").network.columns.to_json()
    with pytest.raises(ValueError, match="columns in the metadata: expected the names of 8 features"):
        xpnet.load("runs/mine").network.columns.from_json(json.dumps({**json.loads(text), **change}), 8, 2)
