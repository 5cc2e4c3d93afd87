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
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ProcessExecutor(ThreadPoolExecutor):
    """Makes each call in a new process, up to `processes` at a time; a thread waits for each.

    A process that is killed fails its own call only, with BrokenExecutor; that of a ProcessPoolExecutor
    would fail all. The processes do not receive the SIGINT of a terminal: `interrupt` replaces it.
    """

    def __init__(self, processes: int) -> None:
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # here, for it unblocks SIGINT in the thread that starts it
        super().__init__(processes, initializer=_block_interrupts)
        self._running: set[Connection] = set()
        self._interrupted = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call; function, arguments and result are pickled."""
        return super().submit(self._call, partial(function, *args, **kwargs))

    def interrupt(self) -> None:
        """Interrupt the calls as Ctrl-C does, and cancel those to come; the second time, end the processes.

        Takes no lock, so that a handler of SIGINT may call it.
        """
        self._interrupted = True
        for connection in list(self._running):
            with suppress(OSError):  # the process has just ended
                connection.send(None)

    def __exit__(self, *error: object) -> None:
        """Interrupt the calls that have not ended, and wait for their processes."""
        self.interrupt()
        self.shutdown()

    def _call(self, function: Callable[[], T]) -> T:
        connection, end = Pipe()
        self._running.add(connection)
        process = get_context("spawn").Process(target=_work, args=(end, function))
        try:
            if self._interrupted:  # after the registration: later interruptions are sent to the process
                raise CancelledError
            process.start()
            end.close()
            result: T = connection.recv()
        except (EOFError, ConnectionError) as error:
            process.join()
            if self._interrupted:
                raise CancelledError from error
            msg = f"its process ended without a result, with exit code {process.exitcode}"
            raise BrokenExecutor(msg) from error
        else:
            process.join()
            return result
        finally:
            self._running.discard(connection)
            connection.close()


def _block_interrupts() -> None:
    """Block SIGINT in this thread and the processes that it starts."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


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
