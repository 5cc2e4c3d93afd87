"""A record is verified by computing its training again: all that was changed is found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from backend_enum import CASES
from commands import complaint, printed
from folders import change_record, tree
from networks import image_data
from recorded_runs import PLAIN, QUIET, seal

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.checkpoint import encode_checkpoint, load_checkpoint
from xpnet.storage.folder import digest_file
from xpnet.storage.record import read_metrics, read_run

RUN, PLAIN_RUN = Path("runs/mine"), Path("runs/plain")
VERIFIED = "verified      runs/plain: epochs 1 to 3, model and metrics are the same bits\n"


@pytest.fixture(autouse=True)
def folder(recorded, tmp_path, monkeypatch):
    """A copy of the recorded runs, in the current folder."""
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "copy"))


def differing(capsys, *words):
    """What differs, in the last line of a verification."""
    assert main(["verify", *map(str, words)]) == 1
    out, err = capsys.readouterr()
    last = out.splitlines()[-1]
    assert (err, last[:14]) == ("", "differs       ")
    return last[14:]


def change_part(part, **changes):
    """A change of values of an object in the record."""
    return lambda run: change_record(run, **{part: {**read_run(run)[part], **changes}})


def flip(path, position):
    """Change one bit of a file, at a byte from its start or, if negative, from its end."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.value)
def test_a_run_of_numpy_is_proven_on_every_backend(case, capsys):
    before, words = tree(Path()), ["--backend", case.backend_name, "--device", case.device]
    out = printed(capsys, "verify", PLAIN_RUN, *words)
    assert out.endswith(VERIFIED)
    assert tree(Path()) == before


def test_a_part_of_the_training_is_verified_from_a_kept_checkpoint(capsys):
    kept = RUN / "checkpoint-2.safetensors"
    part = f"epochs 3 to 4 are the same bits, starting from {kept}, {digest_file(kept)[:16]}…"
    out = printed(capsys, "verify", RUN, "--between", "2:4")
    assert out.endswith(f"verified      runs/mine: {part}\n")
    assert "epoch     2   loss" in out
    assert "epoch     0   loss" not in out


def test_an_extended_run_is_verified_from_the_state_of_the_parent_beside_it(capsys):
    Path("runs").rename("moved")
    digest = digest_file(Path("moved/plain/checkpoint.safetensors"))
    start = f"starting from runs/plain/checkpoint.safetensors, {digest[:16]}…"
    part = "epochs 4 to 5, model and metrics are the same bits"
    assert printed(capsys, "verify", "moved/more").endswith(f"verified      moved/more: {part}, {start}\n")
    shutil.copytree("moved/started", "moved/plain", dirs_exist_ok=True)
    message = complaint(capsys, "verify", "moved/more", "--quiet")
    assert "moved/plain: is not the run that moved/more extends: expected the fing" in message


def test_the_model_that_a_training_started_from_is_named_with_its_digest(capsys):
    start, run = Path("start.safetensors"), Path("runs/started")
    digest = digest_file(start)
    assert read_run(run)["init_from_sha256"] == digest
    assert xpnet.verify(run).start == (start, digest)
    start.rename("moved.safetensors")
    words = ["verify", run, "--init-from"]
    origin = f"are the same bits, starting from start.safetensors, {digest[:16]}…\n"
    assert printed(capsys, *words, "moved.safetensors").endswith(origin)
    message = complaint(capsys, *words, run / "model.safetensors", "--quiet")
    assert message.startswith(
        f"runs/started: started from another model: expected SHA-256 {digest[:16]}…, fo"
    )


def test_data_at_another_place_are_named(capsys):
    Path("small.npz").rename("elsewhere.npz")
    assert complaint(capsys, "verify", PLAIN_RUN).startswith("small.npz: no such file")
    out = printed(capsys, "verify", PLAIN_RUN, "--data", "elsewhere.npz")
    assert out.endswith(VERIFIED)


def change_row(**changes):
    """A change of the row of epoch 2, or its removal."""

    def change(run):
        rows = read_metrics(run / "metrics.jsonl")
        rows[2:3] = [{**rows[2], **changes}] if changes else []
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


def change_arrays(name, change):
    def change_checkpoint(run):
        arrays, facts = load_checkpoint(run / name)
        (run / name).write_bytes(encode_checkpoint(arrays | change(arrays), facts, 1))

    return change_checkpoint


def add_row(run):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": null}\n')


LAST = "checkpoint.safetensors"
DIFFERENCES = {
    "epoch 1: ": change_part("config", clip_norm=0.01),
    "training diverged: the loss is not finite in epoch 1": change_part("config", learning_rate=1e300),
    f"{LAST}: state.9: is not expected": change_arrays(LAST, lambda _: {"state.9": np.zeros(2)}),
    "epoch 2: train_loss: recorded 0.5 (0x1.0000000000000p-1), computed ": change_row(train_loss=0.5),
    "epoch 2: learning_rate: recorded 0.5 ": change_row(learning_rate=0.5),
    "metrics.jsonl: expected a row of epoch 2": change_row(),
    "metrics.jsonl: has a row of epoch null, which the training has not": add_row,
    "run.json: fingerprint: recorded": lambda run: change_record(run, fingerprint="0" * 64),
    "run.json: seed: recorded 4 and config.seed 0": lambda run: change_record(run, seed=4),
    "run.json: metrics.test_loss: recorded 1.0 ": change_part("metrics", test_loss=1.0),
}
DIFFERENCES_OF_MINE = {
    "model.safetensors: norms.1.weight": lambda run: flip(run / "model.safetensors", -1),
    "checkpoint-4.safetensors: optimizer.m.3.beta": change_arrays(
        "checkpoint-4.safetensors",
        lambda arrays: {"state.2.m.3.beta": np.nextafter(arrays["state.2.m.3.beta"], 9.0)},
    ),
}


@pytest.mark.parametrize("expected", [*DIFFERENCES, *DIFFERENCES_OF_MINE])
def test_what_differs_is_named_with_its_place_whatever_the_digests(expected, capsys):
    run = RUN if expected in DIFFERENCES_OF_MINE else PLAIN_RUN
    (DIFFERENCES | DIFFERENCES_OF_MINE)[expected](run)
    seal(run)
    assert differing(capsys, run, "--quiet").startswith(expected)


OTHER = "runs/mine: follows version 2 of the specification, expected version 1: "
REFUSED = [
    ({}, "--between 3:4", "has no checkpoint after epoch 3: only after 2, 4"),
    ({}, "--between 0:3", "has neither a fingerprint nor a checkpoint after epoch 3"),
    ({}, "--between 4:9", "expected epochs from 0 to 6, got 4:9"),
    ({"status": "failed"}, "", "runs/mine: is failed: expected a training that has ended"),
    ({"specification_version": None}, "", "runs/mine: was trained in native arithmetic, which gives "),
    ({"specification_version": 2}, "", OTHER),
    (
        {"data": {"name": "small", "sha256": ""}},
        "",
        "runs/mine: was trained on other data: small with SHA-256 ",
    ),
]


@pytest.mark.parametrize(("changes", "words", "message"), REFUSED)
def test_what_cannot_be_verified_is_refused_in_one_line(changes, words, message, capsys):
    change_record(RUN, **changes)
    seal(RUN)
    assert message in complaint(capsys, "verify", RUN, "--quiet", *words.split())


def test_files_are_compared_with_their_digests_without_training(capsys):
    same = "verified      runs/mine: the files are the same bits\n"
    assert printed(capsys, "verify", RUN, "--files") == same
    for name in {path.name for path in RUN.iterdir()} - {"run.json"}:
        flip(RUN / name, -3)
        assert differing(capsys, RUN, "--files").startswith(f"{name}: is not what was recorded (SHA-256 ")
        flip(RUN / name, -3)
    shutil.copy(RUN / "checkpoint-4.safetensors", RUN / "checkpoint-3.safetensors")
    assert differing(capsys, RUN, "--files") == "checkpoint-3.safetensors: is not in the record"
    (RUN / "checkpoint-3.safetensors").unlink()
    (RUN / "checkpoint-4.safetensors").unlink()
    assert differing(capsys, RUN, "--files") == "checkpoint-4.safetensors: is missing"
    assert printed(capsys, "verify", RUN, "--quiet", "--workers", "3") == ""  # which needs no checkpoint
    (RUN / "model.safetensors").unlink()
    assert differing(capsys, RUN) == "model.safetensors: is missing"
    change_record(RUN, digests=None)
    assert "run.json: holds no digests of files: " in complaint(capsys, "verify", RUN, "--files")


def test_a_resumed_run_has_a_segment_for_each_process_and_keeps_its_checkpoints(capsys):
    run = Path("runs/stopped")
    assert train.main(["--resume", str(run), "--quiet", "--backend", "array-api-strict"]) == 0
    first, second = read_run(run)["segments"]
    assert (first["epoch"], first["backend"]) == (0, "numpy")
    assert (second["epoch"], second["backend"]) == (2, "array-api-strict")
    kept = {f"checkpoint-{epoch}.safetensors" for epoch in (2, 4, 6, 8)}
    assert {path.name for path in run.glob("checkpoint-*")} == kept
    assert printed(capsys, "verify", run, "--quiet") == ""


def test_a_run_that_ends_within_the_patience_is_verified(capsys):
    words = [*PLAIN[:-2], "--validation", "60", "--patience", "2", "--lr", "2", "--epochs", "99"]
    assert train.main([*words, "--name", "early", *QUIET]) == 0
    run = Path("runs/early")
    assert read_run(run)["metrics"]["epochs"] < 99
    assert printed(capsys, "verify", run, "--quiet") == ""
    change_part("config", patience=3)(run)
    seal(run)
    assert differing(capsys, run, "--quiet").startswith("run.json: metrics.epochs: recorded ")


def test_a_training_on_arrays_is_verified_from_python(capsys):
    data = image_data()
    labels = np.array(["a", "b", "c", "d"])[data.y_train]
    weights = {"sample_weight": np.linspace(0, 1, len(labels)), "class_weight": {"a": 2.0}}
    arrays = {"X": data.x_train, "y": labels, **weights}
    stop = {"callback": lambda epoch: epoch.epoch == 3, "log_every": 5}
    run = "runs/fit"
    xpnet.fit(**arrays, **stop, epochs=9, hidden=6, batch_size=50, run=run, report=False)
    assert "xpnet.verify takes them in Python" in complaint(capsys, "verify", run)
    result = xpnet.verify(run, **arrays, backend="numpy")
    assert (bool(result), result.difference) == (True, None)
    with pytest.raises(xpnet.ConfigError, match=r"^runs/fit: was trained on other data: "):
        xpnet.verify(run, **{**arrays, "X": 255 - data.x_train})
    result = xpnet.verify(run, **{**arrays, "class_weight": {"a": 3.0}})
    assert result.difference.startswith("run.json: data.weights_sha256: recorded '")
    assert capsys.readouterr().out == ""


def test_a_run_of_the_command_is_verified_from_python(capsys):
    assert xpnet.verify(RUN, between=(2, 4))
    with pytest.raises(xpnet.ConfigError, match="unknown device 'tpu'"):
        xpnet.verify(RUN, device="tpu")
    assert capsys.readouterr().out == ""
    assert xpnet.verify(RUN, verbose=True)
    assert "epoch     6   loss" in capsys.readouterr().out
    flip(RUN / "model.safetensors", -1)
    assert not xpnet.verify(str(RUN))
