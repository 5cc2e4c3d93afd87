"""The Dockerfile, as far as it can be checked without building it, and what its page says."""

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from xpnet.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "container.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def parsed(text):
    """The instructions of a Dockerfile, in stages: (word, what follows) each, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                stages.append([])
            stages[-1].append((word, " ".join(rest.split())))
    return stages


STAGES = parsed((ROOT / "Dockerfile").read_text())
FINAL = STAGES[-1]


def values(stage, word):
    return [rest for name, rest in stage if name == word]


def copied():
    """What the first stage copies out of the checkout."""
    words = [shlex.split(rest) for rest in values(STAGES[0], "COPY")]
    return [source for *sources, _ in words for source in sources]


def is_in_context(path):
    """Whether .dockerignore lets a path through: the last line that matches it or a folder above it says."""
    path = PurePosixPath(path)
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            exception = pattern.startswith("!")
            if any(matches(each, pattern.lstrip("!")) for each in (path, *path.parents[:-1])):
                kept = exception
    return kept


def matches(path, pattern):
    if not pattern.startswith("**/"):
        pieces = zip(path.parts, PurePosixPath(pattern).parts, strict=False)
        return len(path.parts) == len(PurePosixPath(pattern).parts) and all(
            fnmatch.fnmatchcase(*piece) for piece in pieces
        )
    return fnmatch.fnmatchcase(path.name, pattern.removeprefix("**/"))


def test_there_are_two_stages_on_one_slim_base():
    bases = [values(stage, "FROM")[0] for stage in STAGES]
    assert bases == ["python:3.12-slim AS build", "python:3.12-slim"]


def test_python_of_the_image_is_one_that_xpnet_takes():
    found = re.search(r"python:(\d+)\.(\d+)", values(FINAL, "FROM")[0])
    lowest = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert tuple(map(int, found.groups())) >= tuple(map(int, lowest.groups()))


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_exists_and_is_not_ignored(source):
    path = ROOT / source
    assert path.exists()
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    expected = [each for each in files if "__pycache__" not in each.parts]
    assert expected
    assert all(is_in_context(each.relative_to(ROOT).as_posix()) for each in expected)


def test_all_that_the_wheel_is_made_of_is_copied():
    """Also what pyproject.toml names: readme, licences, and the data that go into the wheel."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    needed = [PROJECT["readme"], *PROJECT["license-files"], *wheel["packages"], "pyproject.toml"]
    for path in [*needed, *wheel["force-include"]]:
        assert any(PurePosixPath(path).is_relative_to(source) for source in copied())


@pytest.mark.parametrize(
    "path",
    [".git/config", "tests/test_main.py", "runs/a/run.json", "docs/data.md", "data/train.csv"],
)
def test_what_is_not_needed_stays_out_of_the_build(path):
    assert not is_in_context(path)


def test_caches_stay_out_of_the_build():
    assert not is_in_context("xpnet/__pycache__/loop.cpython-312.pyc")
    assert is_in_context("xpnet/training/loop.py")


def test_the_last_stage_takes_over_the_environment_only():
    assert values(FINAL, "COPY") == ["--from=build /opt/xpnet /opt/xpnet"]
    assert not any(re.search(r"\b(pip|apt|apt-get|gcc)\b", run) for run in values(FINAL, "RUN"))
    (install,) = values(STAGES[0], "RUN")
    assert "venv --without-pip /opt/xpnet" in install


def test_the_user_is_not_root_and_owns_what_it_writes():
    (user,) = values(FINAL, "USER")
    assert user.isdigit()
    assert int(user) > 0
    (make,) = values(FINAL, "RUN")
    assert f"useradd --uid {user} " in make
    (volume,) = values(FINAL, "VOLUME")
    assert volume == f"{values(FINAL, 'WORKDIR')[0]}/runs"
    assert re.search(rf"install --directory --owner=xpnet .*{volume}", make)
    words = [word for word, _ in FINAL]
    assert words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")


def test_it_trains_unless_it_is_told_otherwise():
    assert values(FINAL, "ENTRYPOINT") == ['["xpnet"]']
    assert values(FINAL, "CMD") == ['["train"]']
    assert "train" in COMMANDS
    assert "xpnet" in PROJECT["scripts"]
    assert 'PATH="/opt/xpnet/bin:$PATH"' in values(FINAL, "ENV")[0]


def test_stopping_it_is_what_ctrl_c_is():
    assert values(FINAL, "STOPSIGNAL") == ["SIGINT"]


def test_labels_say_what_pyproject_says():
    labels = dict(word.split("=", 1) for word in shlex.split(values(FINAL, "LABEL")[0]))
    assert set(labels) == {
        f"org.opencontainers.image.{name}" for name in ("title", "description", "version", "licenses")
    }
    for name in ("description", "version"):
        assert labels[f"org.opencontainers.image.{name}"] == PROJECT[name]
    assert PROJECT["license"] in labels["org.opencontainers.image.licenses"]


def test_no_extras_are_installed_unless_the_build_argument_names_them():
    assert values(STAGES[0], "ARG") == ['EXTRAS=""']
    assert '".${EXTRAS:+[${EXTRAS}]}"' in values(STAGES[0], "RUN")[0]


def test_extras_that_the_page_and_the_dockerfile_name_exist():
    named = re.findall(r"EXTRAS=([\w,]+)", PAGE)
    comments = re.findall(
        r"Extras of pyproject.toml: (\w+), or several as in ([\w,]+)\.",
        (ROOT / "Dockerfile").read_text(),
    )
    extras = {extra for each in [*named, *comments[0]] for extra in each.split(",")}
    assert {"cuda12", "torch", "jax"} <= extras
    assert extras <= set(PROJECT["optional-dependencies"])


def test_commands_on_the_page_exist():
    used = re.findall(r"^    docker run .*\bxpnet(?::\S+)?(?: ([a-z]+)(?: .*)?)?$", PAGE, re.MULTILINE)
    assert {"", "doctor", "train"} <= set(used)
    assert set(used) - {""} <= {*COMMANDS}
