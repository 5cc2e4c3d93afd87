"""Settings: flags, TOML files, their order of precedence, and what each value may be."""

import inspect
import json
import os
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet.arithmetic import ARITHMETICS
from xpnet.config import Command, TrainConfig, constraints, from_json, parse, to_json, to_toml
from xpnet.config import settings as types
from xpnet.data import augment
from xpnet.errors import ConfigError, XPNetError
from xpnet.nn import functional, init, optim, schedules
from xpnet.storage.model_file import NORMALIZATIONS

NAMES = [field.name for field in fields(TrainConfig)]
DEFAULT = TrainConfig()


def command_of(*argv: str) -> Command:
    return parse(argv, "xpnet train")


def parsed(*argv: str) -> TrainConfig:
    return command_of(*argv).config


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


class Kind(NamedTuple):
    """What settings of a kind may be: the names, the rule in words, values that break it, allowed values."""

    names: str
    expected: str
    bad: Sequence[object]
    good: st.SearchStrategy[Any]


def one_of(name: str, literal: object, *bad: object) -> Kind:
    words = get_args(literal)
    return Kind(name, f"one of {', '.join(words)}", ("none of these", 1, *bad), st.sampled_from(words))


def limit(name: str, highest: float, unit: str) -> Kind:
    expected = f"a number from 0 to {highest:g} ({unit})"
    return Kind(name, expected, (-1.0, highest * 1.01, NAN, True), st.floats(0, highest))


def whole(names: str, lowest: int) -> Kind:
    bad = (lowest - 1, 1.5, 2.0, True, "3")
    return Kind(names, f"a whole number, {lowest} or more", bad, st.integers(lowest, 10**9))


def word_or_whole(name: str, word: str) -> Kind:
    good = st.just(word) | st.integers(1, 10**9)
    return Kind(name, f"{word} or a whole number, 1 or more", (0, 1.5, "all", True), good)


NAN, INFINITY = float("nan"), float("inf")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\")
NAME = st.text(LETTERS, min_size=1).filter(lambda name: bool(name.strip()) and not name.startswith("."))
BAD_NAMES = ["", " ", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\x85b", "a\u2028b"]
FOLDER_NAME = "a folder name without / or \\, control characters or a leading dot"
UNITS = st.lists(st.integers(1, 10**6), max_size=5).map(tuple)
TRACKERS = st.lists(st.sampled_from(get_args(types.TrackerName)), unique=True).map(tuple)
DEVICES = st.sampled_from(["auto", "cpu", "cuda", "cuda:3", "device1"])
SHARE, SHARES = "a number from 0 to below 1", st.floats(0, 1, exclude_max=True)
ABOVE_0, POSITIVE = "a finite number above 0", st.floats(0, exclude_min=True, allow_infinity=False)
RATES, RATE_LISTS = f"{ABOVE_0}, or several different ones", st.lists(POSITIVE, min_size=2, unique=True)
BAD_RATES = (0.0, -0.1, NAN, INFINITY, True, (), (0.1, 0.0), (0.1, 0.1))
UP_TO_1, SOME_TRACKERS = "a number above 0, at most 1", "some of wandb, trackio, mlflow, each once"
SEED = f"a whole number from 0 to 2^64 - 1 ({2**64 - 1})"
OPTIMIZER = "one of sgd, momentum, nesterov, adam, adamw"
SWITCHES = "batch_norm require_device overwrite report quiet debug"
KINDS = [
    Kind("data test_data init_from resume out", "a path", (Path("a\0b"), "text", 3), TEXT.map(Path)),
    Kind("test_split", "a number between 0 and 1", (0.0, 1.0, NAN, True), st.floats(0.01, 0.99)),
    Kind("label", "the name or the number of a column", ("", 1), TEXT),
    one_of("missing", types.Missing),
    one_of("columns", types.ColumnKind),
    whole("validation epochs warmup_epochs", 0),
    whole("patience repeats schedule_step_epochs log_every", 1),
    word_or_whole("batch_size", "full"),
    word_or_whole("workers", "auto"),
    Kind("seed", SEED, (-1, 2**64, 1.5), st.integers(0, 2**64 - 1)),
    Kind("hidden", "whole numbers, each 1 or more", ((3, 0), (True,), (3.0,), 3), UNITS),
    Kind("dropout input_dropout label_smoothing momentum", SHARE, (1.0, 1, -0.1, NAN, True, "0.5"), SHARES),
    Kind("clip_norm max_norm checkpoint_seconds", ABOVE_0, (0, 0.0, -2.0, NAN, INFINITY, 10**400), POSITIVE),
    Kind("learning_rate", RATES, BAD_RATES, POSITIVE | RATE_LISTS.map(tuple)),
    Kind("weight_decay", "a finite number, 0 or more", (-1e-4, INFINITY, NAN), st.just(0.0) | POSITIVE),
    Kind("schedule_factor", UP_TO_1, (0.0, 1.5, NAN), st.floats(0, 1, exclude_min=True)),
    limit("augment_shift", 1000, "pixels"),
    limit("augment_rotate", 180, "degrees"),
    limit("augment_scale", 0.9, "a share of the size"),
    limit("augment_shear", 10, "pixels sideways per pixel of height"),
    limit("augment_elastic_alpha", 10000, "pixels"),
    Kind("augment_elastic_sigma", "a number from 0.1 to 100 (pixels)", (0.0, 101, NAN), st.floats(0.1, 100)),
    one_of("normalize", types.Normalize),
    one_of("activation", types.Activation),
    one_of("init", types.Initialization),
    one_of("loss", types.Loss),
    one_of("optimizer", types.OptimizerName, ["sgd"]),
    one_of("schedule", types.ScheduleName),
    one_of("arithmetic", types.Arithmetic),
    one_of("dtype", types.DType),
    one_of("backend", types.BackendName),
    Kind("device", "auto, cpu, cuda or cuda:N", ("", "cuda 1"), DEVICES),
    Kind("track", SOME_TRACKERS, (("wand",), ("wandb",) * 2, "wandb"), TRACKERS),
    Kind("name", FOLDER_NAME, (*BAD_NAMES, "a\ud800b", 3), NAME),
    Kind(SWITCHES, "true or false", (1, 0, "no"), st.booleans()),
]
KIND_OF = {name: kind for kind in KINDS for name in kind.names.split()}


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_value_is_refused_in_one_line_with_flag_and_what_is_allowed(name: str) -> None:
    kind, without = KIND_OF[name], (None,) if getattr(DEFAULT, name) is not None else ()
    message = re.escape(f"{flag(name)}: expected {kind.expected}, got ")
    for value in (*kind.bad, *without):
        with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
            TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("data", Path("a\0b"), r'"a\u0000b"'),
        ("dropout", NAN, "NaN"),
        ("batch_norm", None, "null"),
        ("normalize", "standardise", '"standardise": did you mean standardize?'),
        ("activation", "x", '"x"'),
        ("name", "/" * 10_000, f'"{"/" * 56}...'),
    ],
)
def test_the_message_shows_the_value_and_the_nearest_word(name: str, value: Any, got: str) -> None:
    with pytest.raises(ConfigError, match=f", got {re.escape(got)}$"):
        TrainConfig(**{name: value})


NO_LAYERS = "needs hidden layers: leave it out, or give --hidden their units"
MODEL = Path("m.safetensors")
TWO_RATES = {"learning_rate": (0.1, 0.3)}
WRONG_TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"test_data": Path("t.csv")}, "--test-data: needs --data TRAIN.csv beside it, got t.csv alone"),
    (
        {"data": Path("d.csv"), "test_data": Path("t.csv"), "test_split": 0.2},
        "--test-split: there is --test-data already: give one of the two",
    ),
    ({"augment_elastic_sigma": 4.0}, "--augment-elastic-sigma: needs --augment-elastic-alpha, the strength "),
    ({"activation": "tanh", "hidden": ()}, f"--activation: {NO_LAYERS}"),
    ({"batch_norm": True, "hidden": ()}, f"--batch-norm: {NO_LAYERS}"),
    ({"batch_norm": True, "batch_size": 1}, "--batch-norm: needs a --batch-size of 2 or more, got 1: one "),
    ({"dropout": 0.5, "hidden": ()}, "--dropout: needs hidden layers: give --hidden their units; --input-"),
    ({"init": "he", "init_from": MODEL}, "--init: the initial parameters come from --init-from: give one "),
    ({"patience": 3}, "--patience: needs --validation N, the number of samples that tell when to stop"),
    ({"seed": 2**64 - 2, "repeats": 3}, "--repeats: the last seed is above 2^64 - 1: use a smaller --seed"),
    ({**TWO_RATES, "repeats": 3, "validation": 10}, "--repeats: expected 1 with several learning rates: "),
    ({"momentum": 0.9}, "--momentum: needs --optimizer momentum or nesterov, got sgd"),
    (TWO_RATES, "--learning-rate: several need --validation N, the number of samples "),
    ({"schedule_step_epochs": 30}, "--schedule-step-epochs: needs --schedule step, got constant"),
    ({"schedule_factor": 0.1}, "--schedule-factor: needs --schedule step or exponential, got constant"),
    ({"warmup_epochs": 6, "epochs": 5}, "--warmup-epochs: expected at most the number of --epochs, 5, got 6"),
    ({"dtype": "float32"}, "--dtype: reproducible arithmetic takes auto or float64, got float32: add --arit"),
    ({"overwrite": True}, "--overwrite: needs --name NAME, the run that it replaces"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_TOGETHER)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        TrainConfig(**values)


def find_violations(values: dict[str, Any]) -> list[constraints.Violation]:
    """What is wrong with settings together, which is not looked at for a run that goes on."""
    return list(constraints.find_violations(TrainConfig(**{**values, "resume": Path("run")})))


def test_every_constraint_has_a_row_of_its_own() -> None:
    result = [find_violations(row) for row, _ in WRONG_TOGETHER]
    assert [len(one) for one in result] == [1] * len(WRONG_TOGETHER)
    assert len(result) == inspect.getsource(constraints).count("        yield ")


@pytest.mark.parametrize(
    "values",
    [
        {"test_data": Path("t.csv"), "data": Path("d.csv"), "seed": 2**64 - 3, "repeats": 3},
        {"input_dropout": 0.2, "hidden": (), "init": "glorot", "dtype": "float32", "arithmetic": "native"},
        {"batch_norm": True, "batch_size": 2, "patience": 3, "validation": 1, "warmup_epochs": 100},
        {**TWO_RATES, "momentum": 0.0, "optimizer": "momentum", "validation": 1},
    ],
)
def test_settings_that_go_together_are_taken(values: dict[str, Any]) -> None:
    config = TrainConfig(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_no_flags_mean_the_defaults_and_each_flag_is_explicit_but_print_config() -> None:
    assert command_of() == Command(TrainConfig(), print_config=False, explicit=frozenset())
    explicit = frozenset(name for name in NAMES if getattr(DEFAULT, name) is not None)
    expected = Command(DEFAULT, print_config=True, explicit=explicit)
    assert command_of("--print-config", *to_flags(DEFAULT)) == expected
    assert parsed("--resume", "run", "--patience", "3").patience == 3  # the run may have --validation


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--hidden", "hidden", ()),
        ("--batch_size=32", "batch_size", 32),
        ("--lr 1e-3", "learning_rate", 0.001),
        ("--name None", "name", "None"),
        ("--no-report", "report", False),
        ("--no-report --report", "report", True),
        ("--track mlflow --track wandb", "track", ("mlflow", "wandb")),
    ],
)
def test_the_forms_of_flags(words: str, name: str, value: object) -> None:
    command = command_of(*words.split())
    assert command.config == replace(DEFAULT, **{name: value})
    assert command.explicit == {name}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--optimiser adam", "unrecognized arguments: --optimiser adam: did you mean --optimizer? ("),
        ("--conf absent.toml", "unrecognized arguments: --conf absent.toml: did you mean --config? ("),
        ("stray", "unrecognized arguments: stray (xpnet train --help)"),
        ("--epochs", "argument --epochs: expected one argument (xpnet train --help)"),
        ("--epochs 1.5", '--epochs: expected a whole number, 0 or more, got "1.5"'),
        ("--hidden 3 x", '--hidden: expected whole numbers, each 1 or more, got [3, "x"]'),
        ("--optimizer Adamv", f'--optimizer: expected {OPTIMIZER}, got "Adamv": did you mean adam?'),
        ("--warmup-epochs x --epochs 1", '--warmup-epochs: expected a whole number, 0 or more, got "x"'),
    ],
)
def test_a_flag_error_is_one_line_with_the_nearest_flag(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}[^\n]*$"):
        parsed(*words.split())


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(toml: Any) -> None:
    command = command_of("--epochs", "100", "--config", toml("epochs = 5\nlearning_rate = 0.2\n"))
    assert command.config == TrainConfig(epochs=100, learning_rate=0.2)
    assert command.explicit == {"epochs", "learning_rate"}
    with pytest.raises(ConfigError, match=r"^--momentum: needs --optimizer "):
        parsed("--config", toml("optimizer = 'adam'"), "--momentum", "0.5")


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("quiet = true", "--no-quiet", TrainConfig(quiet=False)),
        ("report = false", "--no_report", TrainConfig(report=False)),
        ("track = ['wandb', 'mlflow']", "--track trackio --seed 0", TrainConfig(track=("trackio",))),
        ("track = ['wandb', 'mlflow']", "--track", TrainConfig(track=())),
        ("warmup_epochs = 5", "--epochs 5", TrainConfig(warmup_epochs=5, epochs=5)),
    ],
)
def test_switches_and_lists_of_the_file_are_replaced_by_flags(
    toml: Any, text: str, words: str, expected: TrainConfig
) -> None:
    command = command_of("--config", toml(text), *words.split())
    assert command.config == expected
    assert text.partition(" ")[0] in command.explicit


@pytest.mark.parametrize(
    "values", [row for row, _ in WRONG_TOGETHER if find_violations(row)[0].overridden_by]
)
def test_a_setting_falls_where_a_later_source_leaves_it_without_sense(values: dict[str, Any]) -> None:
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
    ("text", "name", "value"),
    [
        ("hidden = [3, 4]", "hidden", (3, 4)),
        ("clip_norm = 5", "clip_norm", 5.0),
        ("learning_rate = 1", "learning_rate", 1.0),
        ("learning_rate = [1, 2]\nvalidation = 1", "learning_rate", (1.0, 2.0)),
        ("data = 'a/../b'", "data", Path("a/../b")),
    ],
)
def test_a_file_gives_settings_of_their_own_types(toml: Any, text: str, name: str, value: object) -> None:
    assert repr(getattr(parsed("--config", toml(text)), name)) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", 'unknown key "epoch": did you mean epochs? Keys are the flags of '),
        ('"a\\nb" = 3', 'unknown key "a\\nb": Keys are the flags '),
        ("epochs = 3.0", "epochs: expected a whole number, 0 or more, got 3.0"),
        ("data = ''", 'data: expected a path, got ""'),
        ("learning_rate = 1" + "0" * 400, f"learning_rate: expected {RATES}, got 1000"),
        ("name = 2020-01-01", "name: expected a folder name without / or \\, control characters "),
        ("epochs = ", "not a TOML file (Invalid value (at end of document)): expected lines such"),
        ("a = " + "[" * 5000, "not a TOML file ("),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_and_key(toml: Any, text: str, message: str) -> None:
    file = toml(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {message}')}[^\n]*$"):
        parsed("--config", file)


@pytest.mark.skipif(os.name != "posix", reason="has no FIFOs")
def test_a_file_that_cannot_be_read_or_is_not_text_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "fifo.toml")
    for name, reason in [
        ("absent.toml", "cannot be read (No such file or directory): --config takes a TOML file"),
        ("fifo.toml", "is not a regular file: --config takes a TOML file"),
        ("binary.toml", "not a TOML file ("),
    ]:
        with pytest.raises(XPNetError, match=f"^{re.escape(f'{tmp_path / name}: {reason}')}[^\n]*$"):
            parsed("--config", str(tmp_path / name))


def made_consistent(values: dict[str, Any]) -> TrainConfig:
    """Return the settings, with defaults for those that contradict others."""
    while result := find_violations(values):
        values = {**values, **{one.name: getattr(DEFAULT, one.name) for one in result}}
    return TrainConfig(**values)


def values_of(name: str) -> st.SearchStrategy[Any]:
    good = KIND_OF[name].good
    return st.none() | good if getattr(DEFAULT, name) is None else good


CONFIGS = st.fixed_dictionaries({name: values_of(name) for name in NAMES}).map(made_consistent)
EXAMPLES = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def to_flags(config: TrainConfig) -> list[str]:
    """Return a command line that gives all settings that are not None."""
    argv: list[str] = []
    for name, value in to_json(config).items():
        if isinstance(value, bool):
            argv.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, list):
            argv += [flag(name), *map(str, value)]
        elif value is not None:
            argv.append(f"{flag(name)}={value}")
    return argv


@EXAMPLES
@given(config=CONFIGS)
def test_settings_come_back_from_flags_toml_and_a_record(tmp_path: Path, config: TrainConfig) -> None:
    assert parsed(*to_flags(config)) == config
    file = tmp_path / "printed.toml"
    file.write_bytes(to_toml(config).encode())
    assert parsed("--config", str(file)) == config
    assert from_json(json.loads(json.dumps(to_json(config))), "run.json") == config


def test_a_record_of_settings_is_checked_and_may_lack_some() -> None:
    assert from_json({"epochs": 3, "name": None}, "run.json") == TrainConfig(epochs=3)
    with pytest.raises(ConfigError, match=r'^run\.json: unknown key "epoch": did you mean epochs\? '):
        from_json({"epoch": 3}, "run.json")
    with pytest.raises(ConfigError, match=r'^run\.json: epochs: expected a whole number, .*, got "3"$'):
        from_json({"epochs": "3"}, "run.json")


def test_a_path_that_is_no_text_cannot_be_printed_as_toml() -> None:
    with pytest.raises(ConfigError, match=r"^--data: expected text that a TOML file can hold, "):
        to_toml(TrainConfig(data=Path("a\udcff")))


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit, match=r"^0$"):
        parse(["--help"], "xpnet train")
    return capsys.readouterr().out


def test_the_help_describes_every_flag_within_80_columns(help_text: str) -> None:
    names = [name.replace("-", "_") for name in re.findall(r"^  --([a-z-]+)", help_text, re.MULTILINE)]
    after = NAMES.index("columns") + 1
    with_switches = [*NAMES[:after], "pixels", "features", *NAMES[after:]]
    assert names == ["recipe", "config", "print_config", *with_switches]
    assert "\n  --learning-rate, --lr FLOAT [FLOAT ...]\n" in help_text
    assert help_text.count("--no-") == len(SWITCHES.split())
    assert "None" not in help_text
    assert max(map(len, help_text.splitlines())) <= 80


def test_the_help_names_the_defaults_that_are_elsewhere(help_text: str) -> None:
    def default(flag: str) -> list[float]:
        match = re.search(rf"  --{flag} .*?\(default:\s(.*?)\)", help_text, re.DOTALL)
        return [float(number) for number in re.findall(r"[0-9.]+", match[1] if match else "")]

    assert default("augment-elastic-sigma") == [augment.ELASTIC_SIGMA]
    assert default("schedule-step-epochs") == [default_of(schedules.build, "step_epochs")]
    step, exponential = default("schedule-factor")
    for name, fall in (("step", step), ("exponential", schedules.power(exponential, 30))):
        assert schedules.build(name, 1.0, 1, 60)(30) == fall


def default_of(function: Any, parameter: str) -> object:
    return inspect.signature(function).parameters[parameter].default


def test_the_names_are_those_of_what_is_implemented() -> None:
    assert get_args(types.OptimizerName) == tuple(optim.OPTIMIZERS)
    assert get_args(types.ScheduleName) == tuple(schedules.SCHEDULES)
    assert get_args(types.Activation) == tuple(functional.ACTIVATIONS)
    assert get_args(types.Loss) == tuple(functional.LOSSES)
    assert get_args(types.Arithmetic) == tuple(ARITHMETICS)
    assert get_args(types.Normalize) == tuple(NORMALIZATIONS)
    assert get_args(types.Initialization) == get_args(init.Initialization)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({}, {}),
        ({"optimizer": "momentum"}, {"decay": default_of(optim.momentum, "decay")}),
        ({"optimizer": "nesterov", "momentum": 0.0}, {"decay": 0.0}),
        ({"optimizer": "adamw"}, {"weight_decay": 0.01}),
        ({"optimizer": "adamw", "weight_decay": 0.0}, {"weight_decay": 0.0}),
        ({"clip_norm": 5.0, "max_norm": 2.0}, {"clip_norm": 5.0, "max_norm": 2.0}),
    ],
)
def test_the_options_of_an_optimizer(values: dict[str, Any], options: dict[str, Any]) -> None:
    result = TrainConfig(**values).optimizer_options
    assert result == {"weight_decay": 0.0, "clip_norm": None, "max_norm": None, **options}


def test_the_options_of_the_schedule_are_the_settings() -> None:
    assert DEFAULT.schedule_options == {"factor": None, "warmup_epochs": 0}
    result = TrainConfig(schedule="step", schedule_step_epochs=5, schedule_factor=0.5, warmup_epochs=3)
    assert result.schedule_options == {"step_epochs": 5, "factor": 0.5, "warmup_epochs": 3}


def test_seeds_follow_each_other_rates_are_those_given_and_the_float_type_follows_the_arithmetic() -> None:
    assert list(TrainConfig(seed=5, repeats=3).seeds) == [5, 6, 7]
    assert TrainConfig(learning_rate=(0.3,)).learning_rates == (0.3,)
    assert TrainConfig(learning_rate=(0.1, 0.3), validation=10).learning_rates == (0.1, 0.3)
    assert TrainConfig().float_type == "float64"
    assert TrainConfig(arithmetic="native").float_type == "float32"
    assert TrainConfig(arithmetic="native", dtype="float64").float_type == "float64"
