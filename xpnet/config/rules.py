"""Validation rules of settings, and their conversion from the command line and from TOML files."""

import json
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeGuard, get_args, get_origin

from xpnet._lib.text import did_you_mean
from xpnet._typing import Names
from xpnet.errors import ConfigError, flag

INT_LIMIT = 2**63
"""The integers of settings are below it, but for the seed."""


@dataclass(frozen=True)
class Rule:
    """The validation rule of a setting, part of the annotation of its field.

    Attributes
    ----------
    expected
        The allowed values in words, for error messages.
    allows
        Predicate that takes a value of any type and returns True if the setting may have it.
    kind
        The type of a value: int, float, str or Path; or another function that makes one of a word.
    nargs
        The number of words that its flag takes, as in argparse; None for one.
    metavar
        The placeholder of the value in the help, by default the name of its type.
    choices
        The allowed words; empty if other values are allowed.
    """

    expected: str
    allows: Callable[[object], bool]
    kind: Callable[[str], object] = str
    nargs: str | None = None
    metavar: str | None = None
    choices: Names = ()

    def parse(self, word: str) -> object:
        """Convert a word of the command line to `kind`; return it unchanged if it is empty or that fails."""
        try:
            return self.kind(word) if word else word
        except ValueError:
            return word

    def read(self, raw: object) -> object:
        """Convert a TOML or JSON value to the setting's type; return it unchanged if it has no such type."""
        if isinstance(raw, list):
            return tuple(map(self.read, raw))
        if self.kind is float and isinstance(raw, int) and _is_finite(raw):
            return float(raw)  # an integer stands for a decimal, as in dropout = 0
        return Path(raw) if self.kind is Path and isinstance(raw, str) and raw else raw

    def check(self, where: str, value: object) -> None:
        """Check a value.

        Raises
        ------
        ConfigError
            The value is not allowed.
        """
        if not self.allows(value):
            hint = self._suggest(value)
            if any(_is_int(item, INT_LIMIT, float("inf")) for item in _as_tuple(value)):
                hint = ", which is above 2^63 - 1"
            raise ConfigError(f"{where}: expected {self.expected}, got {format_value(value)}{hint}")

    def _suggest(self, value: object) -> str:
        """Return ": did you mean VALUE?" for a word of another library or a decimal comma, else ""."""
        word = _as_tuple(value)[0] if value != () else None
        if not isinstance(word, str):
            return ""
        for separator in (" " if self.kind is str else ". ") if "," in word else "":
            text = word.replace(",", separator)
            values = tuple(map(self.parse, text.split()))
            if self.allows(values) or (len(values) == 1 and self.allows(values[0])):
                return f": did you mean {text}?"
        return did_you_mean(VALUES_ELSEWHERE.get(word.lower(), word.lower()), self.choices)


def derive_rule(hint: object) -> Rule:
    """Return the rule of a setting from the annotation of its field.

    It is the ``Rule`` in the annotation, which applies to values other than None. The rule of a Literal or a
    bool follows from the type.
    """
    if get_origin(hint) is Literal:
        return one_of(get_args(hint))
    if hint is bool:
        return SWITCH
    rule: Rule = get_args(hint)[1]
    if NoneType not in get_args(get_args(hint)[0]):
        return rule
    return replace(rule, allows=lambda value: value is None or rule.allows(value))


# Words and switches


def one_of(choices: Names) -> Rule:
    """Return the rule that allows one of these words."""
    expected, metavar = f"one of {', '.join(choices)}", f"{{{','.join(choices)}}}"
    return Rule(expected, lambda value: value in choices, metavar=metavar, choices=choices)


SWITCH = Rule("true or false", lambda value: isinstance(value, bool))

# Several values


def several(expected: str, item: Rule, nargs: str = "*") -> Rule:
    """Return the rule that allows a tuple of different values, each as `item` allows."""

    def are_allowed(values: object) -> bool:
        return isinstance(values, tuple) and all(map(item.allows, values)) and len(set(values)) == len(values)

    return replace(item, expected=expected, allows=are_allowed, nargs=nargs)


def some_of(choices: Names) -> Rule:
    """Return the rule that allows a tuple of these words, each at most once."""
    return several(f"some of {', '.join(choices)}, each once", one_of(choices))


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


# Numbers


def _is_int(value: object, lowest: int, below: float = INT_LIMIT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value < below


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _number_rule(expected: str, allows: Callable[[float], bool]) -> Rule:
    return Rule(expected, lambda value: _is_finite(value) and allows(value), float)


def integer_from(lowest: int) -> Rule:
    """Return the rule that allows integers of at least `lowest`."""
    return Rule(f"a whole number, {lowest} or more", lambda value: _is_int(value, lowest), int)


def integer_or(word: str) -> Rule:
    """Return the rule that allows integers of at least 1, and one word."""
    expected = f"{word} or a whole number, 1 or more"
    return Rule(expected, lambda value: value == word or _is_int(value, 1), int, metavar=f"{{{word}}}|INT")


def between(lowest: float, highest: float, unit: str) -> Rule:
    """Return the rule that allows numbers from `lowest` to `highest`; `unit` appears in the message."""
    expected = f"a number from {lowest:g} to {highest:g} ({unit})"
    return _number_rule(expected, lambda value: lowest <= value <= highest)


NOT_NEGATIVE = _number_rule("a finite number, 0 or more", lambda value: value >= 0)
POSITIVE = _number_rule("a finite number above 0", lambda value: value > 0)
PROPER_SHARE = _number_rule("a number from 0 to below 1", lambda value: 0 <= value < 1)
SHARE = _number_rule("a number between 0 and 1", lambda value: 0 < value < 1)
SAMPLES = Rule(
    "a number of samples, 0 or more (1 is one sample), or a share of them, above 0.0 and below 1.0",
    lambda value: _is_int(value, 0) or (isinstance(value, float) and 0 < value < 1),
    lambda word: float(word) if "." in word else int(word),
    metavar="INT|SHARE",
)
FACTOR = _number_rule("a number above 0, at most 1", lambda value: 0 < value <= 1)
SEED = Rule(f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})", lambda value: _is_int(value, 0, 2**64), int)


_RATES = several("a finite number above 0, or several different ones", POSITIVE, "+")
RATES = replace(_RATES, allows=lambda value: value != () and _RATES.allows(_as_tuple(value)))


def _are_units(value: object) -> bool:
    return isinstance(value, tuple) and all(_is_int(units, 1) for units in value)


UNITS = Rule("whole numbers, each 1 or more", _are_units, int, nargs="*")

# Text


def _text_rule(expected: str, pattern: str, **display: Any) -> Rule:
    """Return the rule that allows strings that match a regular expression."""

    def is_allowed(value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(pattern, value) is not None

    return Rule(expected, is_allowed, **display)


COLUMN = _text_rule("the name or the number of a column", r"(?s).+")
COLUMNS = several("names of columns, each once", COLUMN)
PATH = Rule("a path", lambda value: isinstance(value, Path) and "\0" not in str(value), Path)
_FOLDER = "a folder name without / or \\, invisible characters or a leading dot, of at most 255 bytes"
_DEVICE_OF_WINDOWS = r"(?i:con|prn|aux|nul|(com|lpt)[1-9¹²³])[ ]*([.]|$)"


def _is_folder_name(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > 255:
        return False
    return re.fullmatch(rf"(?![.])(?!{_DEVICE_OF_WINDOWS})(?=.*\S)[^/\\]+", value) is not None


FOLDER_NAME = Rule(f"{_FOLDER}, not CON or NUL", _is_folder_name)
_TAG = _text_rule("a tag", r"\w[\w.:-]{0,63}", metavar="NAME")
TAGS = several("words of at most 64 letters, digits and _ . : -, each once", _TAG)
DEVICE = _text_rule(
    "auto, cpu, cuda, cuda:N, gpu, gpu:N or mps",
    r"[\w:.-]+",
    metavar="{auto,cpu,cuda,cuda:N,gpu,gpu:N,mps}",
    choices=("auto", "cpu", "cuda", "gpu", "mps"),
)
"""A name without blanks; the backends check the name itself."""

# For messages


def format_value(value: object) -> str:
    """Format a value for a message, on one line of at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


_ELSEWHERE = {
    "learning_rate": "lr eta learning_rate_init",
    "epochs": "max_iter max_epochs n_epochs num_epochs",
    "hidden": "hidden_layer_sizes hidden_layers layers units",
    "validation": "validation_split validation_fraction",
    "batch_size": "batch",
    "optimizer": "solver",
    "seed": "random_state",
    "random_state": "seed",
    "patience": "n_iter_no_change",
    "patience (a number of epochs, beside validation)": "early_stopping",
    "init_from (the file of a trained network)": "warm_start",
    "weight_decay (alpha / the batch size)": "alpha",
    "weight_decay (1 / (C times the number of samples))": "C",
}
SYNONYMS = {name: setting for setting, names in _ELSEWHERE.items() for name in names.split()}
"""The setting of each name in other libraries, with the value if that is another."""

VALUES_ELSEWHERE = {"mse": "squared-error", "logistic": "sigmoid", "xavier": "glorot"}
"""Values of settings in other libraries, and what they are called here."""


def suggest(word: str, known: Collection[str]) -> str:
    """Return ": did you mean NAME?" with the name of a setting or flag for that of another library.

    For any other word it is the closest of those known; empty if none is close. A setting that
    ``XPNetClassifier`` has not is one of ``xpnet.fit``.
    """
    setting, space, value = SYNONYMS.get(word.removeprefix("--").replace("-", "_"), "").partition(" ")
    name = flag(setting) if word.startswith("--") else setting
    if setting == "init_from" and name not in known:
        return f": xpnet.fit has {name}{space}{value}"
    return f": did you mean {name}{space}{value}?" if name in known else did_you_mean(word, known)
