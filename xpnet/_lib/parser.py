"""A parser of command lines whose errors are one line."""

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from xpnet._lib.text import did_you_mean
from xpnet.errors import ConfigError

EXIT_CODES = "Exit codes: 0 done, 2 bad input, 130 interrupted."


class _Formatter(argparse.HelpFormatter):
    """Keeps paragraphs apart, breaks no line inside a flag, and says once what stands behind two flags."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = (self._split_lines(paragraph, width - len(indent)) for paragraph in text.split("\n\n"))
        return "\n\n".join(textwrap.indent("\n".join(lines), indent) for lines in paragraphs)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the flag that an unknown one is most like.

    Parameters
    ----------
    debug
        Whether to add the flag ``--debug``.
    epilog, options
        Those of argparse.
    """

    def __init__(self, *, debug: bool = True, epilog: str = EXIT_CODES, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, epilog=epilog, **options)
        if debug:
            self.add_argument("--debug", action="store_true", help="show the whole traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line.

        Raises
        ------
        ConfigError
            Always.
        """
        unknown = message.partition("unrecognized arguments: --")[2].partition(" ")[0].partition("=")[0]
        hint = did_you_mean(f"--{unknown}", self._option_string_actions) if unknown else ""
        msg = f"{message}{hint} ({self.prog} --help)"
        raise ConfigError(msg)


def path_ending_in(suffix: str) -> Callable[[str], Path]:
    """Return the type of an argument that names a file to write: another ending may be a file to keep."""

    def read(text: str) -> Path:
        if not text.lower().endswith(suffix):
            msg = f"expected a file name that ends in {suffix}, got {text}"
            raise argparse.ArgumentTypeError(msg)
        return Path(text)

    return read
