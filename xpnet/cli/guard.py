"""Exit codes, one-line error messages, and failures of standard output."""

import os
import platform
import signal
import sys
import time
import traceback
from bdb import BdbQuit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TextIO, TypeVar

from xpnet._lib.interrupts import last_signal, terminate_as_interrupt
from xpnet._lib.text import complain, encodable, print_errors
from xpnet.distributed.launch import end_job, rank_and_size
from xpnet.errors import XPNetError

T = TypeVar("T")

INTERRUPTED = 130
BAD_INPUT = XPNetError.exit_code
UNEXPECTED = 1


class GuardedOutput:
    """Standard output that never raises: after a failed write, further output is discarded.

    Characters that its encoding lacks are escaped.

    Parameters
    ----------
    stream
        The stream to write to.

    Attributes
    ----------
    code
        The exit code of the command.
    failed
        True if writing failed for any other reason than a closed pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.code, self.failed = 0, False

    def write(self, text: str) -> int:
        """Write text. Return its length."""
        self._attempt(lambda: self._stream.write(encodable(text, self._stream)))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _attempt(self, output: Callable[[], object]) -> None:
        """Discard the buffer and further output if a function fails. Report errors but for a closed pipe."""
        try:
            output()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not isinstance(error, BrokenPipeError):
                self.failed = True
                reason = error.strerror or type(error).__name__
                complain(f"standard output cannot be written ({reason}): nothing more is printed")


@contextmanager
def handle_errors(*, debug: bool) -> Iterator[GuardedOutput]:
    """Run the body of a command. Yield the object whose attribute `code` is the exit code afterwards.

    An error in the body is printed as one line. The exit code is 130 after Ctrl-C, 143 after SIGTERM, 129
    after SIGHUP, 1 after an unexpected error or when standard output could not be written (a closed pipe is
    no error), and otherwise the error's own. With ``debug`` the traceback is printed too.
    """
    is_alone = rank_and_size()[1] == 1
    if not is_alone:
        # Until `connect`, signals end a rank of an MPI job at once: in MPI_Init they wait for the others.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    stdout = _open_streams()
    sys.stdout = output = GuardedOutput(stdout)
    with terminate_as_interrupt() if is_alone else nullcontext():
        try:
            yield output
        except (KeyboardInterrupt, BdbQuit):  # Ctrl-C, and the end of a debugger
            output.code = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
            output.code = report_error(error, debug=debug)
        finally:
            output.flush()
            sys.stdout = stdout
            if output.failed:
                output.code = output.code or UNEXPECTED
            elif output.code == INTERRUPTED:
                output.code = 128 + last_signal()
            if output.code and not is_alone and not is_connected():
                end_job(output.code)


def report_error(error: Exception, *, debug: bool, source: str = "") -> int:
    """Print an error as one line, with ``debug`` after the traceback. Return its exit code.

    The line begins with `source`, unless the error is one of bad input.
    """
    if debug:
        print_errors("".join(traceback.format_exception(error)))
    if isinstance(error, MemoryError):
        remedy = "a smaller network, batch or data set needs less"
        error = XPNetError(f"the memory does not suffice ({str(error) or 'no details'}): {remedy}")
    elif isinstance(error, OSError) and error.filename is not None:
        problem = f"cannot be used ({error.strerror}): check its permissions, or name another"
        error = XPNetError.at(os.fsdecode(error.filename), problem)
    code = error.exit_code if isinstance(error, XPNetError) else UNEXPECTED
    text = " ".join(str(error).split()) or "no details"
    if not isinstance(error, XPNetError):
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    rank, size = rank_and_size()
    if size > 1 and not is_connected():
        time.sleep(rank > 0)  # the end of the first one, which prints the reason, may end all
        text = f"rank {rank}, on {platform.node()}: {text}"
    elif rank > 0:  # the ranks of an MPI job have the same error
        return code
    complain(text if code == BAD_INPUT else f"{source}{text}")
    return code


def read_command(
    name: str, words: Sequence[str], read: Callable[[], T], list_facts: Callable[[T], Mapping[str, object]]
) -> T:
    """Return what ``read`` makes of the command line; see ``xpnet.distributed.ranks.read_together``."""
    if rank_and_size()[1] == 1:
        return read()
    from xpnet.distributed.ranks import read_together  # loads NumPy, which --help does not need

    return read_together(name, words, read, list_facts)


def is_connected() -> bool:
    """Return True if this process is connected to the other ranks of its MPI job."""
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and module.Is_initialized()


def _open_streams() -> TextIO:
    """Replace streams that were closed when Python started by the null device. Return standard output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # no other file may take the descriptor of a closed stream
    os.close(descriptor)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
