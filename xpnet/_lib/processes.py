"""Function calls in processes of their own, which Ctrl-C and the end of this process end too."""

import _thread
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class ProcessExecutor(ThreadPoolExecutor):
    """Makes each call in a new process, up to `processes` at a time; a thread waits for each.

    A process that is killed fails its own call only, with BrokenExecutor; that of a ProcessPoolExecutor
    would fail all. The processes do not receive the SIGINT of a terminal: `interrupt` replaces it.
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
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # in the new process too
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
