"""What a setting may be, and how it reads from a TOML file."""

import difflib
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Rule:
    """What a setting may be; stands in the annotation of its field."""

    expected: str
    """In words, after "expected"."""

    holds: Callable[[Any], bool]
    """Whether a value, of any type, may be."""

    read: Callable[[Any], object] = lambda found: tuple(found) if isinstance(found, list) else found
    """Returns a TOML or JSON value as the setting's own type; unchanged what has no such type."""

    choices: tuple[str, ...] = ()
    """The words that may be, where there are no others."""

    def problem(self, value: object, found: object) -> str | None:
        """Return what is wrong with `value`, which was given as `found`; None if it may be."""
        if self.holds(value):
            return None
        word = found.lower() if isinstance(found, str) else ""
        near = difflib.get_close_matches(word, self.choices, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        return f"expected {self.expected}, got {shown(found)}{hint}"


def rules_of(settings: type) -> dict[str, Rule]:
    """Return the rule of each field of a dataclass, by name.

    It is the ``Rule`` in the field's annotation, of values other than None; that of a Literal or a bool
    follows from the type.
    """
    hints = get_type_hints(settings, include_extras=True)
    return {name: _rule_of(hint) for name, hint in hints.items()}


def _rule_of(hint: Any) -> Rule:
    bare, *metadata = get_args(hint) if get_origin(hint) is Annotated else [hint]
    rule = next((item for item in metadata if isinstance(item, Rule)), None)
    if rule is None:
        return one_of(get_args(bare)) if get_origin(bare) is Literal else SWITCH
    if NoneType in get_args(bare):
        return replace(rule, holds=lambda value: value is None or rule.holds(value))
    return rule


# Words and switches


def one_of(choices: tuple[str, ...]) -> Rule:
    """Allow these words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices=choices)


SWITCH = Rule("true or false", lambda value: isinstance(value, bool))

# Numbers


def _is_whole(value: object, lowest: int, below: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value < below


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _as_float(found: object) -> object:
    """Return a TOML number as a float: an integer stands for a decimal, as in dropout = 0."""
    return float(found) if isinstance(found, int) and _is_finite(found) else found


def _number(expected: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(expected, lambda value: _is_finite(value) and holds(value), read=_as_float)


def whole(lowest: int) -> Rule:
    """Allow whole numbers from `lowest` on."""
    return Rule(f"a whole number, {lowest} or more", lambda value: _is_whole(value, lowest))


def whole_or(word: str) -> Rule:
    """Allow whole numbers from 1 on, and one word."""
    return Rule(f"{word} or a whole number, 1 or more", lambda value: value == word or _is_whole(value, 1))


def between(lowest: float, highest: float, unit: str) -> Rule:
    """Allow numbers from `lowest` to `highest`, of a unit."""
    expected = f"a number from {lowest:g} to {highest:g} ({unit})"
    return _number(expected, lambda value: lowest <= value <= highest)


NOT_NEGATIVE = _number("a finite number, 0 or more", lambda value: value >= 0)
POSITIVE = _number("a finite number above 0", lambda value: value > 0)
PROPER_SHARE = _number("a number from 0 to below 1", lambda value: 0 <= value < 1)
FACTOR = _number("a number above 0, at most 1", lambda value: 0 < value <= 1)
SEED = Rule(f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})", lambda value: _is_whole(value, 0, 2**64))


def _as_rates(found: object) -> object:
    return tuple(map(_as_float, found)) if isinstance(found, list) else _as_float(found)


def _are_rates(value: object) -> bool:
    rates = value if isinstance(value, tuple) else (value,)
    return bool(rates) and all(map(POSITIVE.holds, rates)) and len(set(rates)) == len(rates)


RATES = Rule("a finite number above 0, or several different ones", _are_rates, read=_as_rates)
UNITS = Rule(
    "whole numbers, each 1 or more",
    lambda value: isinstance(value, tuple) and all(_is_whole(units, 1) for units in value),
)


def some_of(choices: tuple[str, ...]) -> Rule:
    """Allow any of these words, each once."""

    def holds(value: object) -> bool:
        return isinstance(value, tuple) and all(choices.count(word) >= value.count(word) for word in value)

    return Rule(f"some of {', '.join(choices)}, each once", holds)


# Text


def _is_path(value: object) -> bool:
    return isinstance(value, Path) and "\0" not in str(value)


def _as_path(found: object) -> object:
    return Path(found) if isinstance(found, str) and found else found


def _is_folder_name(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or value.startswith("."):
        return False
    return not any(
        character in "/\\" or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        for character in value
    )


PATH = Rule("a path", _is_path, read=_as_path)
FOLDER_NAME = Rule("a folder name without / or \\, control characters or a leading dot", _is_folder_name)
DEVICE = Rule(
    "auto, cpu, cuda or cuda:N",
    # The backends know their own further devices, so here it is only text without blanks.
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w:.-]+", value) is not None,
)

# For messages


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def plain(value: object) -> object:
    """Return the value of a setting as a JSON value."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def shown(value: object) -> str:
    """Return `value` for a message: on one line, and short."""
    text = json.dumps(plain(value), default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
