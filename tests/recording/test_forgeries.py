"""Records that lie: whatever in an honest record is changed, its verification must not succeed.

Each forgery changes one thing in the folder of an honest run and then writes the digests of the files as they
are, as one would who changes them on purpose. What may be changed is listed with the reason.
"""

import json
from pathlib import Path

import pytest
from commands import printed
from forgeries import OF_ARRAYS, OF_FILES, by_hand, forgeries, judge, make_runs, python_verdict
from recorded_runs import digest_record, weighted_arrays

import xpnet
from xpnet.errors import XPNetError

MINE, STOPPED, WEIGHTED = "runs/mine", "runs/stopped", "runs/weighted"
"""Runs with most features, interrupted, weighted."""


def find_believed(monkeypatch, **kind):
    """The lies of the list that are verified without a word."""
    monkeypatch.setenv("XPNET_COMPILE", "0")
    make_runs()
    for name in (*OF_FILES, *OF_ARRAYS):
        assert python_verdict(Path("runs", name))[0] == "same"
    listed = forgeries(**kind)
    assert len({forgery.name for forgery in listed}) == len(listed)
    assert sum(not forgery.no_lie for forgery in listed) >= 140
    verdicts = judge(listed)
    return {
        each.name: verdicts[each.name]
        for each in listed
        if not each.no_lie and verdicts[each.name][0] == "same"
    }


@pytest.mark.slow
def test_no_forgery_is_verified_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_believed(monkeypatch, generated=False) == {}


@pytest.mark.slow
@pytest.mark.nightly
def test_no_key_of_any_record_can_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_believed(monkeypatch) == {}


def record_of(run):
    return json.loads(Path(run, "run.json").read_text())


def write_record(run, record):
    Path(run, "run.json").write_text(json.dumps(record))


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("forgery", by_hand("differences"), ids=lambda forgery: forgery.message)
def test_what_differs_is_named_with_its_place_whatever_the_digests(forgery):
    forgery.make(Path("runs"))
    try:
        difference = xpnet.verify(Path("runs", forgery.run)).difference
    except XPNetError as error:
        difference = str(error)
    assert difference.startswith(forgery.message)


@pytest.mark.usefixtures("copied")
def test_digests_that_are_removed_or_of_no_file_are_found():
    record = record_of(MINE)
    write_record(MINE, {**record, "digests": None})
    assert xpnet.verify(MINE).difference == "run.json: digests: are missing"
    record["digests"]["checkpoint-99.safetensors"] = "0" * 64
    record["digests"]["run.json"] = digest_record(record)
    write_record(MINE, record)
    assert xpnet.verify(MINE).difference == "checkpoint-99.safetensors: is no file of this training"


@pytest.mark.usefixtures("copied")
def test_the_steps_of_an_interrupted_epoch_are_named(capsys):
    line = "epochs 1 to 2 and 2 steps of epoch 3, model and metrics are the same bits\n"
    assert printed(capsys, "verify", STOPPED).endswith(f"verified      {STOPPED}: {line}")


@pytest.mark.usefixtures("copied")
def test_a_callback_that_stops_within_an_epoch_leaves_an_interrupted_run():
    class Stop(xpnet.Callback):
        def on_step_end(self, state):
            if state.batch == 2:
                self.stop = "enough"

    xpnet.fit(**weighted_arrays(), epochs=3, batch_size=50, run=WEIGHTED, overwrite=True, callbacks=[Stop()])
    record = record_of(WEIGHTED)
    assert (record["status"], record["metrics"]["epochs"]) == ("interrupted", 0)
    assert xpnet.verify(WEIGHTED, **weighted_arrays())
