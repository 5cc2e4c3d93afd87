"""Recipes: settings by name, below flags and files."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from xpnet import config as package
from xpnet import train
from xpnet.config import TrainConfig, list_recipes, parse
from xpnet.config.training import read_recipe
from xpnet.errors import ConfigError

FOLDER = Path(package.__file__).resolve().parent / "recipes"
PROMISED = {
    "notebook": {},
    "quick": {"hidden": (10,), "arithmetic": "native", "float_type": "float32"},
    "best-10": {"hidden": (10,), "arithmetic": "native"},
    "simard-800": {"hidden": (800,), "arithmetic": "native"},
    "dropout-1024": {"hidden": (1024, 1024, 1024), "arithmetic": "native"},
}
"""What the names of the recipes say."""
LEFT_TO_THE_USER = {"data", "test_data", "device", "backend", "workers", "seed", "repeats"}
LEFT_TO_THE_USER |= {"out", "name", "overwrite", "resume", "init_from", "quiet", "debug"}


def parsed(*argv: object) -> TrainConfig:
    return parse([str(word) for word in argv], "xpnet train").config


def from_recipe(name: str) -> TrainConfig:
    return TrainConfig(**read_recipe(name))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text('recipe = "quick"\nepochs = 7\n', encoding="utf-8")
    return path


def test_the_recipes_are_these_and_the_notebooks_is_the_default() -> None:
    assert set(list_recipes()) == set(PROMISED)
    assert from_recipe("notebook") == TrainConfig()


@pytest.mark.parametrize("name", PROMISED)
def test_a_recipe_is_what_its_name_says_and_nothing_about_places(name: str) -> None:
    config, text = from_recipe(name), (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert {key: getattr(config, key) for key in PROMISED[name]} == PROMISED[name]
    assert not LEFT_TO_THE_USER & tomllib.loads(text).keys()
    assert text.startswith("# ")
    assert (config.dropout > 0) == (name == "dropout-1024")
    assert (config.augment_elastic_alpha > 0) == (name == "simard-800")


@pytest.mark.parametrize("name", PROMISED)
def test_the_flag_gives_the_recipe_and_printed_it_reads_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parsed("--recipe", name) == from_recipe(name)
    assert train.main(["--recipe", name, "--print-config"]) == 0
    file = tmp_path / "printed.toml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    assert parsed("--config", file) == from_recipe(name)
    assert list(tmp_path.iterdir()) == [file]  # nothing is trained


def test_a_flag_wins_over_the_file_the_file_over_the_recipe_and_that_over_the_default(mine: Path) -> None:
    quick = from_recipe("quick")
    assert quick.epochs not in (7, 9, TrainConfig().epochs)
    assert quick.optimizer != TrainConfig().optimizer
    command = parse(["--config", str(mine)], "xpnet train")
    assert command.config == replace(quick, epochs=7)
    assert command.explicit >= {"epochs", "optimizer"}
    config = parsed("--config", mine, "--epochs", 9, "--optimizer", "sgd")
    assert config == replace(quick, epochs=9, optimizer="sgd")
    config = parsed("--config", mine, "--recipe=simard-800")
    assert config == replace(from_recipe("simard-800"), epochs=7)
    config, recipe = parsed("--recipe", "dropout-1024", "--hidden"), from_recipe("dropout-1024")
    assert (config.dropout, config.input_dropout) == (0.0, recipe.input_dropout)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("quik", ": did you mean quick?"), ("Simard-800", ": did you mean simard-800?"), ("../x", "")],
)
def test_an_unknown_recipe_is_refused_with_the_names(name: str, hint: str, mine: Path) -> None:
    reason = f'expected one of {", ".join(list_recipes())}, got "{name}"{hint}'
    with pytest.raises(ConfigError, match=f"^{re.escape(f'--recipe: {reason}')}$"):
        parsed("--recipe", name)
    mine.write_text(f'recipe = "{name}"', encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{mine}: recipe: {reason}')}$"):
        parsed("--config", mine)
    mine.write_text("recipe = [3]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: recipe: expected one of .*, got \[3\]$"):
        parsed("--config", mine)


def test_the_help_names_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    assert all(name in text for name in list_recipes())
