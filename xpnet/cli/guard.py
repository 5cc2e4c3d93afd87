"""Exit codes, errors as one line, and standard output that may fail."""

import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from xpnet._lib.text import complain
from xpnet.errors import XPNetError

INTERRUPTED = 130
UNEXPECTED = 1


class Output:
    """Standard output that ends no command: once it cannot be written, what is printed is dropped.

    Parameters
    ----------
    stream
        Where to write.

    Attributes
    ----------
    code
        The exit code of the command.
    failed
        Whether it could not be written for another reason than that its reader has left.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.code, self.failed = 0, False

    def write(self, text: str) -> int:
        """Write text and return its length."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """Send what is printed from now on, and what waits in the buffer, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        except (OSError, io.UnsupportedOperation):
            self._stream = io.StringIO()
        finally:
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            self.failed = True
            reason = error.strerror or type(error).__name__
            complain(f"standard output cannot be written ({reason}): nothing more is printed")


@contextmanager
def exit_code(*, debug: bool) -> Iterator[Output]:
    """Run the body of a command; yield an object whose attribute `code` is the exit code in the end.

    An error in the body becomes one line: 130 after Ctrl-C, 1 after a fault of xpnet or when standard output
    could not be written (a reader that leaves is no fault), and otherwise the error's own. With ``debug`` the
    traceback is printed too.
    """
    before = _open_streams()
    sys.stdout = output = Output(before)
    try:
        yield output
    except KeyboardInterrupt:
        output.code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split()) or "no details"
        output.code = error.exit_code if isinstance(error, XPNetError) else UNEXPECTED
        if not isinstance(error, XPNetError):
            text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
        complain(text)
    finally:
        output.flush()
        sys.stdout = before
        if output.failed:
            output.code = output.code or UNEXPECTED


def _open_streams() -> TextIO:
    """Return standard output; streams that were closed become the null device."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would become standard output
            os.open(os.devnull, os.O_RDWR)
    # Python has None for a stream that was closed when it started.
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
