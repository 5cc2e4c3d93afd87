"""Settings: flags, TOML files, their order of precedence, and what each value may be."""

import inspect
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import arithmetic

from xpnet.arithmetic import ARITHMETICS
from xpnet.backends.numpy import make as numpy_backend
from xpnet.config import Command, TrainConfig, constraints, from_json, parse, to_json, to_toml
from xpnet.config import settings as types
from xpnet.data import augment
from xpnet.errors import ConfigError
from xpnet.nn import functional, init, optim, schedules
from xpnet.storage.model_file import NORMALIZATIONS

NAMES = [field.name for field in fields(TrainConfig)]


def parsed(*argv: str) -> TrainConfig:
    return parse(argv, "xpnet train").config


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_no_flags_mean_the_notebooks_training() -> None:
    assert parse([], "xpnet train") == Command(TrainConfig(), print_config=False)
    expected = {
        "data": None,
        "test_data": None,
        "validation": 0,
        "normalize": "scale",
        "augment_shift": 0.0,
        "augment_rotate": 0.0,
        "augment_scale": 0.0,
        "augment_shear": 0.0,
        "augment_elastic_alpha": 0.0,
        "augment_elastic_sigma": None,
        "hidden": (10,),
        "activation": "relu",
        "batch_norm": False,
        "dropout": 0.0,
        "input_dropout": 0.0,
        "init": "uniform",
        "init_from": None,
        "epochs": 100,
        "batch_size": "full",
        "loss": "cross-entropy",
        "label_smoothing": 0.0,
        "patience": None,
        "seed": 0,
        "repeats": 1,
        "optimizer": "sgd",
        "momentum": None,
        "learning_rate": 0.1,
        "schedule": "constant",
        "schedule_step_epochs": None,
        "schedule_factor": None,
        "warmup_epochs": 0,
        "weight_decay": None,
        "clip_norm": None,
        "max_norm": None,
        "arithmetic": "reproducible",
        "dtype": "auto",
        "device": "auto",
        "backend": "auto",
        "workers": "auto",
        "require_device": False,
        "log_every": 10,
        "checkpoint_seconds": None,
        "resume": None,
        "out": Path("runs"),
        "name": None,
        "overwrite": False,
        "report": True,
        "track": (),
        "quiet": False,
        "debug": False,
    }
    result = {name: getattr(TrainConfig(), name) for name in NAMES}
    assert result == expected
    assert list(expected) == NAMES


BESIDE: dict[str, list[str]] = {
    "test_data": ["--data", "train.csv"],
    "augment_elastic_sigma": ["--augment-elastic-alpha", "34"],
    "patience": ["--validation", "100"],
    "momentum": ["--optimizer", "nesterov"],
    "schedule_step_epochs": ["--schedule", "step"],
    "schedule_factor": ["--schedule", "exponential"],
    "overwrite": ["--name", "a"],
}
"""The flags without which a setting has no sense."""

FLAGS: list[tuple[list[str], str, object]] = [
    (["--data", "a folder"], "data", Path("a folder")),
    (["--test-data", "t.csv"], "test_data", Path("t.csv")),
    (["--validation", "5000"], "validation", 5000),
    (["--normalize", "standardize"], "normalize", "standardize"),
    (["--augment-shift", "2"], "augment_shift", 2.0),
    (["--augment-rotate", "7.5"], "augment_rotate", 7.5),
    (["--augment-scale", "0.1"], "augment_scale", 0.1),
    (["--augment-shear", "0.2"], "augment_shear", 0.2),
    (["--augment-elastic-alpha", "34"], "augment_elastic_alpha", 34.0),
    (["--augment-elastic-sigma", "5"], "augment_elastic_sigma", 5.0),
    (["--hidden", "128", "64"], "hidden", (128, 64)),
    (["--hidden"], "hidden", ()),
    (["--hidden", "--quiet"], "hidden", ()),
    (["--activation", "leaky-relu"], "activation", "leaky-relu"),
    (["--batch-norm"], "batch_norm", True),
    (["--dropout", "0.5"], "dropout", 0.5),
    (["--input-dropout", "0"], "input_dropout", 0.0),
    (["--init", "he"], "init", "he"),
    (["--init-from", "m.safetensors"], "init_from", Path("m.safetensors")),
    (["--epochs", "0"], "epochs", 0),
    (["--batch-size", "full"], "batch_size", "full"),
    (["--batch-size", "32"], "batch_size", 32),
    (["--batch_size=32"], "batch_size", 32),
    (["--loss", "squared-error"], "loss", "squared-error"),
    (["--label-smoothing", "0.1"], "label_smoothing", 0.1),
    (["--patience", "5"], "patience", 5),
    (["--seed", str(2**64 - 1)], "seed", 2**64 - 1),
    (["--repeats", "5"], "repeats", 5),
    (["--optimizer", "adamw"], "optimizer", "adamw"),
    (["--momentum", "0.95"], "momentum", 0.95),
    (["--learning-rate", "0.5"], "learning_rate", 0.5),
    (["--learning_rate=0.5"], "learning_rate", 0.5),
    (["--lr", "1e-3"], "learning_rate", 0.001),
    (["--lr", "1"], "learning_rate", 1.0),
    (["--schedule", "cosine"], "schedule", "cosine"),
    (["--schedule-step-epochs", "10"], "schedule_step_epochs", 10),
    (["--schedule-factor", "0.5"], "schedule_factor", 0.5),
    (["--warmup-epochs", "3"], "warmup_epochs", 3),
    (["--weight-decay", "1e-4"], "weight_decay", 1e-4),
    (["--clip-norm", "5"], "clip_norm", 5.0),
    (["--max-norm", "2.5"], "max_norm", 2.5),
    (["--arithmetic", "native"], "arithmetic", "native"),
    (["--dtype", "float64"], "dtype", "float64"),
    (["--device", "cuda:1"], "device", "cuda:1"),
    (["--device", "device1"], "device", "device1"),
    (["--backend", "array-api-strict"], "backend", "array-api-strict"),
    (["--workers", "2"], "workers", 2),
    (["--require-device"], "require_device", True),
    (["--log-every", "1"], "log_every", 1),
    (["--checkpoint-seconds", "0.5"], "checkpoint_seconds", 0.5),
    (["--resume", "runs/first"], "resume", Path("runs/first")),
    (["--out", "elsewhere"], "out", Path("elsewhere")),
    (["--name", "first try"], "name", "first try"),
    (["--name", "Grüße-1.2_β"], "name", "Grüße-1.2_β"),
    (["--name", "None"], "name", "None"),
    (["--overwrite"], "overwrite", True),
    (["--no-report"], "report", False),
    (["--track", "wandb", "mlflow"], "track", ("wandb", "mlflow")),
    (["--track", "mlflow", "--track", "wandb"], "track", ("mlflow", "wandb")),
    (["--track=trackio", "--track=wandb"], "track", ("trackio", "wandb")),
    (["--track"], "track", ()),
    (["--quiet"], "quiet", True),
    (["--debug"], "debug", True),
]


@pytest.mark.parametrize(("argv", "name", "value"), FLAGS)
def test_a_flag_changes_its_setting_and_no_other(argv: list[str], name: str, value: object) -> None:
    beside = BESIDE.get(name, [])
    command = parse([*argv, *beside], "xpnet train")
    result = getattr(command.config, name)
    assert result == value
    assert type(result) is type(value)
    others = {"quiet": True} if "--quiet" in argv else {}
    assert command.config == replace(parsed(*beside), **{**others, name: value})
    assert command.explicit == parse(beside, "xpnet train").explicit | {name} | others.keys()


def test_every_setting_has_a_row_for_its_flag() -> None:
    assert {name for _, name, _ in FLAGS} == set(NAMES)


def test_several_learning_rates_are_a_tuple_and_one_is_a_number(toml: Any) -> None:
    several = TrainConfig(learning_rate=(0.1, 0.3), validation=10)
    assert several.learning_rates == (0.1, 0.3)
    assert parsed("--lr", "0.1", "0.3", "--validation", "10") == several
    assert parsed("--config", toml("learning_rate = [0.1, 0.3]\nvalidation = 10")) == several
    for one in (
        TrainConfig(learning_rate=0.3),
        TrainConfig(learning_rate=(0.3,)),
        parsed("--lr", "0.3"),
        parsed("--config", toml("learning_rate = [0.3]")),
    ):
        assert one.learning_rate == 0.3
        assert one.learning_rates == (0.3,)
        assert one == replace(several, learning_rate=several.learning_rates[1], validation=0)


RATES = "a finite number above 0, or several different ones"
POSITIVE = "a finite number above 0"
SHARE = "a number from 0 to below 1"
SEED = f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})"
BACKENDS = "one of auto, numpy, cupy, torch, jax, array-api-strict"
OPTIMIZER = "one of sgd, momentum, nesterov, adam, adamw"

BAD: list[tuple[str, object, str]] = [  # setting, value, what is expected and found
    ("data", Path("a\0b"), 'a path, got "a\\u0000b"'),
    ("data", "text", 'a path, got "text"'),
    ("test_data", "text", 'a path, got "text"'),
    ("validation", -1, "a whole number, 0 or more, got -1"),
    ("validation", 0.5, "a whole number, 0 or more, got 0.5"),
    (
        "normalize",
        "standardise",
        'one of scale, standardize, none, got "standardise": did you mean standardize?',
    ),
    ("augment_shift", -1.0, "a number from 0 to 1000 (pixels), got -1.0"),
    ("augment_rotate", 181, "a number from 0 to 180 (degrees), got 181"),
    ("augment_scale", 1.0, "a number from 0 to 0.9 (a share of the size), got 1.0"),
    ("augment_shear", float("nan"), "a number from 0 to 10 (pixels sideways per pixel of height), got NaN"),
    ("augment_elastic_alpha", True, "a number from 0 to 10000 (pixels), got true"),
    ("augment_elastic_sigma", 0.0, "a number from 0.1 to 100 (pixels), got 0.0"),
    ("hidden", (3, 0), "whole numbers, each 1 or more, got [3, 0]"),
    ("hidden", (True,), "whole numbers, each 1 or more, got [true]"),
    ("hidden", 3, "whole numbers, each 1 or more, got 3"),
    (
        "activation",
        "LeakyReLU",
        'one of relu, leaky-relu, tanh, sigmoid, got "LeakyReLU": did you mean leaky-relu?',
    ),
    ("activation", "selu", 'one of relu, leaky-relu, tanh, sigmoid, got "selu": did you mean relu?'),
    ("activation", "x", 'one of relu, leaky-relu, tanh, sigmoid, got "x"'),
    ("batch_norm", 1, "true or false, got 1"),
    ("dropout", 1.0, f"{SHARE}, got 1.0"),
    ("dropout", -0.1, f"{SHARE}, got -0.1"),
    ("input_dropout", 1, f"{SHARE}, got 1"),
    ("init", "xavier", 'one of uniform, he, glorot, got "xavier"'),
    ("init_from", "m", 'a path, got "m"'),
    ("epochs", -1, "a whole number, 0 or more, got -1"),
    ("epochs", True, "a whole number, 0 or more, got true"),
    ("epochs", 2.0, "a whole number, 0 or more, got 2.0"),
    ("batch_size", 0, "full or a whole number, 1 or more, got 0"),
    ("batch_size", "all", 'full or a whole number, 1 or more, got "all"'),
    ("loss", "mse", 'one of cross-entropy, squared-error, got "mse"'),
    ("label_smoothing", 1.0, f"{SHARE}, got 1.0"),
    ("patience", 0, "a whole number, 1 or more, got 0"),
    ("seed", -1, f"{SEED}, got -1"),
    ("seed", 2**64, f"{SEED}, got {2**64}"),
    ("repeats", 0, "a whole number, 1 or more, got 0"),
    ("optimizer", "adamW", f'{OPTIMIZER}, got "adamW": did you mean adamw?'),
    ("optimizer", ["sgd"], f'{OPTIMIZER}, got ["sgd"]'),
    ("momentum", 1.0, f"{SHARE}, got 1.0"),
    ("learning_rate", 0.0, f"{RATES}, got 0.0"),
    ("learning_rate", -0.1, f"{RATES}, got -0.1"),
    ("learning_rate", float("nan"), f"{RATES}, got NaN"),
    ("learning_rate", float("inf"), f"{RATES}, got Infinity"),
    ("learning_rate", True, f"{RATES}, got true"),
    ("learning_rate", (), f"{RATES}, got []"),
    ("learning_rate", (0.1, 0.0), f"{RATES}, got [0.1, 0.0]"),
    ("learning_rate", (0.1, 0.1), f"{RATES}, got [0.1, 0.1]"),
    ("schedule", "cosin", 'one of constant, step, exponential, cosine, got "cosin": did you mean cosine?'),
    ("schedule_step_epochs", 0, "a whole number, 1 or more, got 0"),
    ("schedule_factor", 0.0, "a number above 0, at most 1, got 0.0"),
    ("schedule_factor", 1.5, "a number above 0, at most 1, got 1.5"),
    ("warmup_epochs", -1, "a whole number, 0 or more, got -1"),
    ("weight_decay", -1e-4, "a finite number, 0 or more, got -0.0001"),
    ("weight_decay", float("inf"), "a finite number, 0 or more, got Infinity"),
    ("clip_norm", 0.0, f"{POSITIVE}, got 0.0"),
    ("max_norm", -2.0, f"{POSITIVE}, got -2.0"),
    ("arithmetic", "exact", 'one of reproducible, native, got "exact"'),
    ("dtype", "float16", 'one of auto, float32, float64, got "float16": did you mean float64?'),
    ("device", "", 'auto, cpu, cuda or cuda:N, got ""'),
    ("device", "cuda 1", 'auto, cpu, cuda or cuda:N, got "cuda 1"'),
    ("backend", "numpyy", f'{BACKENDS}, got "numpyy": did you mean numpy?'),
    ("workers", 0, "auto or a whole number, 1 or more, got 0"),
    ("require_device", None, "true or false, got null"),
    ("log_every", 0, "a whole number, 1 or more, got 0"),
    ("checkpoint_seconds", 0, f"{POSITIVE}, got 0"),
    ("resume", "runs/first", 'a path, got "runs/first"'),
    ("out", None, "a path, got null"),
    ("name", "a/b", 'a folder name without / or \\, control characters or a leading dot, got "a/b"'),
    ("overwrite", 1, "true or false, got 1"),
    ("report", 0, "true or false, got 0"),
    ("track", ("wand",), 'some of wandb, trackio, mlflow, each once, got ["wand"]'),
    ("track", ("wandb", "wandb"), 'some of wandb, trackio, mlflow, each once, got ["wandb", "wandb"]'),
    ("track", "wandb", 'some of wandb, trackio, mlflow, each once, got "wandb"'),
    ("quiet", 1, "true or false, got 1"),
    ("debug", "no", 'true or false, got "no"'),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_refused_with_flag_value_and_what_is_allowed(
    name: str, value: Any, message: str
) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{flag}: expected {message}')}$"):
        TrainConfig(**{name: value})


def test_every_setting_has_a_row_for_a_bad_value() -> None:
    assert {name for name, _, _ in BAD} == set(NAMES)


def test_a_setting_without_a_value_is_none_only_where_its_default_is() -> None:
    for field in fields(TrainConfig):
        if field.default is not None:
            with pytest.raises(ConfigError, match=r" got null"):
                TrainConfig(**{field.name: None})


FOLDER_NAMES = ["", " ", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\x85b"]


@pytest.mark.parametrize("name", [*FOLDER_NAMES, "a\u2028b", "a\ud800b"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--name: expected a folder name .*[^\n]*$"):
        TrainConfig(name=name)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(name="/" * 10_000)
    assert len(str(caught.value)) < 200


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


WRONG_TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"test_data": Path("t.csv")}, "--test-data: needs --data TRAIN.csv beside it, got t.csv alone"),
    (
        {"augment_elastic_sigma": 4.0},
        "--augment-elastic-sigma: needs --augment-elastic-alpha, the strength of the deformation",
    ),
    (
        {"activation": "tanh", "hidden": ()},
        "--activation: needs hidden layers: leave it out, or give --hidden their units",
    ),
    (
        {"batch_norm": True, "hidden": ()},
        "--batch-norm: needs hidden layers: leave it out, or give --hidden their units",
    ),
    (
        {"batch_norm": True, "batch_size": 1},
        "--batch-norm: needs a --batch-size of 2 or more, got 1: one sample has no variance",
    ),
    (
        {"dropout": 0.5, "hidden": ()},
        "--dropout: needs hidden layers: give --hidden their units; --input-dropout drops inputs",
    ),
    (
        {"init": "he", "init_from": Path("m.safetensors")},
        "--init: the initial parameters come from --init-from: give one of the two",
    ),
    ({"patience": 3}, "--patience: needs --validation N, the number of samples that tell when to stop"),
    ({"seed": 2**64 - 2, "repeats": 3}, "--repeats: the last seed is above 2^64 - 1: use a smaller --seed"),
    (
        {"repeats": 3, "init_from": Path("m.safetensors")},
        "--repeats: every seed trains the same: from --init-from on, nothing is random",
    ),
    (
        {"repeats": 3, "learning_rate": (0.1, 0.3), "validation": 10},
        "--repeats: expected 1 with several learning rates: choose one rate first, then repeat",
    ),
    ({"momentum": 0.9}, "--momentum: needs --optimizer momentum or nesterov, got sgd"),
    ({"momentum": 0.9, "optimizer": "adam"}, "--momentum: needs --optimizer momentum or nesterov, got adam"),
    (
        {"learning_rate": (0.1, 0.3)},
        "--learning-rate: several need --validation N, the number of samples to compare them on",
    ),
    ({"schedule_step_epochs": 30}, "--schedule-step-epochs: needs --schedule step, got constant"),
    (
        {"schedule_factor": 0.1, "schedule": "cosine"},
        "--schedule-factor: needs --schedule step or exponential, got cosine",
    ),
    ({"warmup_epochs": 6, "epochs": 5}, "--warmup-epochs: expected at most the number of --epochs, 5, got 6"),
    (
        {"dtype": "float32"},
        ("--dtype: reproducible arithmetic takes auto or float64, got float32: add --arithmetic native"),
    ),
    ({"overwrite": True}, "--overwrite: needs --name NAME, the run that it replaces"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_TOGETHER)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TrainConfig(**settings)


def find_violations(settings: dict[str, Any]) -> list[constraints.Violation]:
    """What is wrong with settings together, which is not looked at for a run that goes on."""
    return list(constraints.find_violations(TrainConfig(**{**settings, "resume": Path("run")})))


def test_every_constraint_has_a_row_of_its_own() -> None:
    result = [find_violations(row) for row, _ in WRONG_TOGETHER]
    assert [len(one) for one in result] == [1] * len(WRONG_TOGETHER)
    kinds = {(one.name, one.overridden_by, re.sub("got .*", "", one.message)) for (one,) in result}
    assert len(kinds) == inspect.getsource(constraints).count("        yield ")


@pytest.mark.parametrize(
    "settings",
    [
        {"test_data": Path("t.csv"), "data": Path("d.csv")},
        {"augment_elastic_sigma": 4.0, "augment_elastic_alpha": 34.0},
        {"input_dropout": 0.2, "hidden": ()},
        {"init": "glorot", "hidden": ()},
        {"batch_norm": True, "batch_size": 2},
        {"patience": 3, "validation": 1},
        {"seed": 2**64 - 3, "repeats": 3},
        {"repeats": 3, "init_from": Path("m.safetensors"), "batch_size": 32},
        {"repeats": 3, "init_from": Path("m.safetensors"), "dropout": 0.5},
        {"repeats": 3, "init_from": Path("m.safetensors"), "augment_shift": 1.0},
        {"momentum": 0.0, "optimizer": "momentum"},
        {"learning_rate": (0.1, 0.3), "validation": 1},
        {"schedule_factor": 0.1, "schedule": "step", "schedule_step_epochs": 1},
        {"warmup_epochs": 5, "epochs": 5},
        {"label_smoothing": 0.1, "loss": "squared-error"},
        {"dtype": "float32", "arithmetic": "native"},
    ],
)
def test_settings_that_go_together_are_taken(settings: dict[str, Any]) -> None:
    config = TrainConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_what_contradicts_is_not_known_before_the_run_to_resume_is_read() -> None:
    assert parsed("--resume", "run", "--patience", "3").patience == 3
    with pytest.raises(ConfigError, match=r"^--patience: expected "):
        parsed("--resume", "run", "--patience", "0")


OVERRULED: list[tuple[str, list[str], str]] = [  # a file, flags that win over it, what falls
    ("momentum = 0.5\noptimizer = 'momentum'", ["--optimizer", "adam"], "momentum"),
    ("schedule = 'step'\nschedule_factor = 0.5", ["--schedule", "cosine"], "schedule_factor"),
    ("schedule = 'step'\nschedule_step_epochs = 5", ["--schedule", "exponential"], "schedule_step_epochs"),
    ("warmup_epochs = 5", ["--epochs", "1"], "warmup_epochs"),
    ("validation = 10\npatience = 3", ["--validation", "0"], "patience"),
    ("dropout = 0.5", ["--hidden"], "dropout"),
    ("batch_norm = true", ["--hidden"], "batch_norm"),
    ("batch_norm = true", ["--batch-size", "1"], "batch_norm"),
    ("activation = 'tanh'", ["--hidden"], "activation"),
    ("init = 'he'", ["--init-from", "m.safetensors"], "init"),
    (
        "augment_elastic_sigma = 5\naugment_elastic_alpha = 34",
        ["--augment-elastic-alpha", "0"],
        "augment_elastic_sigma",
    ),
    ("arithmetic = 'native'\ndtype = 'float32'", ["--arithmetic", "reproducible"], "dtype"),
]


@pytest.mark.parametrize(("text", "argv", "name"), OVERRULED)
def test_a_setting_of_the_file_falls_where_a_flag_leaves_it_without_sense(
    toml: Any, text: str, argv: list[str], name: str
) -> None:
    command = parse(["--config", toml(text), *argv], "xpnet train")
    assert getattr(command.config, name) == getattr(TrainConfig(), name)
    assert name not in command.explicit
    flags = parse(argv, "xpnet train")
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: "):
        replace(
            parsed("--config", toml(text)), **{flag: getattr(flags.config, flag) for flag in flags.explicit}
        )


def test_every_setting_that_may_fall_has_a_row() -> None:
    result = itertools.chain(*(find_violations(row) for row, _ in WRONG_TOGETHER))
    assert {name for _, _, name in OVERRULED} == {one.name for one in result if one.overridden_by}


@pytest.mark.parametrize(
    ("text", "flag", "name", "value"),
    [
        ("", "--no-quiet", "quiet", False),
        ("", "--quiet --no-quiet", "quiet", False),
        ("", "--no-quiet --quiet", "quiet", True),
        ("", "--report", "report", True),
        ("quiet = true", "--quiet", "quiet", True),
        ("quiet = true", "--no-quiet", "quiet", False),
        ("report = false", "--no-report", "report", False),
        ("report = false", "--no_report", "report", False),
        ("report = false", "--report", "report", True),
    ],
)
def test_a_switch_of_the_file_may_be_set_again_or_taken_back(
    toml: Any, text: str, flag: str, name: str, value: object
) -> None:
    command = parse(["--config", toml(text), *flag.split()], "xpnet train")
    assert getattr(command.config, name) is value
    assert name in command.explicit


def test_trackers_of_the_file_are_replaced_by_those_of_the_flags(toml: Any) -> None:
    file = toml("track = ['wandb', 'mlflow']")
    assert parsed("--config", file).track == ("wandb", "mlflow")
    assert parsed("--config", file, "--track", "trackio", "--seed", "3").track == ("trackio",)
    assert parsed("--config", file, "--track").track == ()


def test_a_setting_of_the_file_stays_where_a_flag_leaves_it_its_sense(toml: Any) -> None:
    file = toml("momentum = 0.5\noptimizer = 'momentum'\nwarmup_epochs = 5")
    config = parsed("--config", file, "--optimizer", "nesterov", "--epochs", "5")
    assert (config.momentum, config.warmup_epochs) == (0.5, 5)


def test_a_flag_without_sense_beside_the_file_is_refused(toml: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--momentum: needs --optimizer "):
        parsed("--config", toml("optimizer = 'adam'"), "--momentum", "0.5")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--optimiser", "adam"], "unrecognized arguments: --optimiser adam: did you mean --optimizer?"),
        (["--batch_sise=3"], "unrecognized arguments: --batch-sise=3: did you mean --batch-size?"),
        (["--epochs", "1", "--no-epochs"], "unrecognized arguments: --no-epochs: did you mean --epochs?"),
        (["--conf", "absent.toml"], "unrecognized arguments: --conf absent.toml: did you mean --config?"),
        (["stray"], "unrecognized arguments: stray"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--config"], "argument --config: expected one argument"),
        (["--recipe"], "argument --recipe: expected one argument"),
        (["--lr"], "argument --learning-rate/--lr: expected at least one argument"),
        (["--quiet=yes"], "argument --quiet/--no-quiet: ignored explicit argument 'yes'"),
    ],
)
def test_a_flag_error_is_one_line_with_the_nearest_flag(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)} \\(xpnet train --help\\)$"):
        parsed(*argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "-1"], "--epochs: expected a whole number, 0 or more, got -1"),
        (["--epochs", "many"], '--epochs: expected a whole number, 0 or more, got "many"'),
        (["--epochs", "1.5"], '--epochs: expected a whole number, 0 or more, got "1.5"'),
        (["--batch-size", "1.5"], '--batch-size: expected full or a whole number, 1 or more, got "1.5"'),
        (["--hidden", "3", "x"], '--hidden: expected whole numbers, each 1 or more, got [3, "x"]'),
        (["--lr", "0.1", "big"], f'--learning-rate: expected {RATES}, got [0.1, "big"]'),
        (["--clip-norm", "None"], f'--clip-norm: expected {POSITIVE}, got "None"'),
        (
            ["--optimizer", "nesterow"],
            f'--optimizer: expected {OPTIMIZER}, got "nesterow": did you mean nesterov?',
        ),
        (
            ["--warmup-epochs", "x", "--epochs", "1"],
            '--warmup-epochs: expected a whole number, 0 or more, got "x"',
        ),
    ],
)
def test_a_bad_value_of_a_flag_is_refused_in_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parsed(*argv)


def test_print_config_is_no_setting() -> None:
    command = parse(["--print-config", "--epochs", "3"], "xpnet train")
    assert command == Command(TrainConfig(epochs=3), print_config=True, explicit=frozenset({"epochs"}))
    assert type(command.config) is TrainConfig
    assert "print_config" not in to_json(command.config)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(toml: Any) -> None:
    file = toml("epochs = 5\nlearning_rate = 0.2\n")
    command = parse(["--epochs", "7", "--config", file], "xpnet train")
    assert command.config == TrainConfig(epochs=7, learning_rate=0.2)
    assert command.explicit == {"epochs", "learning_rate"}


def test_a_flag_wins_over_the_file_even_with_the_default_value(toml: Any) -> None:
    assert parsed("--config", toml("epochs = 5"), "--epochs", "100").epochs == 100


def test_flags_and_file_may_complete_each_other(toml: Any) -> None:
    config = parsed("--config", toml("overwrite = true"), "--name", "a")
    assert config == TrainConfig(overwrite=True, name="a")


def test_flags_and_file_together_are_checked(toml: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--overwrite: needs --name"):
        parsed("--config", toml("overwrite = true"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", TrainConfig()),
        ("hidden = []", TrainConfig(hidden=())),
        ("hidden = [3, 4]", TrainConfig(hidden=(3, 4))),
        ("learning_rate = 1", TrainConfig(learning_rate=1.0)),
        ("learning_rate = [1, 2]\nvalidation = 1", TrainConfig(learning_rate=(1.0, 2.0), validation=1)),
        ("dropout = 0", TrainConfig(dropout=0.0)),
        ("clip_norm = 5", TrainConfig(clip_norm=5.0)),
        ("augment_rotate = 15", TrainConfig(augment_rotate=15.0)),
        ("batch_size = 'full'", TrainConfig()),
        ("batch_size = 32", TrainConfig(batch_size=32)),
        (f"seed = {2**64 - 1}", TrainConfig(seed=2**64 - 1)),
        ("data = 'a/../b'", TrainConfig(data=Path("a/../b"))),
        ("quiet = true", TrainConfig(quiet=True)),
    ],
)
def test_a_file_gives_settings_of_their_own_types(toml: Any, text: str, expected: TrainConfig) -> None:
    config = parsed("--config", toml(text))
    assert config == expected
    assert [type(value) for value in to_json(config).values()] == [
        type(value) for value in to_json(expected).values()
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", 'unknown key "epoch": did you mean epochs? Keys are the flags of '),
        ("batch-size = 3", 'unknown key "batch-size": did you mean batch_size? Keys are '),
        ("zzz = 3", 'unknown key "zzz": Keys are the flags of --help with _ for -'),
        ('"a\\nb" = 3', 'unknown key "a\\nb": Keys are the flags '),
        ("[section]\nepochs = 3", 'unknown key "section": Keys are the flags '),
        ("config = 'other.toml'", 'unknown key "config": '),
        ("print_config = true", 'unknown key "print_config": '),
        ("epochs = '3'", 'epochs: expected a whole number, 0 or more, got "3"'),
        ("epochs = true", "epochs: expected a whole number, 0 or more, got true"),
        ("epochs = 3.0", "epochs: expected a whole number, 0 or more, got 3.0"),
        ("epochs = -3", "epochs: expected a whole number, 0 or more, got -3"),
        ("quiet = 1", "quiet: expected true or false, got 1"),
        ("quiet = 'true'", 'quiet: expected true or false, got "true"'),
        ("hidden = 3", "hidden: expected whole numbers, each 1 or more, got 3"),
        ("hidden = [3, 4.0]", "hidden: expected whole numbers, each 1 or more, got [3, 4.0]"),
        ("hidden = [true]", "hidden: expected whole numbers, each 1 or more, got [true]"),
        ("data = 3", "data: expected a path, got 3"),
        ("data = ''", 'data: expected a path, got ""'),
        ("learning_rate = nan", f"learning_rate: expected {RATES}, got NaN"),
        ("learning_rate = 1" + "0" * 400, f"learning_rate: expected {RATES}, got 1000"),
        ("learning_rate = []", f"learning_rate: expected {RATES}, got []"),
        ("learning_rate = [[0.1]]", f"learning_rate: expected {RATES}, got [[0.1]]"),
        ("dropout = 1", f"dropout: expected {SHARE}, got 1"),
        ("momentum = 'high'", f'momentum: expected {SHARE}, got "high"'),
        ("optimizer = 'nesterow'", f'optimizer: expected {OPTIMIZER}, got "nesterow": did you mean '),
        ("name = 2020-01-01", "name: expected a folder name without / or \\, control characters "),
        ("dtype = 'int8'", 'dtype: expected one of auto, float32, float64, got "int8"'),
        ("epochs = ", "not a TOML file (Invalid value (at end of document)): expected lines such"),
        ("seed = 1" + "0" * 5000, "not a TOML file ("),
        ("a = " + "[" * 5000, "not a TOML file ("),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_and_key(toml: Any, text: str, message: str) -> None:
    file = toml(text)
    with pytest.raises(ConfigError) as caught:
        parsed("--config", file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_a_config_error(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "absent.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            parsed("--config", str(path))
        assert str(caught.value) == (f"{path}: cannot be read ({reason}): --config takes a TOML file")


def test_a_file_that_is_not_text_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml: not a TOML file \([^\n]*$"):
        parsed("--config", str(tmp_path / "binary.toml"))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"), min_size=1
).filter(lambda name: bool(name.strip()) and not name.startswith("."))
PATHS = TEXT.map(Path)
SHARES = st.floats(0, 1, exclude_max=True)
POSITIVES = st.floats(0, exclude_min=True, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "data": st.none() | PATHS,
    "test_data": st.none() | PATHS,
    "validation": st.integers(0, 10**9),
    "normalize": st.sampled_from(get_args(types.Normalize)),
    "augment_shift": st.floats(0, 1000),
    "augment_rotate": st.floats(0, 180),
    "augment_scale": st.floats(0, 0.9),
    "augment_shear": st.floats(0, 10),
    "augment_elastic_alpha": st.floats(0, 10000),
    "augment_elastic_sigma": st.none() | st.floats(0.1, 100),
    "hidden": st.lists(st.integers(1, 10**6), max_size=5).map(tuple),
    "activation": st.sampled_from(get_args(types.Activation)),
    "batch_norm": st.booleans(),
    "dropout": SHARES,
    "input_dropout": SHARES,
    "init": st.sampled_from(get_args(types.Initialization)),
    "init_from": st.none() | PATHS,
    "epochs": st.integers(0, 10**9),
    "batch_size": st.just("full") | st.integers(1, 10**9),
    "loss": st.sampled_from(get_args(types.Loss)),
    "label_smoothing": SHARES,
    "patience": st.none() | st.integers(1, 10**9),
    "seed": st.integers(0, 2**64 - 1),
    "repeats": st.integers(1, 10**9),
    "optimizer": st.sampled_from(get_args(types.OptimizerName)),
    "momentum": st.none() | SHARES,
    "learning_rate": POSITIVES | st.lists(POSITIVES, min_size=1, unique=True).map(tuple),
    "schedule": st.sampled_from(get_args(types.ScheduleName)),
    "schedule_step_epochs": st.none() | st.integers(1, 10**9),
    "schedule_factor": st.none() | st.floats(0, 1, exclude_min=True),
    "warmup_epochs": st.integers(0, 10**9),
    "weight_decay": st.none() | st.floats(0, allow_infinity=False),
    "clip_norm": st.none() | POSITIVES,
    "max_norm": st.none() | POSITIVES,
    "arithmetic": st.sampled_from(get_args(types.Arithmetic)),
    "dtype": st.sampled_from(get_args(types.DType)),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
    "backend": st.sampled_from(get_args(types.BackendName)),
    "workers": st.just("auto") | st.integers(1, 10**9),
    "require_device": st.booleans(),
    "log_every": st.integers(1, 10**9),
    "checkpoint_seconds": st.none() | POSITIVES,
    "resume": st.none() | PATHS,
    "out": PATHS,
    "name": st.none() | NAME,
    "overwrite": st.booleans(),
    "report": st.booleans(),
    "track": st.lists(st.sampled_from(get_args(types.TrackerName)), unique=True).map(tuple),
    "quiet": st.booleans(),
    "debug": st.booleans(),
}


def made_consistent(values: dict[str, Any]) -> TrainConfig:
    """Return the settings, with defaults for those that contradict others."""
    while result := find_violations(values):
        values = {**values, **{one.name: getattr(TrainConfig(), one.name) for one in result}}
    return TrainConfig(**values)


CONFIGS = st.fixed_dictionaries(VALUES).map(made_consistent)
EXAMPLES = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def test_the_drawn_settings_are_all_there_are() -> None:
    assert list(VALUES) == NAMES


@EXAMPLES
@given(config=CONFIGS)
def test_the_printed_settings_read_back_to_equal_settings(tmp_path: Path, config: TrainConfig) -> None:
    file = tmp_path / "printed.toml"
    file.write_bytes(to_toml(config).encode())
    assert parsed("--config", str(file)) == config


@EXAMPLES
@given(config=CONFIGS)
def test_the_recorded_settings_read_back_to_equal_settings(config: TrainConfig) -> None:
    assert from_json(json.loads(json.dumps(to_json(config))), "run.json") == config


@EXAMPLES
@given(config=CONFIGS)
def test_flags_give_every_setting(config: TrainConfig) -> None:
    argv: list[str] = []
    for name, value in to_json(config).items():
        flag = "--" + name.replace("_", "-")
        if name == "report":
            argv += ["--no-report"] * (not value)
        elif isinstance(value, bool):
            argv += [flag] * value
        elif isinstance(value, list):
            argv += [flag, *map(str, value)]
        elif value is not None:
            argv.append(f"{flag}={value}")
    assert parsed(*argv) == config


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"epoch": 3}, 'run.json: unknown key "epoch": did you mean epochs? Keys are '),
        ({"epochs": "3"}, 'run.json: epochs: expected a whole number, 0 or more, got "3"'),
        ({"momentum": 0.9}, "--momentum: needs --optimizer momentum or nesterov, got sgd"),
    ],
)
def test_a_bad_record_of_settings_is_refused(record: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        from_json(record, "run.json")


def test_a_record_from_before_there_was_a_setting_has_its_default() -> None:
    assert from_json({"epochs": 3, "name": None}, "run.json") == TrainConfig(epochs=3)


def test_settings_without_a_value_are_left_out_of_the_toml() -> None:
    without = {field.name for field in fields(TrainConfig) if field.default is None}
    assert set(tomllib.loads(to_toml(TrainConfig()))) == set(NAMES) - without


def test_a_path_that_is_no_text_cannot_be_printed_as_toml() -> None:
    with pytest.raises(ConfigError, match=r"^--data: expected text that a TOML file can hold, "):
        to_toml(TrainConfig(data=Path("a\udcff")))


def test_resolved_settings_are_json_values() -> None:
    config = replace(TrainConfig(), data=Path("d"), hidden=(3, 4))
    values = to_json(config)
    assert json.loads(json.dumps(values)) == values
    assert list(values) == [field.name for field in fields(TrainConfig)]
    assert (values["data"], values["hidden"], values["name"]) == ("d", [3, 4], None)


def help_text(capsys: pytest.CaptureFixture[str], argv: Sequence[str] = ()) -> str:
    with pytest.raises(SystemExit) as caught:
        parse([*argv, "--help"], "xpnet train")
    assert caught.value.code == 0
    return capsys.readouterr().out


def descriptions(text: str) -> dict[str, list[str]]:
    """Return the lines that describe each flag in the help."""
    result: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if flag := re.match(r"  --([a-z][a-z-]*)", line):
            lines = result[flag[1].replace("-", "_")] = []
            lines += re.split(r" {2,}", line[2:])[1:]
        elif line.startswith(" " * 24):
            lines.append(line.strip())
    return result


def test_the_help_describes_every_flag_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text(capsys)
    described = descriptions(text)
    assert list(described) == ["recipe", "config", "print_config", *NAMES]
    assert all(described.values())
    assert "\n  --learning-rate, --lr FLOAT [FLOAT ...]\n" in text
    switches = [name for name in NAMES if isinstance(getattr(TrainConfig(), name), bool)]
    assert text.count("--no-") == len(switches) > 0
    assert "None" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_breaks_lines_only_where_they_are_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for lines in descriptions(help_text(capsys)).values():
        for line, following in itertools.pairwise(lines):
            assert len(f"{line} {following.split()[0]}") > 50, lines


def test_the_help_shows_the_defaults_that_the_file_sets(
    capsys: pytest.CaptureFixture[str], toml: Any
) -> None:
    text = help_text(capsys, ["--config", toml("epochs = 12345")])
    assert "12345" in text


def test_the_help_loads_no_array_library() -> None:
    code = (
        "import sys; from xpnet.config import parse\n"
        "try: parse(['--help'], 'xpnet train')\n"
        "except SystemExit: pass\n"
        "loaded = {'numpy', 'pandas', 'torch', 'jax', 'cupy', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arithmetic", "dtype", "expected"),
    [
        ("reproducible", "auto", "float64"),
        ("reproducible", "float64", "float64"),
        ("native", "auto", "float32"),
        ("native", "float64", "float64"),
    ],
)
def test_the_floating_point_type_follows_the_arithmetic(arithmetic, dtype, expected):
    assert TrainConfig(arithmetic=arithmetic, dtype=dtype).float_type == expected


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (types.OptimizerName, optim.OPTIMIZERS),
        (types.ScheduleName, schedules.SCHEDULES),
        (types.Activation, functional.ACTIVATIONS),
        (types.Loss, functional.LOSSES),
        (types.Arithmetic, ARITHMETICS),
        (types.Normalize, NORMALIZATIONS),
        (types.Initialization, get_args(init.Initialization)),
    ],
)
def test_the_names_are_those_of_what_is_implemented(names: Any, table: Any) -> None:
    assert list(get_args(names)) == list(table)


OPTIMIZER_OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"optimizer": "adam"}, {}),
    ({"optimizer": "momentum"}, {"decay": 0.9}),
    ({"optimizer": "nesterov", "momentum": 0.5}, {"decay": 0.5}),
    ({"optimizer": "momentum", "momentum": 0.0}, {"decay": 0.0}),
    ({"optimizer": "adamw"}, {"weight_decay": 0.01}),
    ({"optimizer": "adamw", "weight_decay": 0.0}, {"weight_decay": 0.0}),
    ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ({"clip_norm": 5.0, "max_norm": 2.0}, {"clip_norm": 5.0, "max_norm": 2.0}),
]


@pytest.mark.parametrize(("settings", "options"), OPTIMIZER_OPTIONS)
def test_the_options_of_an_optimizer_are_arguments_of_build(
    settings: dict[str, Any], options: dict[str, Any]
) -> None:
    result = TrainConfig(**settings)
    assert result.optimizer_options == {"weight_decay": 0.0, "clip_norm": None, "max_norm": None, **options}
    built = optim.build(arithmetic(numpy_backend("cpu")), result.optimizer, **result.optimizer_options)
    assert callable(built.update)


def default(function: Any, name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def test_defaults_that_depend_on_the_optimizer_are_those_of_its_rule() -> None:
    for name in ("momentum", "nesterov"):
        options = TrainConfig(optimizer=name).optimizer_options
        assert options["decay"] == default(optim.momentum, "decay")


def test_the_options_of_the_schedule_and_the_augmentation_are_the_settings() -> None:
    assert TrainConfig().schedule_options == {"factor": None, "warmup_epochs": 0}
    result = TrainConfig(schedule="step", schedule_step_epochs=5, schedule_factor=0.5, warmup_epochs=3)
    assert result.schedule_options == {"step_epochs": 5, "factor": 0.5, "warmup_epochs": 3}
    assert TrainConfig().augmentation == augment.Augmentation()
    assert TrainConfig(
        augment_shift=1.0,
        augment_rotate=2.0,
        augment_scale=0.3,
        augment_shear=0.4,
        augment_elastic_alpha=5.0,
        augment_elastic_sigma=6.0,
    ).augmentation == augment.Augmentation(1.0, 2.0, 0.3, 0.4, 5.0, 6.0)


def test_the_help_names_the_defaults_that_are_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    described = {
        name: " ".join(lines).partition("(default: ")[2][:-1]
        for name, lines in descriptions(help_text(capsys)).items()
    }
    assert float(described["augment_elastic_sigma"]) == augment.Augmentation().elastic_sigma
    assert int(described["schedule_step_epochs"]) == default(schedules.build, "step_epochs")
    falls = [schedules.build(name, 1.0, 1, 60)(30) for name in ("step", "exponential")]
    step, exponential = (float(word) for word in re.findall(r"[0-9.]+", described["schedule_factor"]))
    assert falls == [step, schedules.power(exponential, 30)]


def test_the_seeds_of_repeats_follow_each_other() -> None:
    assert list(TrainConfig(seed=5).seeds) == [5]
    assert list(TrainConfig(seed=5, repeats=3).seeds) == [5, 6, 7]
    assert TrainConfig(seed=2**64 - 3, repeats=3).seeds[-1] == 2**64 - 1
