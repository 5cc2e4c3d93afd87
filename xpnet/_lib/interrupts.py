"""Ctrl-C, put off to a moment when it does no harm."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def defer_interrupts(notice: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Give the body a function that tells whether Ctrl-C was pressed, instead of interrupting it.

    ``notice`` is called at the first Ctrl-C. A second one raises KeyboardInterrupt at once. Nothing is
    put off outside the main thread, where no signals arrive, or where somebody else takes Ctrl-C.
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
        with suppress(RuntimeError):  # what was interrupted is printing, and a stream takes no second call
            notice()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
