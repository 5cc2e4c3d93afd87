"""The Dockerfile, as far as it can be checked without building it, and the page about it."""

import re
import shlex
import tomllib
from pathlib import PurePosixPath

import pytest
from checkout import ROOT

from xpnet.__main__ import COMMANDS

pytestmark = pytest.mark.tooling

TEXT = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "container.md").read_text()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD, FINAL = TEXT.replace("\\\n", " ").split("\nFROM ")[1:]


def values(stage, word):
    return re.findall(rf"^{word} +(.+)$", stage, re.MULTILINE)


def test_the_build_gets_what_the_wheel_is_made_of_without_caches_and_nothing_else():
    copied = [source for rest in values(BUILD, "COPY") for source in shlex.split(rest)[:-1]]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    everything, *kept, caches, compiled = [line for line in lines if line and not line.startswith("#")]
    assert (everything, caches, compiled) == ("*", "**/__pycache__", "**/*.py[cod]")
    assert sorted(kept) == sorted(f"!{source}" for source in copied)
    wheel = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = ["README.md", *SETTINGS["project"]["license-files"], *wheel["only-include"], "pyproject.toml"]
    for path in needed:
        assert any(PurePosixPath(path).is_relative_to(source) for source in copied)


def test_the_image_trains_by_default_as_a_user_of_its_own_and_saves_what_is_stopped():
    assert values(FINAL, "COPY") == ["--from=build /opt/xpnet /opt/xpnet"]
    assert values(FINAL, "ENTRYPOINT") + values(FINAL, "CMD") == ['["xpnet"]', '["train"]']
    assert values(FINAL, "STOPSIGNAL") == ["SIGINT"]  # docker stop is Ctrl-C
    assert int(values(FINAL, "USER")[0]) > 0
    assert values(FINAL, "VOLUME") == [f"{values(FINAL, 'WORKDIR')[0]}/runs"]


def test_extras_and_commands_of_the_page_are_those_of_the_project():
    extras = {name for names in re.findall(r"EXTRAS=([\w,]+)", PAGE) for name in names.split(",")}
    assert "cuda12" in extras
    assert extras <= set(SETTINGS["project"]["optional-dependencies"])
    used = re.findall(r"^docker run .*\bxpnet(?::\S+)?(?: ([a-z]+)(?: .*)?)?$", PAGE, re.MULTILINE)
    assert {"", "doctor", "train"} <= set(used) <= {"", *COMMANDS}
