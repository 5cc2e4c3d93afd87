"""Function calls in processes of their own, which end with this one, or on the ranks of an MPI job."""

import _thread
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection
from select import select
from socket import socketpair
from threading import Thread
from types import FrameType
from typing import Any, Generic, Self, TypeVar

from xpnet._lib.interrupts import TERMINATION
from xpnet._lib.launch import outside_job

T = TypeVar("T")

POLLING_SECONDS = 0.05
"""Seconds from one look for messages of other ranks to the next, which takes time from a call on rank 0."""


class ProcessExecutor(ThreadPoolExecutor):
    """Makes each call in a new process, up to `processes` at a time; a thread waits for each.

    A process that is killed fails its own call only, with BrokenExecutor; that of a ProcessPoolExecutor
    would fail all. The processes do not receive the SIGINT of a terminal, nor the SIGTERM of a batch system:
    `interrupt` replaces them.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(processes)
        self._connections: list[Connection] = []
        self._interrupted = False

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Schedule a call; function, arguments and result are pickled."""
        return super().submit(self._call, partial(function, *args, **kwargs))

    def interrupt(self) -> None:
        """Interrupt the calls as Ctrl-C does, and cancel those to come; the second time, end the processes.

        Takes no lock, so that a handler of SIGINT may call it.
        """
        self._interrupted = True
        for connection in self._connections:
            with suppress(OSError):  # the process has ended
                connection.send(None)

    def __exit__(self, *error: object) -> None:
        """Interrupt the calls that have not ended, and wait for their processes."""
        self.interrupt()
        self.shutdown()

    def _call(self, function: Callable[[], T]) -> T:
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # first, for it unblocks SIGINT in the thread that starts it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *TERMINATION})  # in the new process too
        connection, end = Pipe()
        self._connections.append(connection)
        if self._interrupted:  # asked only now: what `interrupt` sends from here on reaches the process
            raise CancelledError
        process, results = get_context("spawn").Process(target=_work, args=(end, function)), list[T]()
        with connection:
            process.start()
            end.close()
            with suppress(EOFError, ConnectionError):
                results.append(connection.recv())
            process.join()
        if not results:
            msg = f"its process ended without a result, with exit code {process.exitcode}"
            raise BrokenExecutor(msg)
        return results[0]


def _work(connection: Connection, function: Callable[[], object]) -> None:
    """Send the result of a call, unless it is interrupted."""
    with suppress(KeyboardInterrupt):
        Thread(target=_obey, args=(connection,), daemon=True).start()
        result = function()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.send(result)


def _obey(connection: Connection) -> None:
    """Interrupt the main thread at the first message; end the process at the second, or without a parent."""
    with suppress(EOFError, OSError):
        connection.recv()
        _thread.interrupt_main()
        connection.recv()
    os._exit(1)


class HeldInterrupts:
    """Lets SIGINT interrupt nothing in the body but what `delivered` surrounds; `arrived` tells of it.

    It does nothing if another handler of SIGINT than Python's own is installed.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socketpair()
        self._writer.setblocking(False)  # noqa: FBT003

    @property
    def arrived(self) -> bool:
        """True once SIGINT has arrived, whatever its handler did."""
        return bool(select([self._reader], [], [], 0)[0])

    def __enter__(self) -> Self:
        self._is_holding = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_holding:
            self._descriptor = signal.set_wakeup_fd(self._writer.fileno())
            signal.signal(signal.SIGINT, self)
        return self

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Do nothing, as the handler of SIGINT: the signal has left a byte in the socket."""

    @contextmanager
    def delivered(self) -> Iterator[None]:
        """Let SIGINT interrupt the body; one that has arrived before raises KeyboardInterrupt at once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if self.arrived:
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGINT, self)

    def __exit__(self, *error: object) -> None:
        """Let SIGINT interrupt again."""
        if self._is_holding:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(self._descriptor)
        self._reader.close()
        self._writer.close()


class RankCalls(Generic[T]):
    """Calls that the ranks of an MPI job make; rank 0 makes them too while it waits for a result.

    After SIGINT on rank 0, or in a call on another one, no further call begins.
    """

    def __init__(self, executor: Any, held: HeldInterrupts, calls: Sequence[Callable[[], T]]) -> None:
        self._calls, self._held, self._is_cancelled = calls, held, False
        self._futures: list[Future[tuple[T, bool]]]
        self._futures = [executor.submit(_call_on_rank, call) for call in calls]
        for future in self._futures:
            future.add_done_callback(self._cancel_after)

    def result(self, index: int) -> T:
        """Return the result of a call, or raise its error: CancelledError if it did not begin."""
        while not self._futures[index].done() and self._make_last():
            pass
        return self._futures[index].result()[0]

    def cancel(self) -> None:
        """Let no further call begin."""
        self._is_cancelled = True
        for future in self._futures:
            future.cancel()

    def _make_last(self) -> bool:
        """Make the last call that no rank has begun; return False if there is none."""
        for index in reversed(range(len(self._calls))):
            if self._is_cancelled:
                break
            if not self._futures[index].cancelled() and self._futures[index].cancel():
                self._futures[index] = future = Future[tuple[T, bool]]()
                future.set_running_or_notify_cancel()
                future.add_done_callback(self._cancel_after)
                try:
                    future.set_result(_call_on_rank(self._calls[index]))
                except Exception as error:  # noqa: BLE001 - `result` raises it
                    future.set_exception(error)
                return True
        return False

    def _cancel_after(self, future: "Future[tuple[T, bool]]") -> None:
        """Cancel the calls to come if SIGINT has arrived here, or where a call was made."""
        if not future.cancelled():
            error = future.exception()
            is_interrupted = future.result()[1] if error is None else isinstance(error, CancelledError)
            if is_interrupted or self._held.arrived:
                self.cancel()


@contextmanager
def spread_calls(
    comm: Any, held: HeldInterrupts, calls: Sequence[Callable[[], T]]
) -> Iterator[list[Callable[[], T]]]:
    """Spread calls over the ranks of an MPI job; each rank is a process alone while it makes one.

    All ranks must call this, with SIGINT held. The body of rank 0 receives functions that return the results;
    calls that have not begun at its end are cancelled. That of another rank receives none, and comes after
    all calls. Calls and results are pickled.
    """
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(comm, backoff=POLLING_SECONDS) as executor:
        if executor is None:
            yield []
            return
        made = RankCalls(executor, held, calls)
        try:
            yield [partial(made.result, index) for index in range(len(calls))]
        finally:
            made.cancel()


def _call_on_rank(function: Callable[[], T]) -> tuple[T, bool]:
    """Return the result of a call, and True if SIGINT has arrived."""
    held = signal.getsignal(signal.SIGINT)  # by the rank that makes the call
    if not isinstance(held, HeldInterrupts):
        with outside_job():
            return function(), False
    try:
        with outside_job(), held.delivered():
            return function(), held.arrived
    except KeyboardInterrupt as error:
        raise CancelledError from error
