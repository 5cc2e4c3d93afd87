"""The settings of a training, from flags and a TOML file.

This module loads no array library, so that `--help` answers at once.
"""

import argparse
import difflib
import json
import re
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from xpnet.errors import ConfigError

Normalize = Literal["scale", "standardize", "none"]
Arithmetic = Literal["reproducible", "native"]
DType = Literal["auto", "float32", "float64"]
BackendName = Literal["auto", "numpy", "cupy", "torch", "jax", "array-api-strict"]

DESCRIPTION = """\
Train a neural network: by default the notebook's 784-10-10 network on MNIST.

Exit codes: 0 done, 2 bad input or device, 3 diverged, 130 interrupted."""


def _unset(text: str) -> Any:
    """Return the marker that shows `text` in the help where a setting has no value."""
    return tyro.conf.arg(help_behavior_hint=lambda value: text if value == "None" else _hint(value))


def _hint(value: str) -> str:
    return f"(default: {value})"


_Switch = Annotated[
    bool, tyro.conf.arg(help_behavior_hint=lambda value: "" if value == "False" else "(set)")
]


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training; the defaults are the notebook's.

    Raises
    ------
    ConfigError
        A value has the wrong type or lies out of range, or two settings contradict each other.
    """

    data: Annotated[Path | None, _unset("(default: the bundled MNIST)")] = None
    """Training data: a folder with the four IDX files, an .npz
    file with x_train, y_train, x_test and y_test, or a CSV
    file, which needs --test-data too."""

    test_data: Annotated[Path | None, _unset("(default: none)")] = None
    """The test data, where --data is a CSV file."""

    normalize: Normalize = "scale"
    """What happens to the inputs: scale divides pixels by 255
    and other numbers by the largest, standardize makes their
    mean 0 and variance 1, none leaves them as they are."""

    hidden: tuple[int, ...] = (10,)
    """Units in each hidden layer: --hidden 128 64 makes two,
    --hidden alone makes none (softmax regression)."""

    epochs: int = 100
    """Passes over the training data; 0 saves the initial parameters."""

    batch_size: Literal["full"] | int = "full"
    """Samples in each gradient step; full takes all of them at once."""

    learning_rate: Annotated[float, tyro.conf.arg(aliases=("--lr",))] = 0.1
    """Step size of gradient descent."""

    seed: int = 0
    """Fixes the initial parameters and the order of the samples."""

    arithmetic: Arithmetic = "reproducible"
    """reproducible gives the same bits with every library,
    device and number of threads; native is the library's own
    and the fastest."""

    dtype: DType = "auto"
    """Floating-point type: auto is float64 for reproducible
    and float32 for native."""

    device: Annotated[str, tyro.conf.arg(metavar="{auto,cpu,cuda,cuda:N}")] = "auto"
    """Where to compute. auto takes a GPU if one works; cuda
    falls back to the CPU with a warning."""

    backend: BackendName = "auto"
    """Array library. auto takes NumPy on the CPU; on a GPU the
    first of CuPy, PyTorch and JAX that works."""

    workers: Literal["auto"] | int = "auto"
    """Blocks of samples computed side by side by the NumPy
    backend; auto makes it the processors there are."""

    require_device: _Switch = False
    """Stop with an error where --device would fall back to the CPU."""

    init_from: Annotated[Path | None, _unset("(default: random)")] = None
    """Start from the parameters in this .safetensors file."""

    log_every: int = 10
    """Epochs from one printed and recorded line to the next."""

    out: Path = Path("runs")
    """Folder that receives the folder of this run."""

    name: Annotated[str | None, _unset("(default: date and time)")] = None
    """Name of the folder of this run."""

    overwrite: _Switch = False
    """Replace the run that --name names, if there is one."""

    quiet: _Switch = False
    """Print errors and warnings only."""

    debug: _Switch = False
    """Show the whole traceback of an error."""

    def __post_init__(self) -> None:
        for field in fields(TrainConfig):
            value = getattr(self, field.name)
            if problem := _problem(field.name, value):
                msg = f"{_flag(field.name)}: {problem}, got {_shown(value)}"
                raise ConfigError(msg)
        if self.arithmetic == "reproducible" and self.dtype == "float32":
            msg = (
                "--dtype: reproducible arithmetic takes auto or float64, got float32: "
                "add --arithmetic native"
            )
            raise ConfigError(msg)
        if self.overwrite and self.name is None:
            msg = "--overwrite: needs --name NAME, the run that it replaces"
            raise ConfigError(msg)
        if self.test_data is not None and self.data is None:
            msg = f"--test-data: needs --data TRAIN.csv beside it, got {self.test_data} alone"
            raise ConfigError(msg)

    @property
    def float_type(self) -> str:
        """The floating-point type that `dtype` comes to: float32 or float64."""
        if self.dtype == "auto":
            return "float64" if self.arithmetic == "reproducible" else "float32"
        return self.dtype


@dataclass(frozen=True)
class Command:
    """What the command line asks for."""

    config: TrainConfig
    print_config: bool
    """Whether to print the settings as TOML instead of training."""


@dataclass(frozen=True)
class _CommandLine(TrainConfig):
    """The flags as given: settings not yet checked, and the flags that are no settings."""

    config: Annotated[Path | None, _unset("")] = None
    """Read settings from this TOML file. Keys are the flags
    with _ for -, as in batch_size = 32; flags win over it;
    paths are relative to the current folder, as in flags."""

    print_config: _Switch = False
    """Print the resulting settings as a TOML file and stop."""

    def __post_init__(self) -> None:
        """Check nothing: settings are checked once the flags and the file are merged."""


def parse(argv: Sequence[str], prog: str) -> Command:
    """Return the settings of the flags `argv`, of the file that `--config` names, or the default.

    `prog` is the command's name in the help.

    Raises
    ------
    ConfigError
        A setting is wrong: the message names the flag, or the file and its key.
    SystemExit
        With code 2 after an error in the flags themselves, with code 0 after `--help`.
    """
    file = _config_file(argv)
    line = tyro.cli(
        _CommandLine,
        prog=prog,
        description=DESCRIPTION,
        args=argv,
        default=_CommandLine(**({} if file is None else _read(file))),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    settings = {field.name: getattr(line, field.name) for field in fields(TrainConfig)}
    return Command(TrainConfig(**settings), print_config=line.print_config)


def resolved(config: TrainConfig) -> dict[str, Any]:
    """Return every setting as a JSON value: paths as text, tuples as lists, no value as None."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(TrainConfig)}


def to_toml(config: TrainConfig) -> str:
    """Return the settings as a TOML file that `--config` reads back to an equal `TrainConfig`.

    Raises
    ------
    ConfigError
        A path is not valid Unicode, so that a TOML file cannot hold it.
    """
    import tomli_w

    settings = {key: value for key, value in resolved(config).items() if value is not None}
    for key, value in settings.items():
        if isinstance(value, str) and _has_surrogate(value):
            msg = f"{_flag(key)}: expected text that a TOML file can hold, got {_shown(value)}"
            raise ConfigError(msg)
    return tomli_w.dumps(settings)


def _config_file(argv: Sequence[str]) -> Path | None:
    """Return the path after `--config`, whose settings are the defaults of the other flags."""
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scout.add_argument("--config", type=Path, nargs="?")
    file: Path | None = scout.parse_known_args(argv)[0].config
    return file


def _read(file: Path) -> dict[str, Any]:
    """Return the checked settings of a TOML file."""
    try:
        table = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror}): --config takes a TOML file"
        raise ConfigError(msg) from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        msg = f"{file}: not a TOML file ({reason}): expected lines such as batch_size = 32"
        raise ConfigError(msg) from error
    return {key: _setting(file, key, found) for key, found in table.items()}


def _setting(file: Path, key: str, found: object) -> object:
    """Return a TOML value as the setting's own type."""
    if key not in _RULES:
        near = difflib.get_close_matches(key, _RULES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        msg = f"{file}: unknown key {_shown(key)}: {hint}Keys are {', '.join(_RULES)}"
        raise ConfigError(msg)
    value: object = found
    if key in _PATHS and isinstance(found, str) and found:
        value = Path(found)
    elif key == "hidden" and isinstance(found, list):
        value = tuple(found)
    if problem := _problem(key, value):
        msg = f"{file}: {key}: {problem}, got {_shown(found)}"
        raise ConfigError(msg)
    return float(found) if key == "learning_rate" and isinstance(found, int) else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    """Return `value` for a message: on one line, and short."""
    text = json.dumps(_plain(value), default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _has_surrogate(text: str) -> bool:
    return any(unicodedata.category(character) == "Cs" for character in text)


@dataclass(frozen=True)
class _Rule:
    """What a setting may be."""

    expected: str
    holds: Callable[[Any], bool]


def _problem(name: str, value: object) -> str | None:
    """Return what was expected of the setting `name`, if `value` is something else."""
    rule = _RULES[name]
    return None if rule.holds(value) else f"expected {rule.expected}"


def _is_whole(value: object, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _is_learning_rate(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= sys.float_info.max  # type: ignore[operator]


def _is_path(value: object) -> bool:
    return isinstance(value, Path) and "\0" not in str(value)


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or value.startswith("."):
        return False
    return not any(
        character in "/\\" or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        for character in value
    )


def _one_of(choices: Iterable[str]) -> _Rule:
    allowed = tuple(choices)
    return _Rule(f"one of {', '.join(allowed)}", lambda value: value in allowed)


def _whole(lowest: int) -> _Rule:
    return _Rule(f"a whole number, {lowest} or more", lambda value: _is_whole(value, lowest))


_SWITCH = _Rule("true or false", lambda value: isinstance(value, bool))
_PATH = _Rule("a path", _is_path)
_PATH_OR_NONE = _Rule("a path", lambda value: value is None or _is_path(value))
_PATHS = ("data", "test_data", "init_from", "out")

_RULES = {
    "data": _PATH_OR_NONE,
    "test_data": _PATH_OR_NONE,
    "normalize": _one_of(get_args(Normalize)),
    "hidden": _Rule(
        "whole numbers, each 1 or more",
        lambda value: isinstance(value, tuple) and all(_is_whole(units, 1) for units in value),
    ),
    "epochs": _whole(0),
    "batch_size": _Rule(
        "full or a whole number, 1 or more", lambda value: value == "full" or _is_whole(value, 1)
    ),
    "learning_rate": _Rule("a number above 0 and finite", _is_learning_rate),
    "seed": _Rule(
        f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})",
        lambda value: _is_whole(value, 0) and value < 2**64,
    ),
    "arithmetic": _one_of(get_args(Arithmetic)),
    "dtype": _one_of(get_args(DType)),
    "device": _Rule(
        "auto, cpu, cuda or cuda:N",
        # The backends know their own further devices, so here it is only text without blanks.
        lambda value: isinstance(value, str) and re.fullmatch(r"[\w:.-]+", value) is not None,
    ),
    "backend": _one_of(get_args(BackendName)),
    "workers": _Rule(
        "auto or a whole number, 1 or more", lambda value: value == "auto" or _is_whole(value, 1)
    ),
    "require_device": _SWITCH,
    "init_from": _PATH_OR_NONE,
    "log_every": _whole(1),
    "out": _PATH,
    "name": _Rule(
        "a folder name without / or \\, control characters or a leading dot",
        lambda value: value is None or _is_name(value),
    ),
    "overwrite": _SWITCH,
    "quiet": _SWITCH,
    "debug": _SWITCH,
}
