"""Recorded runs are verified by computing them again, and extended from the end of a complete one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from backend_enum import CASES
from commands import complaint, printed
from ctrl_c import interrupted
from folders import change_record, tree
from networks import image_data
from recorded_runs import PLAIN, QUIET, seal

import xpnet
from xpnet import train
from xpnet.__main__ import main
from xpnet.storage.folder import digest_file
from xpnet.storage.record import read_metrics, read_run

pytestmark = pytest.mark.usefixtures("copied")

RUN, PLAIN_RUN = Path("runs/mine"), Path("runs/plain")
VERIFIED = "verified      runs/plain: epochs 1 to 3, model and metrics are the same bits\n"


def differing(capsys, *words):
    assert main(["verify", *map(str, words)]) == 1
    return capsys.readouterr().out.splitlines()[-1].removeprefix("differs       ")


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
    message = "moved/plain: is not the run that moved/more extends: expected the fing"
    assert message in complaint(capsys, "verify", "moved/more", "--quiet")


def test_the_model_that_a_training_started_from_is_named_with_its_digest(capsys):
    digest = digest_file(Path("start.safetensors"))
    Path("start.safetensors").rename("moved.safetensors")
    words = ["verify", "runs/started", "--init-from"]
    origin = f"are the same bits, starting from start.safetensors, {digest[:16]}…\n"
    assert printed(capsys, *words, "moved.safetensors").endswith(origin)
    problem = f"runs/started: started from another model: expected SHA-256 {digest[:16]}…, found "
    assert complaint(capsys, *words, "runs/started/model.safetensors", "--quiet").startswith(problem)


def test_data_may_have_moved(capsys):
    Path("small.npz").rename("elsewhere.npz")
    assert printed(capsys, "verify", PLAIN_RUN, "--data", "elsewhere.npz").endswith(VERIFIED)


REFUSED = [
    ({}, "--between 3:4", "has no checkpoint after epoch 3: only after 2, 4"),
    ({}, "--between 0:3", "has neither a fingerprint nor a checkpoint after epoch 3"),
    ({"status": "failed"}, "", "runs/mine: is failed: expected a training that has ended"),
    ({"specification_version": None}, "", "runs/mine: was trained in native arithmetic, which gives "),
    ({"specification_version": 2}, "", "runs/mine: follows version 2 of the specification, expected "),
    ({"data": {"name": "small", "sha256": ""}}, "", "runs/mine: was trained on other data: small with "),
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


def test_without_a_file_of_the_record_no_part_is_verified_and_without_the_model_nothing(capsys):
    (RUN / "checkpoint-4.safetensors").unlink()
    problem = "--between: runs/mine lacks checkpoint-4.safetensors, of which its record has the digest: only "
    assert complaint(capsys, "verify", RUN, "--between", "2:6").startswith(problem)
    missing = "verified, but for checkpoint-4.safetensors, which is missing: runs/mine: epochs 1 to 6, "
    assert printed(capsys, "verify", RUN, "--quiet").startswith(missing)
    assert xpnet.verify(RUN).not_compared == ("checkpoint-4.safetensors",)
    (RUN / "model.safetensors").unlink()
    assert differing(capsys, RUN) == "model.safetensors: is missing"


def test_a_resumed_run_has_a_segment_for_each_process_and_keeps_its_checkpoints(capsys):
    run = Path("runs/stopped")
    assert train.main(["--resume", str(run), "--quiet", "--backend", "array-api-strict"]) == 0
    segments = [(part["epoch"], part["backend"]) for part in read_run(run)["segments"]]
    assert segments == [(0, "numpy"), (2, "array-api-strict")]
    assert len([*run.glob("checkpoint-*")]) == 4
    assert printed(capsys, "verify", run, "--quiet") == ""


def test_a_training_on_arrays_is_verified_from_python(capsys):
    data = image_data()
    arrays = {"X": data.x_train, "y": np.array([*"abcd"])[data.y_train], "class_weight": {"a": 2.0}}
    stop = {"callback": lambda epoch: epoch.epoch == 3, "log_every": 5}
    run = xpnet.fit(**arrays, **stop, epochs=9, hidden=6, batch_size=50, run="runs/fit", report=False).run
    assert "xpnet.verify takes them in Python" in complaint(capsys, "verify", run)
    result = xpnet.verify(run, **arrays, backend="numpy")
    assert (bool(result), result.difference) == (True, None)
    result = xpnet.verify(run, **{**arrays, "class_weight": {"a": 3.0}})
    assert result.difference.startswith("run.json: data.weights_sha256: recorded '")


def test_a_run_of_the_command_is_verified_from_python(capsys):
    with pytest.raises(xpnet.ConfigError, match="unknown device 'tpu'"):
        xpnet.verify(RUN, device="tpu")
    assert xpnet.verify(RUN, between=(2, 4))
    assert capsys.readouterr().out == ""
    flip(RUN / "model.safetensors", -1)
    assert not xpnet.verify(str(RUN))


def trained(name, *words):
    assert train.main([*map(str, words), "--name", name, *QUIET]) == 0
    return outcome(name)


def outcome(name):
    run = Path("runs", name)
    return read_run(run), [{**row, "seconds": 0} for row in read_metrics(run / "metrics.jsonl")]


def test_an_extension_ends_as_if_all_epochs_had_been_trained_at_once():
    settings = [*PLAIN, "--optimizer", "adam", "--batch-norm", "--dropout", 0.2, "--schedule", "exponential"]
    whole, rows = trained("whole", *settings, "--epochs", 5)
    first, _ = trained("parent", *settings, "--epochs", 3)
    record, added = trained("longer", "--extend", "runs/parent", "--epochs", 2)
    assert (record["fingerprint"], added) == (whole["fingerprint"], rows[3:])
    assert {**record["metrics"], "seconds": 0} == {**whole["metrics"], "seconds": 0}
    assert record["parent"]["fingerprint"] == first["fingerprint"]


def test_flags_win_over_the_settings_of_the_parent_and_a_schedule_counts_all_epochs():
    trained("parent", *PLAIN, "--batch-size", "full")
    more = ["--extend", "runs/parent", "--epochs", 3]
    _, rows = trained("cosine", *more, "--schedule", "cosine", "--lr", 0.2)
    # Half of the steps are over, so that the rate is half of the full one: lr cos²(π/4) = 0.1.
    _, expected = trained("same", *more)
    assert rows[1]["train_loss"] == pytest.approx(expected[1]["train_loss"], rel=1e-12)
    assert rows[3] != expected[3]


def test_an_interrupted_extension_goes_on_even_without_its_parent():
    whole, rows = trained("whole", *PLAIN, "--epochs", 6)
    interrupted(4, ["--extend", PLAIN_RUN, "--epochs", 3, "--name", "longer", *QUIET])
    shutil.rmtree(PLAIN_RUN)
    assert train.main(["--resume", "runs/longer", "--quiet"]) == 0
    record, history = outcome("longer")
    assert (record["status"], record["fingerprint"]) == ("completed", whole["fingerprint"])
    assert history == rows[3:]


MORE = "--epochs 2"
NOT_EXTENDED = {
    "--extend: expected --epochs N beside it, the epochs to add to the 3 of runs/plain": "runs/plain",
    "--loss: runs/plain was trained with": f"runs/plain {MORE} --loss squared-error",
    "--extend: there is --resume runs/mine already": f"runs/plain {MORE} --resume runs/mine",
    "--extend: runs/plain: expected another folder": f"runs/plain {MORE} --name=plain --overwrite",
    "runs/started: has no checkpoint.safetensors, the state of its optimiser: --init": f"runs/started {MORE}",
    "runs/stopped: is not completed but interrupted: xpnet train --resume": f"runs/stopped {MORE}",
    "--extend: runs/table was trained on other data: small with SHA-256 ": f"runs/table {MORE}",
}


@pytest.mark.parametrize("message", NOT_EXTENDED)
def test_what_cannot_be_extended_is_refused_and_nothing_is_written(capsys, message):
    Path("runs/started/checkpoint.safetensors").unlink()
    Path("small.csv").write_text(Path("small.csv").read_text().replace("a,", "b,", 1))
    before = [*Path("runs").rglob("*")]
    assert complaint(capsys, "train", "--extend", *NOT_EXTENDED[message].split()).startswith(message)
    assert [*Path("runs").rglob("*")] == before


def test_a_run_from_python_is_extended_there():
    images = image_data()
    data, settings = (images.x_train, images.y_train), {"hidden": 4, "batch_size": 90}
    whole = xpnet.fit(*data, **settings, epochs=5)
    xpnet.fit(*data, **settings, epochs=2, run="runs/parent", report=False)
    model = xpnet.fit(*data, extend="runs/parent", epochs=3, run="runs/longer", report=False)
    assert (model.fingerprint, model.history) == (whole.fingerprint, whole.history[2:])


def test_a_run_that_ends_within_the_patience_is_verified(capsys):
    words = [*PLAIN[:-2], "--validation", "60", "--patience", "2", "--lr", "2", "--epochs", "99"]
    record, _ = trained("early", *words)
    assert record["metrics"]["epochs"] < 99
    assert printed(capsys, "verify", "runs/early", "--quiet") == ""
