"""Settings: flags, TOML files, recipes, their order of precedence, and what each value may be."""

import inspect
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from xpnet import train
from xpnet.arithmetic import ARITHMETICS
from xpnet.config import (
    Command,
    TrainConfig,
    constraints,
    from_json,
    list_recipes,
    parse,
    settings as types,
    to_json,
    to_toml,
)
from xpnet.config.keywords import ARGUMENTS, OF_FIT, OTHER_TYPES, FitSettings
from xpnet.config.training import RULES, read_recipe
from xpnet.errors import ConfigError, XPNetError, flag
from xpnet.nn import functional, optim

NAMES = [field.name for field in fields(TrainConfig)]
DEFAULT = TrainConfig()


def command_of(*argv):
    return parse(argv, "xpnet train")


def parsed(*argv):
    return command_of(*argv).config


@pytest.fixture
def toml(tmp_path):
    """Write a file of settings, and return its path."""

    def write(text):
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


NAN, INFINITY = float("nan"), float("inf")
BAD_NAMES = ["", " ", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\x85b", "a\u2028b", "a\ud800b", 3]
BAD_NAMES += ["a\u202eb", "a\u200bb", "CON", "nul", "Aux.txt", "COM1", "lpt9 .x", "a" * 256, "é" * 128]
FOLDER_NAME = "a folder name without / or \\, invisible characters or a leading dot"
FOLDER_NAME += ", of at most 255 bytes, not CON or NUL"
SAMPLES = "a number of samples, 0 or more (1 is one sample), or a share of them, above 0.0 and below 1.0"
SHARE, UP_TO_1 = "a number from 0 to below 1", "a number above 0, at most 1"
ABOVE_0, RATES = "a finite number above 0", "a finite number above 0, or several different ones"
BAD_RATES = [0.0, -0.1, NAN, INFINITY, True, (), (0.1, 0.0), (0.1, 0.1)]
TAGS = "words of at most 64 letters, digits and _ . : -, each once"
TRACKERS = "some of wandb, trackio, mlflow, each once"
SEED = f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})"
RECIPE = f"expected one of {', '.join(list_recipes())}"
SWITCHES = "batch_norm require_device resume_or_start overwrite report quiet debug"
COUNT, WHOLE = "a whole number, 0 or more", "a whole number, 1 or more"
LITERALS = {name: hint for name, hint in get_type_hints(TrainConfig).items() if get_origin(hint) is Literal}
AMOUNTS = [("shift", 1000, "pixels"), ("rotate", 180, "degrees"), ("scale", 0.9, "a share of the size")]
AMOUNTS += [("shear", 10, "pixels sideways per pixel of height"), ("elastic_alpha", 10000, "pixels")]
AMOUNTS += [("thickness", 1, "pixels")]
KINDS = [
    *(
        (name, f"one of {', '.join(get_args(literal))}", ["none of these", 1], get_args(literal))
        for name, literal in LITERALS.items()
    ),
    *(
        (f"augment_{name}", f"a number from 0 to {most} ({unit})", [-1.0, most * 1.01, NAN, True], [0, most])
        for name, most, unit in AMOUNTS
    ),
    ("augment_elastic_sigma", "a number from 0.1 to 100 (pixels)", [0.0, 101, NAN], [0.1, 100.0]),
    ("data test_data init_from resume extend out", "a path", [Path("a\0b"), "text", 3], [Path("a b")]),
    ("test_split", "a number between 0 and 1", [0.0, 1.0, NAN, True], [0.01, 0.99]),
    ("label", "the name or the number of a column", ["", 1], ["a\nb"]),
    ("drop", "names of columns, each once", [("",), ("a", "a"), "a"], [(), ("a b", "1")]),
    ("validation", SAMPLES, [-1, 0.0, 1.0, 1.5, NAN, True, "3", 2**63], [0, 1, 10**9, 0.1, 5e-324]),
    ("epochs warmup_epochs augment_fade_epochs", COUNT, [-1, 1.5, 2.0, True, "3", 10**3999], [0, 2**63 - 1]),
    ("patience average_epochs repeats schedule_step_epochs", WHOLE, [0, 1.5, True, 2**63], [1, 10**9]),
    ("keep_checkpoint_every", WHOLE, [0, 1.5, True, 2**63], [1, 10**9]),
    ("batch_size", f"full or {WHOLE}", [0, 1.5, "all", True, 2**63], ["full", 1]),
    ("workers jobs log_every", f"auto or {WHOLE}", [0, "all", 2**63], ["auto", 1]),
    ("seed", SEED, [-1, 2**64, 1.5], [0, 2**64 - 1]),
    ("hidden", "whole numbers, each 1 or more", [(3, 0), (True,), (3.0,), 3, (10**3999,)], [(), (1, 10**6)]),
    ("dropout input_dropout label_smoothing momentum", SHARE, [1.0, 1, -0.1, NAN, True, "0.5"], [0.0, 0.999]),
    ("clip_norm max_norm checkpoint_seconds", ABOVE_0, [0, 0.0, -2.0, NAN, INFINITY, 10**400], [5e-324]),
    ("learning_rate", RATES, BAD_RATES, [5e-324, 1e308, (0.1, 0.2)]),
    ("weight_decay input_noise", "a finite number, 0 or more", [-1e-4, INFINITY, NAN], [0.0]),
    ("schedule_factor", UP_TO_1, [0.0, 1.5, NAN], [5e-324, 1.0]),
    ("device", "auto, cpu, cuda, cuda:N, gpu, gpu:N or mps", ["", "cuda 1"], ["cuda:3", "gpu:1", "device1"]),
    ("track", TRACKERS, [("wand",), ("wandb",) * 2, "wandb"], [(), ("mlflow", "wandb")]),
    ("tags", TAGS, [("a b",), ("-a",), ("a",) * 2, ("a" * 65,), ({},), "a"], [(), ("a" * 64, "ü.1:x-_")]),
    ("name", FOLDER_NAME, BAD_NAMES, ["é b", "a.b", "-", "console", "com10", "a" * 255]),
    (SWITCHES, "true or false", [1, 0, "no"], [True, False]),
]
KIND_OF = {name: kind for names, *kind in KINDS for name in names.split()}


@pytest.mark.parametrize("name", NAMES)
def test_each_value_is_allowed_or_refused_in_one_line_with_flag_and_what_is_allowed(name):
    expected, bad, good = KIND_OF[name]
    message = re.escape(f"{flag(name)}: expected {expected}, got ")
    has_default = getattr(DEFAULT, name) is not None
    for value in (*good, *(() if has_default else (None,))):
        RULES[name].check(flag(name), value)
    for value in (*bad, *((None,) if has_default else ())):
        with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
            TrainConfig(**{name: value})


NO_LAYERS = "needs hidden layers: leave it out, or give --hidden their units"
MODEL = Path("m.safetensors")
TWO_RATES = {"learning_rate": (0.1, 0.3)}
WRONG_TOGETHER = [
    ({"test_data": Path("t.csv")}, "--test-data: needs --data TRAIN.csv beside it, got t.csv alone"),
    ({"data": Path("d.csv"), "test_data": Path("t.csv"), "test_split": 0.2}, "--test-split: there is --test"),
    ({"augment_elastic_sigma": 4.0}, "--augment-elastic-sigma: needs --augment-elastic-alpha, the strength "),
    ({"augment_fade_epochs": 3}, "--augment-fade-epochs: needs a distortion that fades, such as --augment-"),
    ({"augment_fade_epochs": 6, "augment_shift": 1.0, "epochs": 5}, "--augment-fade-epochs: expected at mos"),
    ({"activation": "tanh", "hidden": ()}, f"--activation: {NO_LAYERS}"),
    ({"batch_norm": True, "hidden": ()}, f"--batch-norm: {NO_LAYERS}"),
    ({"batch_norm": True, "batch_size": 1}, "--batch-norm: needs a --batch-size of 2 or more, got 1: one "),
    ({"dropout": 0.5, "hidden": ()}, "--dropout: needs hidden layers: give --hidden their units; --input-"),
    ({"init": "he", "init_from": MODEL}, "--init: the initial parameters come from --init-from: give one "),
    ({"patience": 3}, "--patience: needs --validation, the samples that tell when to stop"),
    ({"best_by": "loss"}, "--best-by: needs --validation, the samples that it judges by"),
    ({"average_epochs": 2, "patience": 3, "validation": 5}, "--average-epochs: there is --patience already:"),
    ({"average_epochs": 6, "epochs": 5}, "--average-epochs: expected at most the number of --epochs, 5, got"),
    ({"seed": 2**64 - 2, "repeats": 3}, "--repeats: the last seed is above 2^64 - 1: use a smaller --seed"),
    ({**TWO_RATES, "repeats": 3, "validation": 10}, "--repeats: expected 1 with several learning rates: "),
    ({"jobs": 2}, "--jobs: needs several trainings: add --repeats, or several --learning-rate"),
    ({"momentum": 0.9}, "--momentum: needs --optimizer momentum or nesterov, got sgd"),
    (TWO_RATES, "--learning-rate: several need --validation, the samples to compare them "),
    ({"schedule_step_epochs": 30}, "--schedule-step-epochs: needs --schedule step, got constant"),
    ({"schedule_factor": 0.1}, "--schedule-factor: needs --schedule step, exponential or cosine, got consta"),
    ({"warmup_epochs": 6, "epochs": 5}, "--warmup-epochs: expected at most the number of --epochs, 5, got 6"),
    ({"dtype": "float32"}, "--dtype: reproducible arithmetic takes auto or float64, got float32: add --arit"),
    ({"overwrite": True}, "--overwrite: needs --name NAME, the run that it replaces"),
    ({"resume_or_start": True}, "--resume-or-start: needs --name NAME, the run to go on with, and no --over"),
    ({"resume_or_start": True, "name": "big", "repeats": 2}, "--resume-or-start: expected one training, not"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_TOGETHER)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        TrainConfig(**values)


def find_violations(values):
    """Return the violated constraints, which a resumed run does not raise."""
    return list(constraints.find_violations(SimpleNamespace(**{**vars(DEFAULT), **values})))


def test_every_constraint_has_a_row_of_its_own():
    result = [find_violations(row) for row, _ in WRONG_TOGETHER]
    assert [len(one) for one in result] == [1] * len(WRONG_TOGETHER)
    assert len(result) == inspect.getsource(constraints).count("        yield ")


def test_no_flags_mean_the_defaults_and_each_flag_is_explicit_but_print_config():
    assert command_of() == Command(TrainConfig(), print_config=False, explicit=frozenset())
    explicit = frozenset(name for name in NAMES if getattr(DEFAULT, name) is not None)
    expected = Command(DEFAULT, print_config=True, explicit=explicit)
    assert command_of("--print-config", *to_flags(DEFAULT)) == expected
    assert parsed("--resume", "run", "--patience", "3").patience == 3  # the run may have --validation


RATES = "expected a finite number above 0, or several different ones"
WORDS = "expected words of at most 64 letters, digits and _ . : -, each once"
LOSSES = "cross-entropy, squared-error"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--optimiser adam", "unrecognized arguments: --optimiser adam: did you mean --optimizer? ("),
        ("--max-iter 9", "unrecognized arguments: --max-iter 9: did you mean --epochs? ("),
        ("--recipe Quik", f'--recipe: {RECIPE}, got "Quik": did you mean quick?'),
        ("--hidden 3 x", '--hidden: expected whole numbers, each 1 or more, got [3, "x"]'),
        (
            "--hidden 64,32",
            '--hidden: expected whole numbers, each 1 or more, got ["64,32"]: did you mean 64 32?',
        ),
        ("--hidden 64,x", '--hidden: expected whole numbers, each 1 or more, got ["64,x"]'),
        ("--lr 0,01", f'--learning-rate: {RATES}, got ["0,01"]: did you mean 0.01?'),
        ("--lr 0.1,0.01", f'--learning-rate: {RATES}, got ["0.1,0.01"]: did you mean 0.1 0.01?'),
        ("--momentum 0,9", '--momentum: expected a number from 0 to below 1, got "0,9": did you mean 0.9?'),
        ("--loss mse", f'--loss: expected one of {LOSSES}, got "mse": did you mean squared-error?'),
        ("--tags a,b", f'--tags: {WORDS}, got ["a,b"]: did you mean a b?'),
    ],
)
def test_a_flag_error_is_one_line_with_the_nearest_flag(words, message):
    with pytest.raises(XPNetError, match=f"^{re.escape(message)}[^\n]*$"):
        parsed(*words.split())


@pytest.mark.parametrize("values", [row for row, _ in WRONG_TOGETHER if find_violations(row)[0][1]])
def test_a_setting_falls_where_a_later_source_leaves_it_without_sense(values):
    ((name, winner, _),) = find_violations(values)
    defaults = dict(vars(DEFAULT))
    earlier = {key: value for key, value in values.items() if key != winner}
    later = {winner: values.get(winner, defaults[winner])}
    merged, explicit = constraints.merge_settings(defaults, [earlier, later])
    assert vars(merged) == defaults | earlier | later | {name: defaults[name]}
    assert name not in explicit
    merged, explicit = constraints.merge_settings(defaults, [later, earlier])
    assert getattr(merged, name) == values[name]
    assert name in explicit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", 'unknown key "epoch": did you mean epochs? Keys are the flags of '),
        ('recipe = "../x"', f'recipe: {RECIPE}, got "../x"'),
        ("epochs = ", "not a TOML file (Invalid value (at end of document)): expected lines such"),
        ("a = " + "[" * 5000, "not a TOML file ("),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_and_key(toml, text, message):
    file = toml(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {message}')}[^\n]*$"):
        parsed("--config", file)


def to_flags(config):
    """Return a command line that gives all settings that are not None."""
    argv = []
    for name, value in to_json(config).items():
        if isinstance(value, bool):
            argv.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, list):
            argv += [flag(name), *map(str, value)]
        elif value is not None:
            argv.append(f"{flag(name)}={value}")
    return argv


EVERYTHING = """
--data=a'b.csv --test-split=0.2 --label=é"ü --missing=mean --drop a=b 7 --encode=onehot --unknown=zeros
--columns=pixels --validation=0.5 --normalize=none
--augment-shift=1.5 --augment-rotate=2 --augment-scale=0.1 --augment-shear=0.5 --augment-elastic-alpha=3
--augment-elastic-sigma=5 --augment-thickness=0.5 --augment-fade-epochs=2 --hidden 3 4 --activation=tanh
--batch-norm --dropout=0.5 --input-dropout=0.25 --input-noise=0.5
--init=he --epochs=7 --batch-size=32 --loss=squared-error --label-smoothing=0.1 --class-weight=balanced
--patience=2 --best-by=loss
--seed=18446744073709551615 --optimizer=nesterov --momentum=0.5 --learning-rate 0.1 5e-324 --schedule=step
--schedule-step-epochs=3 --schedule-factor=0.5 --warmup-epochs=2 --weight-decay=1e-5 --clip-norm=1e300
--max-norm=2 --arithmetic=native --dtype=float64 --device=cuda:1 --backend=torch --workers=3
--jobs=2 --require-device --log-every=2 --checkpoint-seconds=9.5
--keep-checkpoint-every=5 --out=-out --name=None --overwrite --no-report
--track mlflow wandb --tag a --tag b --quiet --debug"""
THE_REST = [
    "--data=d.csv --test-data=t.csv --init-from=m --repeats=3 --resume=runs/x",
    "--extend=runs/x --average-epochs=4",
    "--resume-or-start --name=big",
]


def test_settings_come_back_from_flags_toml_and_a_record(toml):
    commands = [command_of(*words.split()) for words in (EVERYTHING, *THE_REST)]
    assert frozenset.union(*(command.explicit for command in commands)) == {*NAMES}
    for config, explicit in ((command.config, command.explicit) for command in commands):
        assert all(getattr(config, name) != getattr(DEFAULT, name) for name in explicit)
        assert parsed(*to_flags(config)) == config
        assert parsed("--config", toml(to_toml(config))) == config
        assert from_json(json.loads(json.dumps(to_json(config))), "run.json") == config


def test_the_names_are_those_of_what_is_implemented():
    assert get_args(types.OptimizerName) == tuple(optim.OPTIMIZERS)
    assert get_args(types.ActivationName) == tuple(functional.ACTIVATIONS)
    assert get_args(types.LossName) == tuple(functional.LOSSES)
    assert get_args(types.Arithmetic) == tuple(ARITHMETICS)


def test_the_keywords_of_fit_are_the_settings_and_none():
    hints, keywords = get_type_hints(TrainConfig), get_type_hints(FitSettings)
    assert keywords.keys() == OF_FIT - ARGUMENTS
    assert keywords["hidden"] == int | Sequence[int] | None
    for name in keywords.keys() - OTHER_TYPES.keys():
        assert keywords[name] == hints[name] | None, name


@pytest.mark.tooling
def test_type_checkers_see_the_keywords_of_fit():
    import keyword_types

    assert keyword_types.FILE.read_text() == keyword_types.content(), "run python scripts/keyword_types.py"


NONE = {"weight_decay": None, "clip_norm": None, "max_norm": None}
STEP = {"schedule_step_epochs": 5, "schedule_factor": 0.5, "warmup_epochs": 3}
DERIVED = [
    *(({"epochs": count}, "log_interval", n) for count, n in ((0, 1), (20, 1), (21, 2), (1009, 100))),
    ({"optimizer": "momentum"}, "optimizer_options", NONE),
    ({"optimizer": "nesterov", "momentum": 0.0}, "optimizer_options", {**NONE, "decay": 0.0}),
    ({"schedule": "step", **STEP}, "schedule_options", {"step_epochs": 5, "factor": 0.5, "warmup_epochs": 3}),
]


@pytest.mark.parametrize(("values", "name", "expected"), DERIVED)
def test_what_follows_from_the_settings(values, name, expected):
    assert getattr(TrainConfig(**values), name) == expected


def test_a_share_of_the_samples_is_rounded_to_at_least_one():
    for share, count, held_out in (0, 60, 0), (50, 60, 50), (0.1, 57, 6), (0.1, 54, 5), (0.001, 60, 1):
        assert TrainConfig(validation=share).validation_samples(count) == held_out


RECIPES = Path(types.__file__).parent / "recipes"
LEFT_TO_THE_USER = {"data", "test_data", "device", "backend", "workers", "seed", "repeats", "jobs"}
LEFT_TO_THE_USER |= {"out", "name", "overwrite", "resume", "init_from", "quiet", "debug"}


PROMISED = {
    "notebook": {},
    "softmax": {"hidden": (), "loss": "cross-entropy"},
    "hinton-500-300": {"hidden": (500, 300), "weight_decay": 0.1},
    "simard-800-plain": {"hidden": (800,), "augment_rotate": 0.0},
    "ciresan-2010": {"hidden": (2500, 2000, 1500, 1000, 500), "activation": "tanh"},
    "tabular": {"hidden": (100,), "normalize": "standardize", "arithmetic": "reproducible"},
    "dropout-1024": {"hidden": (1024, 1024, 1024)},
}
"""What the names of some recipes say."""


def from_recipe(name):
    return TrainConfig(**read_recipe(name))


@pytest.mark.parametrize("name", PROMISED)
def test_a_recipe_is_what_its_name_says(name):
    config = from_recipe(name)
    assert config == replace(config, **PROMISED[name])
    assert (config == DEFAULT) == (name == "notebook")
    assert (config.dropout > 0) == (name == "dropout-1024")


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_says_nothing_about_places_and_printed_it_reads_back(name, toml, capsys):
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    assert not LEFT_TO_THE_USER & tomllib.loads(text).keys()
    assert text.startswith("# ")
    assert train.main(["--recipe", name, "--print-config"]) == 0
    config = parsed("--recipe", name)
    assert from_recipe(name) == config == parsed("--config", toml(capsys.readouterr().out))
    assert (config == DEFAULT) == (name == "notebook")


def test_a_flag_wins_over_the_file_the_file_over_the_recipe_and_that_over_the_default(toml):
    quick, mine = from_recipe("quick"), toml('recipe = "quick"\nepochs = 7\n')
    assert quick.epochs not in (7, 9, DEFAULT.epochs)
    assert quick.optimizer != DEFAULT.optimizer
    command = command_of("--config", mine)
    assert command.config == replace(quick, epochs=7)
    assert command.explicit >= {"epochs", "optimizer"}
    config = parsed("--config", mine, "--epochs", "9", "--optimizer", "sgd")
    assert config == replace(quick, epochs=9, optimizer="sgd")
    assert parsed("--config", mine, "--recipe=simard-800") == replace(from_recipe("simard-800"), epochs=7)
    config, recipe = parsed("--recipe", "dropout-1024", "--hidden"), from_recipe("dropout-1024")
    assert (config.dropout, config.input_dropout) == (0.0, recipe.input_dropout)
    with pytest.raises(ConfigError, match=r"^--momentum: needs --optimizer "):
        parsed("--config", toml("optimizer = 'adam'"), "--momentum", "0.5")
