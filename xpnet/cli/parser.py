"""What every command does with its errors and its output: one line for the user, and an exit code."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from xpnet._lib.text import complain
from xpnet.errors import ConfigError, XPNetError

INTERRUPTED = 130
UNEXPECTED = 1


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line.

        Raises
        ------
        ConfigError
            Always.
        """
        msg = f"{message} ({self.prog} --help)"
        raise ConfigError(msg)


class Output:
    """Standard output that ends no command: once it cannot be written, what is printed is dropped.

    Parameters
    ----------
    stream
        Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed = False
        """Whether it could not be written for another reason than that its reader has left."""

    def write(self, text: str) -> int:
        """Write text and return its length."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, which bring their ends with them."""
        for line in lines:
            self.write(line)

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
def _tolerant_output() -> Iterator[Output]:
    """Print through an `Output` while the body runs; streams that were closed become the null device."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would become standard output
            os.open(os.devnull, os.O_RDWR)
    # Python has None for a stream that was closed when it started.
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    before = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    output = Output(before)
    sys.stdout = output
    try:
        yield output
    finally:
        output.flush()
        sys.stdout = before


@dataclass
class Outcome:
    """The exit code of a command."""

    code: int = 0


@contextmanager
def exit_code(*, debug: bool) -> Iterator[Outcome]:
    """Run the body of a command; an error in it becomes one line and its exit code in the outcome.

    130 after Ctrl-C, 1 after a fault of xpnet or when standard output could not be written (a reader that
    leaves is no fault), and otherwise the error's own. With ``debug`` the traceback is printed too.
    """
    outcome = Outcome()
    with _tolerant_output() as output:
        try:
            yield outcome
        except KeyboardInterrupt:
            outcome.code = INTERRUPTED
        except XPNetError as error:
            _complain(error, debug=debug)
            outcome.code = error.exit_code
        except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
            _complain(error, debug=debug)
            outcome.code = UNEXPECTED
    if output.failed and not outcome.code:
        outcome.code = UNEXPECTED


def guarded(body: Callable[[], int], *, debug: bool) -> int:
    """Run a command's body and return its exit code; see `exit_code`."""
    with exit_code(debug=debug) as outcome:
        outcome.code = body()
    return outcome.code


def _complain(error: Exception, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    text = " ".join(str(error).split()) or "no details"
    if not isinstance(error, XPNetError):
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    complain(text)
