"""The Dockerfile, as far as it can be checked without building it, and the page about it."""

import re
import shlex
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from xpnet.__main__ import COMMANDS

pytestmark = pytest.mark.tooling

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "container.md").read_text()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]


def parsed(text):
    """Return the instructions of a Dockerfile by stage: pairs of a word and the rest, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages = [[]]  # what comes before the first
    for line in lines.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append((word, " ".join(rest.split())))
    return stages


START, BUILD, FINAL = parsed(TEXT)


def values(stage, word):
    return [rest for name, rest in stage if name == word]


def test_the_build_gets_what_the_wheel_is_made_of_without_caches_and_nothing_else():
    copied = [source for rest in values(BUILD, "COPY") for source in shlex.split(rest)[:-1]]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    everything, *kept, caches, compiled = [line for line in lines if line and not line.startswith("#")]
    assert (everything, caches, compiled) == ("*", "**/__pycache__", "**/*.py[cod]")
    assert sorted(kept) == sorted(f"!{source}" for source in copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    wheel = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = ["README.md", *PROJECT["license-files"], *wheel["packages"], "pyproject.toml"]
    for path in [*needed, *wheel["force-include"]]:
        assert any(PurePosixPath(path).is_relative_to(source) for source in copied)


def test_the_last_stage_takes_over_the_environment_and_trains_by_default_as_a_user_of_its_own():
    assert values(BUILD, "FROM") + values(FINAL, "FROM") == ["${BASE} AS build", "${BASE}"]
    assert "venv --without-pip /opt/xpnet" in values(BUILD, "RUN")[0]
    assert values(FINAL, "COPY") == ["--from=build /opt/xpnet /opt/xpnet"]
    assert values(FINAL, "ENTRYPOINT") + values(FINAL, "CMD") == ['["xpnet"]', '["train"]']
    assert 'PATH="/opt/xpnet/bin:$PATH"' in values(FINAL, "ENV")[0]
    assert values(FINAL, "STOPSIGNAL") == ["SIGINT"]  # docker stop is Ctrl-C
    (user,), (make,), (volume,) = (values(FINAL, word) for word in ("USER", "RUN", "VOLUME"))
    assert int(user) > 0
    assert f"useradd --uid {user} " in make
    assert volume == f"{values(FINAL, 'WORKDIR')[0]}/runs"
    assert re.search(rf"install --directory --owner=xpnet .*{volume}", make)
    words = [word for word, _ in FINAL]
    assert words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")


def test_labels_extras_and_commands_are_those_of_the_project():
    labels = dict(word.split("=", 1) for word in shlex.split(values(FINAL, "LABEL")[0]))
    assert labels["org.opencontainers.image.description"] == PROJECT["description"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    assert START == [("ARG", "BASE=python:3.12-slim")]
    assert values(BUILD, "ARG") == ['EXTRAS=""']
    assert '".${EXTRAS:+[${EXTRAS}]}"' in values(BUILD, "RUN")[0]
    named = re.findall(r"EXTRAS=([\w,]+)", PAGE)
    (comment,) = re.findall(r"Extras of pyproject.toml: (\w+), or several as in ([\w,]+)\.", TEXT)
    extras = {extra for each in [*named, *comment] for extra in each.split(",")}
    assert {"cuda12", "torch", "jax"} <= extras <= set(PROJECT["optional-dependencies"])
    used = re.findall(r"^docker run .*\bxpnet(?::\S+)?(?: ([a-z]+)(?: .*)?)?$", PAGE, re.MULTILINE)
    assert {"", "doctor", "train"} <= set(used) <= {"", *COMMANDS}
