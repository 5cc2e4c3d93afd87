"""Settings: flags, TOML files, recipes, their order of precedence, and what each value may be."""

import inspect
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args, get_origin, get_type_hints

import keyword_types
import pytest

from xpnet import train
from xpnet.config import TrainConfig, constraints, from_json, list_recipes, parse, to_json, to_toml, training
from xpnet.config.training import read_recipe
from xpnet.errors import ConfigError, XPNetError, flag

NAMES = [field.name for field in fields(TrainConfig)]
DEFAULT = TrainConfig()


def parsed(*argv):
    return parse(argv, "xpnet train").config


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "settings.toml"
    return lambda text: path.write_text(text, encoding="utf-8") and str(path)


NAN, INFINITY = float("nan"), float("inf")
BAD_NAMES = ["", ".hidden", "a/b", "a\\b", "a\0b", "a\x1bb", "a\ud800b", "a\u202eb", "lpt9 .x", "é" * 128]
SWITCHES = "batch_norm require_device resume_or_start overwrite report quiet debug"
AMOUNTS = {"shift": 1000, "rotate": 180, "scale": 0.9, "shear": 10, "elastic_alpha": 10000, "thickness": 1}
LITERALS = {name: hint for name, hint in get_type_hints(TrainConfig).items() if get_origin(hint) is Literal}
KINDS = [
    *((name, ["none of these", 1], get_args(literal)) for name, literal in LITERALS.items()),
    *((f"augment_{name}", [-1.0, most * 1.01, NAN], [0, most]) for name, most in AMOUNTS.items()),
    ("augment_elastic_sigma", [0.0, 101], [0.1, 100.0]),
    ("data test_data init_from resume extend out", [Path("a\0b"), "text"], [Path("a b")]),
    ("test_split", [0.0, 1.0], [0.01, 0.99]),
    ("label", ["", 1], ["a\nb"]),
    ("drop", [("",), ("a", "a"), "a"], [(), ("a b", "1")]),
    ("validation", [-1, 0.0, 1.0, NAN, True, "3", 2**63], [0, 10**9, 0.001]),
    ("epochs warmup_epochs augment_fade_epochs", [-1, 2.0, True, "3", 10**3999], [0, 2**63 - 1]),
    ("patience average_epochs repeats schedule_step_epochs keep_checkpoint_every", [0, 1.5, True], [1]),
    ("batch_size", [0, 1.5, "all"], ["full", 1]),
    ("workers jobs log_every", [0, "all"], ["auto", 1]),
    ("seed", [-1, 2**64, 1.5], [0, 2**64 - 1]),
    ("hidden", [(3, 0), (True,), (3.0,), 3], [(), (1, 10**6)]),
    ("dropout input_dropout label_smoothing momentum", [1.0, -0.1, True, "0.5"], [0.0, 0.999]),
    ("clip_norm max_norm checkpoint_seconds", [0, NAN, INFINITY, 10**400], [5e-324]),
    ("learning_rate", [0.0, NAN, (), (0.1, 0.0), (0.1, 0.1)], [5e-324, 1e308, (0.1, 0.2)]),
    ("weight_decay input_noise", [-1e-4, INFINITY, NAN], [0.0]),
    ("schedule_factor", [0.0, 1.5], [5e-324, 1.0]),
    ("device", ["", "cuda 1"], ["cuda:3", "device1"]),
    ("track", [("wand",), ("wandb",) * 2, "wandb"], [("mlflow", "wandb")]),
    ("tags", [("a b",), ("-a",), ("a",) * 2, ("a" * 65,)], [(), ("a" * 64, "ü.1:x-_")]),
    ("name", BAD_NAMES, ["é b", "a.b", "-", "console", "com10", "a" * 255]),
    (SWITCHES, [1, "no"], [True, False]),
]
KIND_OF = {name: kind for names, *kind in KINDS for name in names.split()}


def to_flags(config):
    argv = []
    for name, value in to_json(config).items():
        if isinstance(value, bool):
            argv.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, list):
            argv += [flag(name), *map(str, value)]
        elif value is not None:
            argv.append(f"{flag(name)}={value}")
    return argv


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_refused_in_one_line_or_comes_back_from_flags_toml_and_a_record(name, toml):
    (bad, good), optional = KIND_OF[name], getattr(DEFAULT, name) is None
    goes_on = name in ("resume", "extend", "resume_or_start")
    beside = {"name": "x"} if goes_on else {"resume": Path("x"), "validation": 5}  # which need no others
    for value in (*good, *[None] * optional):
        config = TrainConfig(**{**beside, name: value})
        assert parsed(*to_flags(config)) == config == parsed("--config", toml(to_toml(config)))
        assert from_json(json.loads(json.dumps(to_json(config))), "run.json") == config
    for value in (*bad, *[None] * (not optional)):
        with pytest.raises(ConfigError, match=f"^{flag(name)}: expected [^\n]*, got [^\n]*$"):
            TrainConfig(**{name: value})


WRONG_TOGETHER = [
    ({"test_data": Path("t.csv")}, "test-data: needs --data TRAIN.csv"),
    ({"data": Path("d"), "test_data": Path("t"), "test_split": 0.2}, "test-split: there is --test-data"),
    ({"augment_elastic_sigma": 4.0}, "augment-elastic-sigma: needs --augment-elastic-alpha"),
    ({"augment_fade_epochs": 3}, "augment-fade-epochs: needs a distortion that fades"),
    ({"augment_fade_epochs": 6, "augment_shift": 1.0, "epochs": 5}, "augment-fade-epochs: expected at most"),
    ({"activation": "tanh", "hidden": ()}, "activation: needs hidden layers"),
    ({"batch_norm": True, "hidden": ()}, "batch-norm: needs hidden layers"),
    ({"batch_norm": True, "batch_size": 1}, "batch-norm: needs a --batch-size of 2 or more, got 1"),
    ({"dropout": 0.5, "hidden": ()}, "dropout: needs hidden layers"),
    ({"init": "he", "init_from": Path("m")}, "init: the initial parameters come from --init-from"),
    ({"patience": 3}, "patience: needs --validation"),
    ({"best_by": "loss"}, "best-by: needs --validation"),
    ({"average_epochs": 2, "patience": 3, "validation": 5}, "average-epochs: there is --patience"),
    ({"average_epochs": 6, "epochs": 5}, "average-epochs: expected at most the number of --epochs, 5"),
    ({"seed": 2**64 - 2, "repeats": 3}, "repeats: the last seed is above"),
    ({"learning_rate": (0.1, 0.3), "repeats": 3, "validation": 10}, "repeats: expected 1 with several"),
    ({"jobs": 2}, "jobs: needs several trainings"),
    ({"momentum": 0.9}, "momentum: needs --optimizer momentum or nesterov, got sgd"),
    ({"learning_rate": (0.1, 0.3)}, "learning-rate: several need --validation"),
    ({"schedule_step_epochs": 30}, "schedule-step-epochs: needs --schedule step, got constant"),
    ({"schedule_factor": 0.1}, "schedule-factor: needs --schedule step, exponential or cosine"),
    ({"warmup_epochs": 6, "epochs": 5}, "warmup-epochs: expected at most the number of --epochs, 5, got 6"),
    ({"dtype": "float32"}, "dtype: reproducible arithmetic takes auto or float64, got float32"),
    ({"overwrite": True}, "overwrite: needs --name NAME"),
    ({"resume_or_start": True}, "resume-or-start: needs --name NAME"),
    ({"resume_or_start": True, "name": "big", "repeats": 2}, "resume-or-start: expected one training, not"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_TOGETHER)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ConfigError, match=f"^--{message}"):
        TrainConfig(**values)


def find_violations(values):
    """Return the violated constraints, which a resumed run does not raise."""
    return list(constraints.find_violations(SimpleNamespace(**{**vars(DEFAULT), **values})))


def test_every_constraint_has_a_row_of_its_own():
    assert all(len(find_violations(values)) == 1 for values, _ in WRONG_TOGETHER)
    assert len(WRONG_TOGETHER) == inspect.getsource(constraints).count("        yield ")


@pytest.mark.parametrize("values", [row for row, _ in WRONG_TOGETHER if find_violations(row)[0][1]])
def test_a_setting_falls_where_a_later_source_leaves_it_without_sense(values):
    ((name, winner, _),) = find_violations(values)
    defaults = dict(vars(DEFAULT))
    earlier = {key: value for key, value in values.items() if key != winner}
    later = {winner: values.get(winner, defaults[winner])}
    merged, explicit = training.merge_settings([earlier, later])
    assert (getattr(merged, name), name in explicit) == (defaults[name], False)
    merged, _ = training.merge_settings([later, earlier])
    assert getattr(merged, name) == values[name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--optimiser adam", "unrecognized arguments: --optimiser adam: did you mean --optimizer? ("),
        ("--recipe Quik", '--recipe: expected one of … , got "Quik": did you mean quick?'),
        ("--hidden 64,32", '--hidden: expected … , got ["64,32"]: did you mean 64 32?'),
        ("--loss mse", '--loss: expected … , got "mse": did you mean squared-error?'),
    ],
)
def test_a_flag_error_is_one_line_with_what_was_meant(words, message):
    start, _, end = map(re.escape, message.partition(" … "))
    with pytest.raises(XPNetError, match=f"^{start}[^\n]*{end}[^\n]*$"):
        parsed(*words.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", 'unknown key "epoch": did you mean epochs?'),
        ('recipe = "../x"', "recipe: expected one of "),
        ("a = " + "[" * 5000, "not a TOML file ("),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_and_key(toml, text, message):
    file = toml(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {message}')}[^\n]*$"):
        parsed("--config", file)


@pytest.mark.tooling
def test_type_checkers_see_the_keywords_of_fit():
    assert keyword_types.FILE.read_text() == keyword_types.content(), "run python scripts/keyword_types.py"


@pytest.mark.parametrize(("share", "held_out"), [(0, 0), (50, 50), (0.1, 6), (0.001, 1)])
def test_a_share_of_the_samples_is_rounded_to_at_least_one(share, held_out):
    assert TrainConfig(validation=share).validation_samples(57) == held_out


PLACES = {"data", "test_data", "device", "backend", "workers", "seed", "repeats", "jobs", "out", "name"}
PROMISED = {
    "notebook": vars(DEFAULT),
    "softmax": {"hidden": (), "loss": "cross-entropy"},
    "tabular": {"hidden": (100,), "normalize": "standardize", "arithmetic": "reproducible"},
}


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_what_its_name_says_without_places_and_printed_it_reads_back(name, toml, capsys):
    recipe = read_recipe(name)
    config = TrainConfig(**recipe)
    assert not PLACES & recipe.keys()
    assert config == replace(config, **PROMISED.get(name, {}))
    assert train.main(["--recipe", name, "--print-config"]) == 0
    assert parsed("--recipe", name) == config == parsed("--config", toml(capsys.readouterr().out))


def test_a_flag_wins_over_the_file_the_file_over_the_recipe_and_that_over_the_default(toml):
    quick, mine = TrainConfig(**read_recipe("quick")), toml('recipe = "quick"\nepochs = 7\n')
    assert parsed() == DEFAULT
    command = parse(("--config", mine), "xpnet train")
    assert command.config == replace(quick, epochs=7) != quick
    assert command.explicit >= {"epochs", "optimizer"}
    config = parsed("--config", mine, "--epochs", "9", "--optimizer", "sgd")
    assert config == replace(quick, epochs=9, optimizer="sgd") != replace(quick, epochs=9)
    assert parsed("--recipe", "dropout-1024", "--hidden").dropout == 0.0
    with pytest.raises(ConfigError, match=r"^--momentum: needs --optimizer "):
        parsed("--config", toml("optimizer = 'adam'"), "--momentum", "0.5")
