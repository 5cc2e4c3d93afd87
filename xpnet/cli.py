"""What every command does with its errors: one line for the user, and an exit code."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from xpnet.errors import ConfigError, XPNetError

INTERRUPTED = 130
UNEXPECTED = 1


def complain(text: str) -> None:
    """Print one line on standard error."""
    print(f"xpnet: {text}", file=sys.stderr, flush=True)


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


def guarded(body: Callable[[], int], *, debug: bool) -> int:
    """Run a command's body and return its exit code, or that of the error that ended it.

    130 after Ctrl-C, 1 after a fault of xpnet or when nobody reads the output any more, and otherwise
    the error's own. With ``debug`` the traceback is printed too.
    """
    try:
        return body()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split()) or "no details"
        if isinstance(error, XPNetError):
            complain(text)
            return error.exit_code
        complain(f"unexpected {type(error).__name__}: {text} (--debug shows where)")
        return UNEXPECTED
