"""NumPy computes blocks side by side: in order, few at a time, and with the same results."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from xpnet.backends import numpy as library
from xpnet.backends.resolve import make
from xpnet.backends.workers import MAX_PENDING, Workers

NUMPY = library.make("cpu")


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_order(count):
    with NUMPY.workers(count):
        for items in (0, 1, 100):
            assert list(NUMPY.map_blocks(lambda x: x * x, range(items))) == [x * x for x in range(items)]


def test_the_same_two_threads_work_at_the_same_time_few_results_wait_and_errors_reach_the_caller():
    meeting, started = threading.Barrier(2, timeout=30), []

    def meet(_):
        meeting.wait()
        return threading.get_ident()

    numbers = []
    for _ in range(2):
        with NUMPY.workers(2):
            numbers.append(set(NUMPY.map_blocks(meet, range(4))))
            next(NUMPY.map_blocks(started.append, range(1000)))
            assert len(started) <= 2 * MAX_PENDING
            with pytest.raises(ZeroDivisionError):
                list(NUMPY.map_blocks(lambda x: 1 // x, [1, 0, 1]))
    assert numbers[0] == numbers[1]


def test_no_worker_warns_of_infinities():
    with NUMPY.scope(), NUMPY.workers(2):
        results = list(NUMPY.map_blocks(lambda x: np.log(np.asarray([x])), [0.0, -1.0]))
    np.testing.assert_array_equal(results, [[-np.inf], [np.nan]])


@pytest.mark.needs("array-api-strict")
def test_the_blas_of_array_api_strict_has_one_thread():
    def blas_threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2):
        before = blas_threads()
        with make("array-api-strict", "cpu").workers(3):
            assert blas_threads() == {1}
        assert blas_threads() == before


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


def test_threads_and_the_caller_share_items_unless_the_blas_has_threads_of_its_own(three_workers):
    meeting, threads = threading.Barrier(3, timeout=30), []

    def work(_):
        meeting.wait()
        threads.append(threading.get_ident())

    three_workers.share(work, range(3))
    assert len(set(threads)) == 3
    assert threading.get_ident() in threads
    three_workers.sharing = False
    try:
        three_workers.share(lambda _: threads.append(threading.get_ident()), range(9))
    finally:
        three_workers.sharing = True
    assert threads[3:] == [threading.get_ident()] * 9


def test_a_thread_does_all_alone_while_the_others_are_busy(three_workers):
    done, released, seen = [], threading.Event(), threading.Semaphore(0)

    def wait(_):
        seen.release()
        released.wait(30)

    blocker = threading.Thread(target=lambda: list(three_workers.map(wait, range(3))))
    blocker.start()
    try:
        for _ in range(3):
            seen.acquire(timeout=30)
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


def test_threads_that_compute_blocks_divide_no_calls(monkeypatch):
    a, b = np.ones((2, 2000, 300))
    fast = NUMPY.compile(lambda a, b: [(a + b) * b - a], exact=True)
    monkeypatch.setattr(Workers, "share", None)  # an error if it were called
    with NUMPY.workers(2):
        results = [*NUMPY.map_blocks(lambda _: fast(a, b), range(9))]
    assert all(np.all(result == 1.0) for (result,) in results)
