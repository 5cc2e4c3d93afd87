"""scripts/benchmarks/scaling.py: the arithmetic of its model, and what it writes."""

import json

import pytest
from benchmarks import scaling
from benchmarks.scaling import Cost, Link
from benchmarks.tasks import Task

pytestmark = pytest.mark.tooling

LINK = Link("a network", latency=1e-3, bandwidth=8e6)  # a million numbers a second
COST = Cost(numbers=1000, maxima=500, sample=0.02, block=0.1, update=0.01)  # 1 ms a node


def test_small_nodes_are_exchanged_whole_and_large_ones_in_slices():
    assert scaling.exchange_seconds(LINK, 1000, [1] * 4) == pytest.approx(0.002 + 0.003)
    slices = scaling.exchange_seconds(LINK, 100_000, [1] * 4)
    assert slices == pytest.approx(2 * 3 * 0.001 + 2 * 0.1 * 3 / 4)
    assert scaling.exchange_seconds(LINK, 100_000, [3, 1]) == pytest.approx(0.002 + 0.1 * 4 / 2)
    assert scaling.exchange_seconds(LINK, 1000, [1]) == 0


def test_an_allreduce_sends_whole_arrays_or_slices_whichever_is_faster():
    assert scaling.allreduce_seconds(LINK, 500, 4) == pytest.approx(2 * (0.001 + 0.0005))
    assert scaling.allreduce_seconds(LINK, 100_000, 4) == pytest.approx(4 * 0.001 + 2 * 0.1 * 3 / 4)


def test_a_step_takes_the_blocks_of_the_rank_with_most_the_update_and_the_exchange():
    assert scaling.step_seconds(COST, LINK, 3000, 1) == pytest.approx(0.3 + 0.01)
    assert scaling.step_seconds(COST, LINK, 3000, 2) == pytest.approx(0.2 + 0.01 + 0.001 + 0.001)
    assert scaling.step_seconds(COST, LINK, 3000, 8) == pytest.approx(0.1 + 0.01 + 0.003 + 0.003 * 7 / 8)


def test_a_batch_of_one_block_is_split_by_samples():
    exchange = 2 * (0.001 + 0.0005) + 2 * (0.001 + 0.001)
    assert scaling.step_seconds(COST, LINK, 1024, 4) == pytest.approx(0.02 + 0.08 / 4 + 0.01 + exchange)


def test_an_epoch_ends_with_a_short_batch():
    task = Task(batch=2048, rows=3000)
    assert scaling.epoch_seconds(COST, LINK, task, 1) == pytest.approx(0.21 + 0.02 + 952 / 1024 * 0.08 + 0.01)


def test_the_limits_are_the_first_below_half_efficiency_and_the_fastest():
    seconds = [1 / ranks for ranks in scaling.RANKS]
    assert scaling.limits(seconds) == (None, scaling.RANKS[-1])
    assert scaling.limits([1, 0.6, 0.4, 0.3, *[0.35] * (len(seconds) - 4)]) == (8, 8)


@pytest.mark.needs("matplotlib")
def test_a_run_writes_what_it_measured_and_predicted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "HIDDEN", ((2,), (3,)))
    monkeypatch.setattr(scaling, "MOST_MEASURED", 2048)
    assert scaling.main(["--quick", "--link", "1", "50", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "scaling.json").read_text())
    assert record["links"] == [{"name": "1 Gbit/s, 50 µs", "latency": 5e-5, "bandwidth": 1.25e8}]
    first = record["results"][0]
    assert (first["network"], first["measured"]["numbers"]) == ("784-2-10", 785 * 2 + 3 * 10)
    (prediction,) = first["predictions"]
    assert len(prediction["epoch_seconds"]) == len(scaling.RANKS)
    assert b"<svg " in (tmp_path / "scaling.svg").read_bytes()
    assert "| 784-3-10, batches of 1,024 | 1 Gbit/s, 50 µs |" in capsys.readouterr().out


def test_the_help_and_bad_links(capsys):
    with pytest.raises(SystemExit, match="0"):
        scaling.main(["--help"])
    assert "--link GBITS MICROSECONDS" in capsys.readouterr().out
    for words, problem in (
        (["1", "0"], "numbers above 0"),
        (["x", "1"], "could not convert string to float"),
    ):
        assert scaling.main(["--link", *words]) == 2
        assert f"--link: expected Gbit/s and microseconds: {problem}" in capsys.readouterr().err
    assert scaling.main(4 * ["--link", "1", "1"]) == 2
    assert "at most 3 times, got 4" in capsys.readouterr().err
