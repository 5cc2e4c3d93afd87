"""NumPy computes blocks side by side: in order, few at a time, and with the same results."""

import multiprocessing
import os
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
        assert list(NUMPY.map_blocks(square, range(8))) == [x * x for x in range(8)]
        next(NUMPY.map_blocks(started.append, range(1000)))
        assert len(started) <= 2 * MAX_PENDING
        with pytest.raises(ZeroDivisionError):
            list(NUMPY.map_blocks(lambda x: 1 // x, [1, 0, 1]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process")
@pytest.mark.filterwarnings("ignore:.*fork")  # of processes with threads
def test_a_forked_process_has_threads_of_its_own():
    def work(queue):
        with NUMPY.workers(2):
            queue.put(list(NUMPY.map_blocks(abs, range(4))))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    work(queue)
    process = context.Process(target=work, args=(queue,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert [queue.get(), queue.get()] == [[0, 1, 2, 3]] * 2


@pytest.fixture(scope="module")
def three_workers():
    pool = Workers()
    with pool.start(3, lambda: None):
        yield pool


def test_a_thread_does_all_alone_while_the_others_are_busy(three_workers):
    done, released, busy = [], threading.Event(), threading.Barrier(4, timeout=30)

    def wait(_):
        busy.wait()
        released.wait(30)

    blocker = threading.Thread(target=lambda: list(three_workers.map(wait, range(3))))
    blocker.start()
    try:
        busy.wait()
        three_workers.share(done.append, range(5))
        assert sorted(done) == [0, 1, 2, 3, 4]
    finally:
        released.set()
        blocker.join()


def test_an_error_in_another_thread_reaches_the_caller(three_workers):
    meeting, caller = threading.Barrier(3, timeout=30), threading.get_ident()

    def fail_elsewhere(_):
        meeting.wait()
        if threading.get_ident() != caller:
            msg = "of a thread"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="of a thread"):
        three_workers.share(fail_elsewhere, range(3))
