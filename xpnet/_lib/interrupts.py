"""SIGTERM and SIGHUP as Ctrl-C, and all three deferred to a safe point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from xpnet._typing import Function

TERMINATION = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP


class Terminate:
    """A handler of signals that raises KeyboardInterrupt, as Python's own of SIGINT does.

    Attributes
    ----------
    number
        The last signal handled, by default SIGINT.
    """

    number: int = signal.SIGINT

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Raise KeyboardInterrupt."""
        self.number = number
        raise KeyboardInterrupt


@contextmanager
def terminate_as_interrupt() -> Iterator[Terminate]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt in the body, and give it their handler.

    A signal that is ignored, as SIGHUP is by nohup, or that has another handler, keeps it. Only the main
    thread receives signals.
    """
    handler, main = Terminate(), threading.current_thread() is threading.main_thread()
    numbers = [number for number in TERMINATION if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def last_signal() -> int:
    """Return the number of the last signal that a `Terminate` of SIGTERM or SIGHUP handled, else SIGINT."""
    handlers = [signal.getsignal(number) for number in TERMINATION]
    return max((each.number for each in handlers if isinstance(each, Terminate)), default=signal.SIGINT)


@contextmanager
def defer_interrupts(notice: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Give the body a function that returns True once Ctrl-C was pressed, instead of interrupting it.

    So it does of SIGTERM and SIGHUP where `Terminate` handles them. ``notice`` is called at the
    first signal; a second one raises KeyboardInterrupt. Nothing is deferred outside the main thread, which
    alone receives signals, or if another handler is installed.
    """
    handlers, pressed = dict[int, Function](), threading.Event()
    for number in (signal.SIGINT, *TERMINATION):
        handler = signal.getsignal(number)
        if handler is signal.default_int_handler or isinstance(handler, Terminate):
            handlers[number] = handler
    if threading.current_thread() is not threading.main_thread():
        handlers.clear()

    def on_signal(number: int, frame: FrameType | None) -> None:
        try:
            handlers[number](number, frame)
        except KeyboardInterrupt:
            if pressed.is_set():
                raise
        pressed.set()
        with suppress(RuntimeError):  # the interrupted code was printing: streams are not reentrant
            notice()

    for number in handlers:
        signal.signal(number, on_signal)
    try:
        yield pressed.is_set
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
