"""The clock and the threads that wait for it, called as ``clock.wait``: a simulation takes their place."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import TIMEOUT_MAX, Event, Thread


def now() -> datetime:
    """Return the time of day, in UTC, which may be set back."""
    return datetime.now(UTC)


def seconds() -> float:
    """Return the seconds since some moment, which never go back."""
    return time.perf_counter()


def wait(event: Event, limit: float = TIMEOUT_MAX) -> None:
    """Wait until an event is set, for so many seconds at most, which may be infinity."""
    event.wait(min(limit, TIMEOUT_MAX))


def start(work: Callable[[], None]) -> Event:
    """Start a thread, which the end of the process ends. Return an event that is set after its own end."""
    ended = Event()

    def run() -> None:
        try:
            work()
        finally:
            ended.set()

    Thread(target=run, daemon=True).start()
    return ended
