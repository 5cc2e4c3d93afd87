"""What a setting may be, and how it reads from the command line and from a TOML file."""

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from xpnet._lib.text import did_you_mean
from xpnet.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What a setting may be; stands in the annotation of its field.

    Attributes
    ----------
    expected
        In words, after "expected".
    holds
        Whether a value, of any type, may be.
    kind
        The type of a value: int, float, str or Path.
    nargs
        How many words its flag takes, as in argparse; None for one.
    metavar
        What stands for the value in the help, unless that is its type.
    choices
        The words that may be, if there are no others.
    """

    expected: str
    holds: Callable[[Any], bool]
    kind: type = str
    nargs: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()

    def parse(self, word: str) -> object:
        """Return a word of the command line as a value; unchanged what cannot be one."""
        try:
            return self.kind(word)
        except ValueError:
            return word

    def read(self, raw: object) -> object:
        """Return a TOML or JSON value as the setting's own type; unchanged what has no such type."""
        if isinstance(raw, list):
            return tuple(map(self.read, raw))
        if self.kind is float and isinstance(raw, int) and _is_finite(raw):
            return float(raw)  # an integer stands for a decimal, as in dropout = 0
        return Path(raw) if self.kind is Path and isinstance(raw, str) and raw else raw

    def check(self, where: str, value: object, raw: object = None) -> None:
        """Check a value; messages show `raw`, from which it was read.

        Raises
        ------
        ConfigError
            The value breaks the rule.
        """
        if self.holds(value):
            return
        raw = value if raw is None else raw
        hint = did_you_mean(raw.lower(), self.choices) if isinstance(raw, str) else ""
        msg = f"{where}: expected {self.expected}, got {format_value(raw)}{hint}"
        raise ConfigError(msg)


def rules_of(settings: type) -> dict[str, Rule]:
    """Return the rule of each field of a dataclass, by name.

    It is the ``Rule`` in the field's annotation, of values other than None; that of a Literal or a bool
    follows from the type.
    """
    return {name: _rule_of(hint) for name, hint in get_type_hints(settings, include_extras=True).items()}


def _rule_of(hint: Any) -> Rule:
    if get_origin(hint) is Literal:
        return one_of(get_args(hint))
    if hint is bool:
        return SWITCH
    rule: Rule = hint.__metadata__[0]
    if NoneType not in get_args(hint.__origin__):
        return rule
    return replace(rule, holds=lambda value: value is None or rule.holds(value))


# Words and switches


def one_of(choices: tuple[str, ...]) -> Rule:
    """Allow these words."""
    expected, metavar = f"one of {', '.join(choices)}", f"{{{','.join(choices)}}}"
    return Rule(expected, lambda value: value in choices, metavar=metavar, choices=choices)


def some_of(choices: tuple[str, ...]) -> Rule:
    """Allow any of these words, each once."""

    def holds(value: object) -> bool:
        return isinstance(value, tuple) and all(choices.count(word) >= value.count(word) for word in value)

    metavar = one_of(choices).metavar
    return Rule(f"some of {', '.join(choices)}, each once", holds, nargs="*", metavar=metavar)


SWITCH = Rule("true or false", lambda value: isinstance(value, bool))

# Numbers


def _is_whole(value: object, lowest: int, below: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value < below


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _number(expected: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(expected, lambda value: _is_finite(value) and holds(value), float)


def whole(lowest: int) -> Rule:
    """Allow whole numbers from `lowest` on."""
    return Rule(f"a whole number, {lowest} or more", lambda value: _is_whole(value, lowest), int)


def whole_or(word: str) -> Rule:
    """Allow whole numbers from 1 on, and one word."""
    expected = f"{word} or a whole number, 1 or more"
    return Rule(expected, lambda value: value == word or _is_whole(value, 1), int, metavar=f"{{{word}}}|INT")


def between(lowest: float, highest: float, unit: str) -> Rule:
    """Allow numbers from `lowest` to `highest`, of a unit."""
    expected = f"a number from {lowest:g} to {highest:g} ({unit})"
    return _number(expected, lambda value: lowest <= value <= highest)


NOT_NEGATIVE = _number("a finite number, 0 or more", lambda value: value >= 0)
POSITIVE = _number("a finite number above 0", lambda value: value > 0)
PROPER_SHARE = _number("a number from 0 to below 1", lambda value: 0 <= value < 1)
FACTOR = _number("a number above 0, at most 1", lambda value: 0 < value <= 1)
SEED = Rule(f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})", lambda value: _is_whole(value, 0, 2**64), int)


def _are_rates(value: object) -> bool:
    rates = value if isinstance(value, tuple) else (value,)
    return bool(rates) and all(map(POSITIVE.holds, rates)) and len(set(rates)) == len(rates)


def _are_units(value: object) -> bool:
    return isinstance(value, tuple) and all(_is_whole(units, 1) for units in value)


RATES = Rule("a finite number above 0, or several different ones", _are_rates, float, nargs="+")
UNITS = Rule("whole numbers, each 1 or more", _are_units, int, nargs="*")

# Text


def _is_folder_name(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or value.startswith("."):
        return False
    return not any(
        character in "/\\" or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        for character in value
    )


def _is_device(value: object) -> bool:
    """Return whether a value is text without blanks: the backends know their own further devices."""
    return isinstance(value, str) and re.fullmatch(r"[\w:.-]+", value) is not None


PATH = Rule("a path", lambda value: isinstance(value, Path) and "\0" not in str(value), Path)
FOLDER_NAME = Rule("a folder name without / or \\, control characters or a leading dot", _is_folder_name)
DEVICE = Rule("auto, cpu, cuda or cuda:N", _is_device, metavar="{auto,cpu,cuda,cuda:N}")

# For messages


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def format_value(value: object) -> str:
    """Return `value` for a message: on one line, and short."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
