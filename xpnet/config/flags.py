"""Settings from the command line."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from xpnet.config import sources
from xpnet.config.constraints import merge
from xpnet.config.rules import flag
from xpnet.config.settings import ALIASES, Switch, unset
from xpnet.config.training import RULES, TrainConfig, check

DESCRIPTION = """\
Train a neural network: by default the notebook's 784-10-10 network on MNIST.

Exit codes: 0 done, 2 bad input or device, 3 diverged, 130 interrupted."""


@dataclass(frozen=True)
class Command:
    """What the command line asks for."""

    config: TrainConfig

    print_config: bool
    """Whether to print the settings as TOML instead of training."""

    recipe: str | None = None
    """The recipe that the settings build on."""

    given: frozenset[str] = frozenset()
    """Names of the settings that flags, the TOML file or the recipe give; the others have defaults."""


def _recipes_hint(value: str) -> str:
    return f"One of {', '.join(sources.recipes())}. (default: {value.replace('None', 'notebook')})"


@dataclass(frozen=True, kw_only=True)
class _NoSettings:
    """The flags that are no settings."""

    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint=_recipes_hint)] = None
    """Start from the settings of a recipe instead of the
    defaults; --print-config shows what they are."""

    config: Annotated[Path | None, unset("")] = None
    """Read settings from this TOML file. Keys are recipe
    and the flags with _ for -, as in batch_size = 32.
    Flags win over the file, the file over the recipe;
    paths are relative to the current folder."""

    print_config: Switch = False
    """Print the resulting settings as a TOML file and stop."""


_GROUPS: dict[str, Any] = {
    group.__name__.removesuffix("Settings").lower(): group for group in reversed(TrainConfig.__bases__)
}
_CommandLine: Any = make_dataclass(
    "_CommandLine", _GROUPS.items(), bases=(_NoSettings,), frozen=True, kw_only=True
)
"""All flags; each group of settings has a heading in the help."""

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TrainConfig)}
_SWITCHES = [name for name, default in _DEFAULTS.items() if isinstance(default, bool)]


def parse(argv: Sequence[str], prog: str) -> Command:
    """Return what the flags `argv` ask for.

    A setting comes from its flag, else from the file that `--config` names, else from the recipe, else it
    has its default. `prog` is the command's name in the help.

    Raises
    ------
    ConfigError
        A setting is wrong: the message names the flag, or the file and its key.
    SystemExit
        With code 2 after an error in the flags themselves, with code 0 after `--help`.
    """
    argv = _gathered(argv)
    scouted = _scouted(argv)
    file = sources.File({}) if scouted.config is None else sources.read(scouted.config)
    recipe = scouted.recipe or file.recipe
    below = [{} if recipe is None else sources.recipe_settings(recipe), file.settings]
    line = _parsed(argv, prog, {**_DEFAULTS, **below[0], **below[1], **_turned(argv)})
    groups = [vars(getattr(line, group)) for group in _GROUPS]
    flags = {name: values[name] for values in groups for name in values if name in _named(argv)}
    for name, value in flags.items():
        check(name, value)
    settings, given = merge(_DEFAULTS, [*below, flags])
    return Command(TrainConfig(**settings), line.print_config, recipe, given)


def _gathered(argv: Sequence[str]) -> list[str]:
    """Return `argv` with the words of every `--track` behind one: --track a --track b is --track a b."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--track", nargs="*", action="extend", default=[])
    gathered, others = parser.parse_known_args(argv)
    return [*others, "--track", *gathered.track] if gathered.track else list(argv)


def _scouted(argv: Sequence[str]) -> argparse.Namespace:
    """Return `config` and `recipe`, whose settings are the defaults of the other flags."""
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scout.add_argument("--config", type=Path, nargs="?")
    scout.add_argument("--recipe", nargs="?")
    return scout.parse_known_args(argv)[0]


def _named(argv: Sequence[str]) -> set[str]:
    """Return the settings whose flags are there."""
    names = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    names |= {flag(name): name for name in RULES}
    names |= {flag(f"no_{name}"): name for name in _SWITCHES}
    flags = {word.partition("=")[0].replace("_", "-") for word in argv}
    return {names[word] for word in flags & names.keys()}


def _turned(argv: Sequence[str]) -> dict[str, bool]:
    """Return the opposites of the switches that are given, as --quiet or --no-quiet.

    A switch has one flag, that which changes its default: so it has the flag that is given.
    """
    words = {word.replace("_", "-") for word in argv}
    turned = {name: True for name in _SWITCHES if flag(f"no_{name}") in words}
    return turned | {name: False for name in _SWITCHES if flag(name) in words}


def _parsed(argv: Sequence[str], prog: str, defaults: dict[str, Any]) -> Any:
    registry = ConstructorRegistry()
    registry.primitive_rule(_lenient)
    groups = {
        name: group(**{field.name: defaults[field.name] for field in fields(group)})
        for name, group in _GROUPS.items()
    }
    return tyro.cli(
        _CommandLine,
        prog=prog,
        description=DESCRIPTION,
        args=argv,
        default=_CommandLine(**groups),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes),
        registry=registry,
    )


# Values that do not parse stay text, which no rule allows: the error is then the rule's one line.


def _lenient(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Return how flags of numbers and words are read; None for other types."""
    union = get_origin(info.type) in (Union, UnionType)
    kinds = [kind for kind in (get_args(info.type) if union else (info.type,)) if kind != NoneType]
    tuples = [kind for kind in kinds if get_origin(kind) is tuple]
    single = [get_args(kind)[0] if kind in tuples else kind for kind in kinds]
    if not all(kind in (int, float) or get_origin(kind) is Literal for kind in single):
        return None
    metavar = "|".join(dict.fromkeys(map(_metavar, single)))

    def value(words: list[str]) -> Any:
        values = tuple(_value(single, word) for word in words)
        return values if tuples else values[0]

    return PrimitiveConstructorSpec(
        nargs="*" if tuples else 1,
        metavar=f"[{metavar} ...]" if tuples else metavar,
        instance_from_str=value,
        is_instance=lambda _: True,
        str_from_instance=lambda value: list(map(str, value if isinstance(value, tuple) else [value])),
    )


def _metavar(kind: Any) -> str:
    return "{" + ",".join(get_args(kind)) + "}" if get_args(kind) else str(kind.__name__).upper()


def _value(kinds: list[Any], word: str) -> Any:
    """Return the word as the first kind that it fits, or as it is."""
    for kind in kinds:
        with suppress(ValueError):
            if get_origin(kind) is not Literal:
                return kind(word)
    return word
