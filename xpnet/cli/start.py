"""The start of a command: a signal waits until its modules are loaded."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xpnet._lib.interrupts import defer_interrupts, last_signal, terminate_as_interrupt

if TYPE_CHECKING:
    from xpnet.cli.guard import GuardedOutput


@contextmanager
def guarded(words: Sequence[str]) -> Iterator["GuardedOutput"]:
    """Run the body, a command with the words of its line, as `handle_errors` does."""
    with terminate_as_interrupt():
        with defer_interrupts(lambda: None) as is_pressed:
            from xpnet.cli.guard import handle_errors
            from xpnet.distributed.launch import end_job, rank_and_size

        if is_pressed():
            if rank_and_size()[1] > 1:
                end_job(128 + last_signal())
            sys.exit(128 + last_signal())
        with handle_errors(debug="--debug" in words) as output:
            yield output
