"""scripts/benchmarks/scaling.py: the arithmetic of its model, and what it prints."""

import pytest
from benchmarks import scaling
from benchmarks.scaling import Cost, Link

pytestmark = pytest.mark.tooling

LINK = Link("a network", latency=1e-3, bandwidth=8e6)  # a million numbers a second
COST = Cost(numbers=1000, maxima=500, sample=0.02, block=0.1, update=0.01)  # 1 ms a node
TWO_SUMS = 2 * (0.001 + 0.0005) + 2 * (0.001 + 0.001)  # the Allreduce of a batch of one block


@pytest.mark.parametrize(
    ("samples", "ranks", "seconds"),
    [
        (3000, 2, 0.2 + 0.01 + 0.001 + 0.001),  # the blocks of the rank with most, update, and exchange
        (1024, 4, 0.02 + 0.08 / 4 + 0.01 + TWO_SUMS),  # one block is split by samples
    ],
)
def test_a_step_takes_blocks_update_and_exchange(samples, ranks, seconds):
    assert scaling.step_seconds(COST, LINK, samples, ranks) == pytest.approx(seconds)


def test_a_run_prints_what_it_predicts(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "HIDDEN", ((2,), (3,)))
    monkeypatch.setattr(scaling, "MOST_MEASURED", 2048)
    assert scaling.main(["--quick"]) == 0
    _, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 * len(scaling.BATCHES) * len(scaling.LINKS)
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert any(row.startswith("| 784-3-10, batches of 1,024 | 10 Gbit/s, 25 µs | ") for row in rows)
