"""Command-line parser with one-line errors."""

import argparse
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from xpnet._lib.text import did_you_mean
from xpnet.errors import ConfigError

EXIT_CODES = "Exit codes: 0 done, 2 bad input, 130 interrupted."


class _Formatter(argparse.HelpFormatter):
    """Help with paragraphs, unbroken flags, and one metavar for all spellings of a flag."""

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
    """An argument parser with one-line errors, which suggest the closest flag to an unknown one.

    An argument of the type Path refuses the empty path, which would be the current folder.

    Parameters
    ----------
    debug
        True to add the flag ``--debug``.
    epilog, options
        As in argparse.

    Attributes
    ----------
    suggest
        Returns the end of the message for an unknown flag, from it and those known.
    """

    def __init__(self, *, debug: bool = True, epilog: str = EXIT_CODES, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, epilog=epilog, **options)
        self.suggest: Callable[[str, Collection[str]], str] = did_you_mean
        self.register("type", Path, _read_path)
        if debug:
            self.add_argument("--debug", action="store_true", help="show the whole traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message of argparse and a suggestion.

        Raises
        ------
        ConfigError
            Always.
        """
        unknown = message.partition("unrecognized arguments: --")[2].partition(" ")[0].partition("=")[0]
        hint = self.suggest(f"--{unknown}", self._option_string_actions) if unknown else ""
        msg = f"{message}{hint} ({self.prog} --help)"
        raise ConfigError(msg)


def _read_path(text: str) -> Path:
    if not text:
        msg = 'expected a path, got ""'
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def path_ending_in(suffix: str) -> Callable[[str], Path]:
    """Return an argument type for output files that end in `suffix`; it refuses other names."""

    def read(text: str) -> Path:
        if not text.lower().endswith(suffix):
            msg = f"expected a file name that ends in {suffix}, got {text}"
            raise argparse.ArgumentTypeError(msg)
        return Path(text)

    return read
