"""Defer SIGINT to a safe point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def defer_interrupts(notice: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Give the body a function that returns True once Ctrl-C was pressed, instead of interrupting it.

    ``notice`` is called at the first Ctrl-C; a second one raises KeyboardInterrupt. Nothing is deferred
    outside the main thread, which alone receives signals, or if another handler of SIGINT is installed.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            signal.default_int_handler(number, frame)
        pressed.set()
        with suppress(RuntimeError):  # the interrupted code was printing: streams are not reentrant
            notice()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
