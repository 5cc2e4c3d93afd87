"""Calls in processes of their own: results, killed processes, interruption."""

import os
from concurrent.futures import BrokenExecutor, CancelledError

import pytest

from xpnet._lib.processes import ProcessExecutor


def test_each_call_has_a_process_of_its_own():
    with ProcessExecutor(2) as executor:
        processes = {future.result() for future in [executor.submit(os.getpid) for _ in range(3)]}
        assert executor.submit(int, "11", base=2).result() == 3
    assert len(processes | {os.getpid()}) == 4


def test_a_process_that_ends_fails_its_own_call_only():
    with ProcessExecutor(1) as executor:
        ended, result = executor.submit(os._exit, 7), executor.submit(pow, 2, 3)
        with pytest.raises(BrokenExecutor, match=r"^its process ended without a result, with exit code 7$"):
            ended.result()
        assert result.result() == 8


@pytest.mark.skipif(os.name != "posix", reason="has no FIFOs")
def test_interruptions_cancel_the_calls_to_come_and_the_second_one_ends_what_hangs(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ProcessExecutor(1) as executor:
        hanging, following = executor.submit(fifo.read_bytes), executor.submit(os.getpid)
        with fifo.open("wb"):  # once the call reads it
            executor.interrupt()
            executor.interrupt()
            with pytest.raises(BrokenExecutor):
                hanging.result()
            with pytest.raises(CancelledError):
                following.result()
