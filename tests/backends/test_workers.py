"""Blocks are computed side by side: in order, few at a time, and with the same results."""

import threading

import pytest

from xpnet.backends.resolve import make
from xpnet.backends.workers import MAX_PENDING, Workers

NUMPY = make("numpy", "cpu")


def test_two_threads_work_at_the_same_time_few_results_wait_and_errors_reach_the_caller():
    meeting, started = threading.Barrier(2, timeout=30), []

    def square(x):
        meeting.wait()
        return x * x

    with NUMPY.workers(2):
        assert list(NUMPY.pool.map(square, range(8))) == [x * x for x in range(8)]
        next(NUMPY.pool.map(started.append, range(1000)))
        assert len(started) <= 2 * MAX_PENDING
        with pytest.raises(ZeroDivisionError):
            list(NUMPY.pool.map(lambda x: 1 // x, [1, 0, 1]))


def test_an_error_in_another_thread_reaches_the_caller():
    meeting, caller = threading.Barrier(3, timeout=30), threading.get_ident()

    def fail_elsewhere(_):
        meeting.wait()
        return 1 // (threading.get_ident() == caller)

    workers = Workers()
    with workers.start(3, lambda: None), pytest.raises(ZeroDivisionError):
        workers.share(fail_elsewhere, range(3))
