"""Settings from the command line.

Train a neural network: by default the notebook's 784-10-10 network on MNIST.

Exit codes: 0 done, 2 bad input or device, 3 diverged, 130 interrupted (143 by SIGTERM).

Options
-------
--recipe
    Start from the settings of a recipe instead of the defaults; --print-config shows what they are. One of
    {}. (default: notebook)
--config
    Read settings from this TOML file. Keys are recipe and the flags with _ for -, as in batch_size = 32.
    Flags win over the file, the file over the recipe; paths are relative to the current folder.
--print-config
    Print the resulting settings as a TOML file and stop.
--dry-run
    Print the resulting settings, the number of parameters, and estimates of memory and time, and stop.
"""

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from xpnet._lib.text import did_you_mean
from xpnet._typing import Json, Values
from xpnet.config.rules import SWITCH, suggest
from xpnet.config.training import (
    DEFAULTS,
    RULES,
    TrainConfig,
    list_recipes,
    merge_settings,
    read_recipe,
    read_toml,
    to_json,
)
from xpnet.errors import ConfigError, flag

EXIT_CODES = "Exit codes: 0 done, 2 bad input, 130 interrupted."

SHORT_FLAGS = {"learning_rate": ["--lr"], "tags": ["--tag"]}


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
    prog
        The command.
    doc
        The docstring of a command's module: its second paragraph is the description, what follows the epilog,
        and the section Options the help of each argument that is added without another.
    debug
        True to add the flag ``--debug``.
    options
        As in argparse.
    """

    def __init__(
        self, prog: str | None = None, doc: str | None = None, *, debug: bool = True, **options: Any
    ) -> None:
        text, _, helps = (doc or "").partition("\n\nOptions\n-------\n")
        description, _, epilog = text.partition("\n\n")[2].partition("\n\n")
        self._helps = _read_entries(helps)
        texts = {"description": description, "epilog": epilog or EXIT_CODES}
        super().__init__(prog, formatter_class=_Formatter, **(texts | options))
        self.register("type", Path, _read_path)
        if debug:
            self.add_argument("--debug", action="store_true", help="show the whole traceback of an error")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument as argparse does, with the help in the docstring of the command."""
        return super().add_argument(*names, **{"help": self._helps.get(names[0]), **options})

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message of argparse and a suggestion.

        Raises
        ------
        ConfigError
            Always.
        """
        hint = ""
        if unknown := re.search(r"unrecognized arguments: (--[^ =]+)", message):
            hint = suggest(unknown[1], self._option_string_actions)
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            hint = did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        raise ConfigError(f"{message}{hint} ({self.prog} --help)")


def _read_path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError('expected a path, got ""')
    return Path(text)


def csv_path(text: str) -> Path:
    """Return the path of an output file that ends in .csv, as the type of an argument; refuse other names."""
    if not text.lower().endswith(".csv"):
        raise argparse.ArgumentTypeError(f"expected a file name that ends in .csv, got {text}")
    return Path(text)


@dataclass(frozen=True)
class Command:
    """The parsed command line.

    Attributes
    ----------
    config
        The settings.
    print_config
        True to print the settings as TOML instead of training.
    dry_run
        True to print what would be trained, and an estimate of memory and time, instead of training.
    explicit
        Names of the settings that flags, the TOML file or the recipe set; the rest have their defaults.
    """

    config: TrainConfig
    print_config: bool
    explicit: frozenset[str] = frozenset()
    dry_run: bool = False

    def list_facts(self) -> Json:
        """Return what all ranks of an MPI job must have: all but the device's number and workers."""
        values = {**to_json(self.config), "device": self.config.device.partition(":")[0], "workers": "any"}
        facts = {flag(name): "none" if value is None else value for name, value in values.items()}
        flags = {"--dry-run": self.dry_run, "--print-config": self.print_config}
        return {**facts, **flags, "settings given": sorted(self.explicit - {"device", "workers"})}


def parse(argv: Sequence[str], prog: str) -> Command:
    """Parse the flags `argv`.

    A setting comes from its flag, else from the file that `--config` names, else from the recipe, else it
    has its default. `prog` is the command's name in the help.

    Raises
    ------
    ConfigError
        A flag or a setting is wrong: the message names the flag, or the file and its key.
    DataError
        The file cannot be read.
    SystemExit
        With code 0 after `--help`.
    """
    arguments = _build_parser(prog).parse_args(map(replace_underscores, argv))
    flags = get_settings(arguments)
    file, recipe = read_toml(arguments.config) if arguments.config else ({}, None)
    for name, value in flags.items():
        RULES[name].check(flag(name), value)
    sources = [read_recipe(arguments.recipe or recipe or "notebook"), file, flags]
    values, explicit = merge_settings(sources)
    return Command(TrainConfig(**vars(values)), arguments.print_config, explicit, arguments.dry_run)


def add_settings(
    parser: "argparse._ActionsContainer", names: Iterable[str], defaults: Values = DEFAULTS
) -> None:
    """Add the flags of settings, with the defaults in their help.

    Values that do not parse stay text, which no rule allows: the error is then the rule's one line.
    """
    texts = _read_entries("\n\n".join(filter(None, map(inspect.getdoc, TrainConfig.__bases__))))
    for name in names:
        rule = RULES[name]
        default = defaults[name]
        text = texts.get(name, "")
        if default not in (None, ()) and default is not False:
            words = default if isinstance(default, tuple) else (default,)
            text = f"{text.partition(' (default: ')[0]} (default: {' '.join(map(str, words))})"
        names = [flag(name), *SHORT_FLAGS.get(name, ())]
        add = partial(parser.add_argument, *names, default=argparse.SUPPRESS, help=text.replace("%", "%%"))
        if rule is SWITCH:
            add(action=argparse.BooleanOptionalAction)
        else:
            action = "extend" if name in ("tags", "track") else "store"
            metavar = rule.metavar or rule.kind.__name__.upper()
            add(action=action, type=rule.parse, nargs=rule.nargs, metavar=metavar)
        if name == "columns":
            kinds = parser.add_mutually_exclusive_group()
            for kind in ("pixels", "features"):
                add = partial(kinds.add_argument, f"--{kind}", dest=name, default=argparse.SUPPRESS)
                add(action="store_const", const=kind, help=f"Short for --columns {kind}.")


def get_settings(arguments: argparse.Namespace) -> Json:
    """Return the settings whose flags are on the command line, by name."""
    return {name: RULES[name].read(value) for name, value in vars(arguments).items() if name in RULES}


def _build_parser(prog: str) -> Parser:
    doc = (__doc__ or "").format(", ".join(list_recipes()))
    parser = Parser(prog, doc, usage="%(prog)s [-h] [OPTIONS]", debug=False, allow_abbrev=False)
    parser.add_argument("--recipe", metavar="NAME")
    parser.add_argument("--config", type=Path, metavar="PATH")
    parser.add_argument("--print-config", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    for group in reversed(TrainConfig.__bases__):
        title = f"{group.__name__.removesuffix('Settings').lower()} options"
        description = str(group.__doc__).partition("\n")[0]
        add_settings(parser.add_argument_group(title, description), [field.name for field in fields(group)])
    return parser


def replace_underscores(word: str) -> str:
    """Return --batch_size=32 as --batch-size=32."""
    return re.sub("^--[^=]+", lambda name: name[0].replace("_", "-"), word)


def _read_entries(docstring: str) -> Json:
    """Return the help of each setting or argument in a docstring, which python -OO has not."""
    return dict(re.findall(r"^([\w-]+)\n((?:    .+\n?)+)", docstring, re.MULTILINE))
