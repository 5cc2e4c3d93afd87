"""The Dockerfile, as far as it can be checked without building it, and the page about it."""

import re
import shlex
import tomllib
from pathlib import PurePosixPath

import pytest
from checkout import ROOT

pytestmark = pytest.mark.tooling

BUILD, FINAL = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").split("\nFROM ")[1:]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_build_gets_what_the_wheel_is_made_of_and_nothing_else():
    copied = {path for rest in re.findall(r"^COPY +(.+)$", BUILD, re.M) for path in shlex.split(rest)[:-1]}
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    wheel = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = ["README.md", *SETTINGS["project"]["license-files"], *wheel["only-include"], "pyproject.toml"]
    assert {*kept} == copied
    assert [path for path in needed if not any(PurePosixPath(path).is_relative_to(x) for x in copied)] == []


def test_the_image_trains_by_default_as_a_user_of_its_own_and_saves_what_is_stopped():
    values = dict(re.findall(r"^(\w+) +(.+)$", FINAL, re.M))
    assert (values["ENTRYPOINT"], values["CMD"]) == ('["xpnet"]', '["train"]')
    assert values["STOPSIGNAL"] == "SIGINT"  # docker stop is Ctrl-C
    assert int(values["USER"]) > 0
    assert values["VOLUME"] == f"{values['WORKDIR']}/runs"
