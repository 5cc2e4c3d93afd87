"""Exit codes, one-line error messages, and failures of standard output.

Signals are handled once this module is loaded: those that it seldom needs are imported in functions.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from xpnet import __version__
from xpnet._lib.interrupts import last_signal, terminate_as_interrupt
from xpnet._lib.text import complain, encodable, join_lines, print_errors
from xpnet._typing import Result, Values
from xpnet.distributed.launch import end_job, is_connected, rank_and_size
from xpnet.errors import XPNetError

INTERRUPTED = 130
BAD_INPUT = XPNetError.exit_code
UNEXPECTED = 1
MOST_DELAYED = 20
"""The number of ranks of which each prints an error a quarter of a second after the one before it."""


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

    code = 0
    failed = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

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

    A rank of an MPI job that leaves it alone, by an error that the others do not share, ends them all.

    An error in the body is printed as one line. The exit code is 130 after Ctrl-C, 143 after SIGTERM, 129
    after SIGHUP, 1 after an unexpected error or when standard output could not be written (a closed pipe is
    no error), and otherwise the error's own. With ``debug`` the traceback is printed too.
    """
    is_alone, is_agreed = rank_and_size()[1] == 1, False
    if not is_alone:  # which are in the background of their launcher
        signal.signal(signal.SIGINT, signal.default_int_handler)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # no other file may take the descriptor of a stream that was closed when Python started
    os.close(descriptor)
    null = partial(open, os.devnull, "w", encoding="utf-8")
    sys.stderr, stdout = sys.stderr or null(), sys.stdout or null()
    sys.stdout = output = GuardedOutput(stdout)
    with terminate_as_interrupt():
        try:
            try:
                yield output
                is_agreed = True
            except KeyboardInterrupt as error:
                is_agreed, output.code = getattr(error, "shared", False), INTERRUPTED
                eval("0")  # noqa: S307 - else python -m ends by SIGINT, if the interrupt was within an eval
            except SystemExit as end:  # of argparse after --help, which connects no ranks
                is_agreed, output.code = not is_connected(), int(end.code or 0)
            except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
                is_agreed, is_quit = getattr(error, "shared", False), type(error).__name__ == "BdbQuit"
                output.code = INTERRUPTED if is_quit else report_error(error, debug=debug)
            finally:
                output.flush()
                sys.stdout = stdout
                if output.failed:
                    output.code = output.code or UNEXPECTED
                elif output.code == INTERRUPTED:
                    output.code = 128 + last_signal()
        finally:  # also after a further signal
            if not (is_alone or is_agreed) and (output.code or is_connected()):
                end_job(output.code or UNEXPECTED)


def report_error(error: Exception, *, debug: bool, source: str = "") -> int:
    """Print an error as one line, with ``debug`` after the traceback. Return its exit code.

    The line begins with `source`, unless the error is one of bad input. An error that the ranks of an MPI job
    share is printed by the first, and that of one of them with its rank.
    """
    (rank, size), is_shared = rank_and_size(), getattr(error, "shared", False)
    if rank and isinstance(error, XPNetError) and is_shared:
        time.sleep(not is_connected())  # a launcher may end all when one ends
        return error.exit_code
    time.sleep(min(rank, MOST_DELAYED) / 4)  # the end of one that prints the reason may end all
    if debug:
        from traceback import format_exception

        print_errors("".join(format_exception(error)))
    from xpnet.backends.probing import is_out_of_memory  # loads ctypes

    if is_out_of_memory(error) and not isinstance(error, XPNetError):
        remedy = "a smaller network, batch or data set needs less"
        error = XPNetError(f"the memory does not suffice ({str(error) or 'no details'}): {remedy}")
    elif isinstance(error, OSError) and error.filename is not None:
        problem = f"cannot be used ({error.strerror}): check its permissions, or name another"
        error = XPNetError(f"{os.fsdecode(error.filename)}: {problem}")
    code = error.exit_code if isinstance(error, XPNetError) else UNEXPECTED
    text = join_lines(error) or "no details"
    if code == UNEXPECTED:
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    if size > 1 and not is_shared:
        from platform import node

        text = f"rank {rank}, on {node()}: {text}"
    complain(text if code == BAD_INPUT else f"{source}{text}")
    return code


@contextmanager
def read_command(
    name: str, words: Sequence[str], read: Callable[[], Result], list_facts: Callable[[Result], Values]
) -> Iterator[Result]:
    """Give the body what ``read`` makes of the command line, once all ranks of an MPI job have read the same.

    They are connected, but for ``--help``, and leave the body together.

    Raises
    ------
    ConfigError
        The ranks have other commands, versions or facts, or one of them cannot read its command line.
    """
    rank, size = rank_and_size()
    if size > 1 and not {"-h", "--help"}.isdisjoint(words):
        size = 1 if rank == 0 else sys.exit()
    if size == 1:
        yield read()
        return
    from pathlib import Path

    from xpnet._lib.source import digest_source
    from xpnet.arithmetic import SPECIFICATION_VERSION
    from xpnet.distributed.ranks import connect  # loads NumPy, which --help does not need

    ranks = connect()
    with ranks.together(debug="--debug" in words):
        named = os.environ.get("PWD", "")  # of a mount, each machine may know another path
        folder = named if named and Path(named).resolve() == Path.cwd() else str(Path.cwd())
        facts = {"command": name, "xpnet": __version__, "specification": SPECIFICATION_VERSION}
        ranks.compare({**facts, "xpnet's source": digest_source(), "working folder": folder})
        with ranks.agreement():
            command = read()
        ranks.compare(list_facts(command))
        yield command
