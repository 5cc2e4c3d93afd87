"""Calls in processes of their own, and on ranks: results, killed processes, interruption."""

import os
import signal
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import nullcontext
from functools import partial

import pytest
from ctrl_c import handled_by

from xpnet._lib.interrupts import TERMINATION
from xpnet._lib.processes import HeldInterrupts, ProcessExecutor, RankCalls


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


@pytest.mark.skipif(os.name != "posix", reason="has no masks of signals")
def test_the_signals_of_a_terminal_and_a_batch_system_do_not_reach_the_calls():
    with ProcessExecutor(1) as executor:
        assert executor.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result() >= {
            signal.SIGINT,
            *TERMINATION,
        }


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


class Busy:
    """An executor that returns these futures, then such of calls that no other rank begins."""

    def __init__(self, *futures):
        self._futures = [*futures]

    def submit(self, *_):
        return self._futures.pop(0) if self._futures else Future()


def test_rank_0_makes_the_calls_that_no_other_rank_has_begun():
    with HeldInterrupts() as held:
        calls = RankCalls(Busy(), held, [partial(pow, 2, 3), partial(int, "x"), os.getpid])
        assert calls.result(0) == 8
        with pytest.raises(ValueError, match="'x'"):
            calls.result(1)
        assert calls.result(2) == os.getpid()


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_no_call_begins_after_one_on_another_rank_was_interrupted(is_interrupted):
    first = Future()
    with HeldInterrupts() as held:
        calls = RankCalls(Busy(first), held, [os.getpid, os.getpid])
        first.set_result(("saved", is_interrupted))
        assert calls.result(0) == "saved"
        with pytest.raises(CancelledError) if is_interrupted else nullcontext():
            assert calls.result(1) == os.getpid()


def test_only_calls_are_interrupted_and_none_begins_thereafter():
    made = []

    with handled_by(signal.default_int_handler):
        with HeldInterrupts() as held:
            calls = [partial(made.append, 0), partial(signal.raise_signal, signal.SIGINT)]
            interrupted, following = RankCalls(Busy(), held, calls), RankCalls(Busy(), held, calls)
            assert not held.arrived
            with pytest.raises(CancelledError):
                interrupted.result(1)
            with pytest.raises(CancelledError):
                interrupted.result(0)
            signal.raise_signal(signal.SIGINT)
            assert held.arrived
            with pytest.raises(CancelledError):
                following.result(0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert made == []


def test_calls_ignore_interruptions_as_their_process_does():
    with handled_by(signal.SIG_IGN), HeldInterrupts() as held:
        calls = RankCalls(Busy(), held, [partial(signal.raise_signal, signal.SIGINT)])
        assert calls.result(0) is None
        assert not held.arrived
