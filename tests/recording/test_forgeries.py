"""Records that lie: whatever in an honest record is changed, its verification must not succeed.

Each forgery changes one thing in the folder of an honest run and then writes the digests of the files as they
are, as one would who changes them on purpose.
"""

from pathlib import Path

import pytest
from commands import printed
from forgeries import RUNS, by_hand, judge, make_runs, python_verdict, record_of
from recorded_runs import weighted_arrays

import xpnet
from xpnet.errors import XPNetError

STOPPED, WEIGHTED = "runs/stopped", Path("runs/weighted")


@pytest.mark.slow
@pytest.mark.usefixtures("empty_folder")
def test_no_forgery_is_verified_without_a_word(monkeypatch):
    monkeypatch.setenv("XPNET_COMPILE", "0")
    make_runs()
    assert {python_verdict(Path("runs", name))[0] for name in RUNS} == {"same"}
    verdicts = judge(by_hand("lies"))
    assert len(verdicts) >= 140
    assert {name: why for name, (verdict, why) in verdicts.items() if verdict == "same"} == {}


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
