"""Settings: flags, TOML files, their order of precedence, and what each value may be."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet.config import Command, TrainConfig, parse, resolved, to_toml
from xpnet.errors import ConfigError


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
        "normalize": "scale",
        "hidden": (10,),
        "epochs": 100,
        "batch_size": "full",
        "learning_rate": 0.1,
        "seed": 0,
        "arithmetic": "reproducible",
        "dtype": "auto",
        "device": "auto",
        "backend": "auto",
        "workers": "auto",
        "require_device": False,
        "init_from": None,
        "log_every": 10,
        "out": Path("runs"),
        "name": None,
        "overwrite": False,
        "quiet": False,
        "debug": False,
    }
    assert {field.name: getattr(TrainConfig(), field.name) for field in fields(TrainConfig)} == (
        expected
    )


FLAGS: list[tuple[list[str], str, object]] = [
    (["--data", "a folder"], "data", Path("a folder")),
    (["--normalize", "standardize"], "normalize", "standardize"),
    (["--hidden", "128", "64"], "hidden", (128, 64)),
    (["--hidden"], "hidden", ()),
    (["--hidden", "--quiet"], "hidden", ()),
    (["--epochs", "0"], "epochs", 0),
    (["--batch-size", "full"], "batch_size", "full"),
    (["--batch-size", "32"], "batch_size", 32),
    (["--batch_size=32"], "batch_size", 32),
    (["--learning-rate", "0.5"], "learning_rate", 0.5),
    (["--lr", "1e-3"], "learning_rate", 0.001),
    (["--seed", str(2**64 - 1)], "seed", 2**64 - 1),
    (["--dtype", "float64"], "dtype", "float64"),
    (["--device", "cuda:1"], "device", "cuda:1"),
    (["--device", "device1"], "device", "device1"),
    (["--backend", "array-api-strict"], "backend", "array-api-strict"),
    (["--require-device"], "require_device", True),
    (["--init-from", "m.safetensors"], "init_from", Path("m.safetensors")),
    (["--log-every", "1"], "log_every", 1),
    (["--out", "elsewhere"], "out", Path("elsewhere")),
    (["--name", "first try"], "name", "first try"),
    (["--name", "Grüße-1.2_β"], "name", "Grüße-1.2_β"),
    (["--name", "None"], "name", "None"),
    (["--quiet"], "quiet", True),
    (["--debug"], "debug", True),
]


@pytest.mark.parametrize(("argv", "name", "value"), FLAGS)
def test_a_flag_changes_its_setting_and_no_other(argv: list[str], name: str, value: object) -> None:
    config = parsed(*argv)
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)
    same = {field.name: getattr(TrainConfig(), field.name) for field in fields(TrainConfig)}
    same |= {name: value, "quiet": "--quiet" in argv}
    assert config == TrainConfig(**same)


BAD: list[tuple[str, object, str]] = [
    ("epochs", -1, "--epochs: expected a whole number, 0 or more, got -1"),
    ("epochs", True, "--epochs: expected a whole number, 0 or more, got true"),
    ("epochs", 2.0, "--epochs: expected a whole number, 0 or more, got 2.0"),
    ("log_every", 0, "--log-every: expected a whole number, 1 or more, got 0"),
    ("batch_size", 0, "--batch-size: expected full or a whole number, 1 or more, got 0"),
    ("batch_size", "all", '--batch-size: expected full or a whole number, 1 or more, got "all"'),
    ("hidden", (3, 0), "--hidden: expected whole numbers, each 1 or more, got [3, 0]"),
    ("hidden", (True,), "--hidden: expected whole numbers, each 1 or more, got [true]"),
    ("hidden", 3, "--hidden: expected whole numbers, each 1 or more, got 3"),
    ("learning_rate", 0.0, "--learning-rate: expected a number above 0 and finite, got 0.0"),
    ("learning_rate", -0.1, "--learning-rate: expected a number above 0 and finite, got -0.1"),
    (
        "learning_rate",
        float("nan"),
        "--learning-rate: expected a number above 0 and finite, got NaN",
    ),
    (
        "learning_rate",
        float("inf"),
        "--learning-rate: expected a number above 0 and finite, got Infinity",
    ),
    ("learning_rate", True, "--learning-rate: expected a number above 0 and finite, got true"),
    ("seed", -1, f"--seed: expected a whole number from 0 to 2^64 - 1 ({2**64 - 1}), got -1"),
    (
        "seed",
        2**64,
        f"--seed: expected a whole number from 0 to 2^64 - 1 ({2**64 - 1}), got {2**64}",
    ),
    (
        "normalize",
        "standardise",
        '--normalize: expected one of scale, standardize, none, got "standardise"',
    ),
    ("dtype", "float16", '--dtype: expected one of auto, float32, float64, got "float16"'),
    ("arithmetic", "exact", '--arithmetic: expected one of reproducible, native, got "exact"'),
    (
        "backend",
        "numpyy",
        '--backend: expected one of auto, numpy, cupy, torch, jax, array-api-strict, got "numpyy"',
    ),
    ("device", "", '--device: expected auto, cpu, cuda or cuda:N, got ""'),
    ("device", "cuda 1", '--device: expected auto, cpu, cuda or cuda:N, got "cuda 1"'),
    ("quiet", 1, "--quiet: expected true or false, got 1"),
    ("out", None, "--out: expected a path, got null"),
    ("data", Path("a\0b"), '--data: expected a path, got "a\\u0000b"'),
    ("data", "text", '--data: expected a path, got "text"'),
    ("overwrite", True, "--overwrite: needs --name NAME, the run that it replaces"),
    (
        "test_data",
        Path("t.csv"),
        "--test-data: needs --data TRAIN.csv beside it, got t.csv alone",
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_refused_with_flag_value_and_what_is_allowed(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TrainConfig(**{name: value})


NAMES = ["", " ", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\x85b"]


@pytest.mark.parametrize("name", [*NAMES, "a\u2028b", "a\ud800b"])
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


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--bogus"], "--bogus"),
        (["--epochs"], "--epochs"),
        (["--epochs", "many"], "many"),
        (["--batch-size", "some"], "some"),
        (["--normalize", "maybe"], "maybe"),
        (["--no-quiet"], "--no-quiet"),
        (["--config"], "--config"),
        (["--conf", "absent.toml"], "--conf"),
        (["stray"], "stray"),
    ],
)
def test_a_flag_error_names_the_flag_and_exits_with_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*argv)
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert words in output.err
    assert output.out == ""


def test_a_bad_value_of_a_flag_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^--epochs: .* got -1$"):
        parsed("--epochs", "-1")


def test_print_config_is_no_setting() -> None:
    command = parse(["--print-config", "--epochs", "3"], "xpnet train")
    assert command == Command(TrainConfig(epochs=3), print_config=True)
    assert type(command.config) is TrainConfig
    assert "print_config" not in resolved(command.config)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(toml: Any) -> None:
    file = toml("epochs = 5\nlearning_rate = 0.2\n")
    config = parsed("--epochs", "7", "--config", file)
    assert config == TrainConfig(epochs=7, learning_rate=0.2)


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
        ("batch_size = 'full'", TrainConfig()),
        ("batch_size = 32", TrainConfig(batch_size=32)),
        (f"seed = {2**64 - 1}", TrainConfig(seed=2**64 - 1)),
        ("data = 'a/../b'", TrainConfig(data=Path("a/../b"))),
        ("quiet = true", TrainConfig(quiet=True)),
    ],
)
def test_a_file_gives_settings_of_their_own_types(
    toml: Any, text: str, expected: TrainConfig
) -> None:
    config = parsed("--config", toml(text))
    assert config == expected
    assert [type(value) for value in resolved(config).values()] == [
        type(value) for value in resolved(expected).values()
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", 'unknown key "epoch": did you mean epochs? Keys are data, test_data, '),
        ("batch-size = 3", 'unknown key "batch-size": did you mean batch_size? Keys are data, '),
        ("zzz = 3", 'unknown key "zzz": Keys are data, test_data, normalize, '),
        ('"a\\nb" = 3', 'unknown key "a\\nb": Keys are data, '),
        ("[train]\nepochs = 3", 'unknown key "train": Keys are data, '),
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
        ("learning_rate = nan", "learning_rate: expected a number above 0 and finite, got NaN"),
        (
            "learning_rate = 1" + "0" * 400,
            "learning_rate: expected a number above 0 and finite, got 1000",
        ),
        ("name = 2020-01-01", "name: expected a folder name without / or \\, control characters "),
        ("dtype = 'int8'", 'dtype: expected one of auto, float32, float64, got "int8"'),
        ("epochs = ", "not a TOML file (Invalid value (at end of document)): expected lines such"),
        ("seed = 1" + "0" * 5000, "not a TOML file ("),
        ("a = " + "[" * 5000, "not a TOML file ("),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_file_and_key(
    toml: Any, text: str, message: str
) -> None:
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
        assert str(caught.value) == (
            f"{path}: cannot be read ({reason}): --config takes a TOML file"
        )


def test_a_file_that_is_not_text_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml: not a TOML file \([^\n]*$"):
        parsed("--config", str(tmp_path / "binary.toml"))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"),
    min_size=1,
).filter(lambda name: bool(name.strip()) and not name.startswith("."))
CONFIGS = st.builds(
    TrainConfig,
    data=TEXT.map(Path),
    test_data=st.none() | TEXT.map(Path),
    normalize=st.sampled_from(["scale", "standardize", "none"]),
    hidden=st.lists(st.integers(1, 10**6), max_size=5).map(tuple),
    epochs=st.integers(0, 10**9),
    batch_size=st.just("full") | st.integers(1, 10**9),
    learning_rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    seed=st.integers(0, 2**64 - 1),
    dtype=st.sampled_from(["auto", "float64"]),
    device=st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
    backend=st.sampled_from(["auto", "numpy", "array-api-strict"]),
    require_device=st.booleans(),
    init_from=st.none() | TEXT.map(Path),
    log_every=st.integers(1, 10**9),
    out=TEXT.map(Path),
    name=NAME,
    overwrite=st.booleans(),
    quiet=st.booleans(),
    debug=st.booleans(),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=CONFIGS)
def test_the_printed_settings_read_back_to_equal_settings(
    tmp_path: Path, config: TrainConfig
) -> None:
    file = tmp_path / "printed.toml"
    file.write_bytes(to_toml(config).encode())
    assert parsed("--config", str(file)) == config


def test_settings_without_a_value_are_left_out_of_the_toml() -> None:
    assert set(tomllib.loads(to_toml(TrainConfig()))) == set(resolved(TrainConfig())) - {
        "data",
        "test_data",
        "init_from",
        "name",
    }


def test_a_path_that_is_no_text_cannot_be_printed_as_toml() -> None:
    with pytest.raises(ConfigError, match=r"^--data: expected text that a TOML file can hold, "):
        to_toml(TrainConfig(data=Path("a\udcff")))


def test_resolved_settings_are_json_values() -> None:
    config = replace(TrainConfig(), data=Path("d"), hidden=(3, 4))
    values = resolved(config)
    assert json.loads(json.dumps(values)) == values
    assert list(values) == [field.name for field in fields(TrainConfig)]
    assert (values["data"], values["hidden"], values["name"]) == ("d", [3, 4], None)


def help_text(capsys: pytest.CaptureFixture[str], argv: Sequence[str] = ()) -> str:
    with pytest.raises(SystemExit) as caught:
        parse([*argv, "--help"], "xpnet train")
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_help_describes_every_flag_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text(capsys)
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in text
    assert "--lr" in text
    assert "--config" in text
    assert "--print-config" in text
    assert "--no-" not in text
    assert "None" not in text
    assert max(map(len, text.splitlines())) <= 80


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
