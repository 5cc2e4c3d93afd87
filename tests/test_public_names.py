"""What is public stays: nothing that a version promised is missing, or has another default.

tests/fixtures/VERSION/public-names.json is the promise of a version; there may be more than it says.
"""

import copy
import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="XPNetClassifier needs scikit-learn")

FIXTURES = Path(__file__).resolve().parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

import public_names  # noqa: E402

VERSIONS = sorted(path.parent.name for path in FIXTURES.glob("*/public-names.json"))
RENAMED_FIELDS = {("xpnet.Epoch", "figures"): "metrics"}
EITHER_WAY = ("batch-norm", "require-device", "overwrite", "report", "quiet", "debug")
"""Settings that are on or off: there is a flag --NAME and a flag --no-NAME."""


def broken(before, now, where=""):
    """Return what of a promise is not there now, a line each."""
    if isinstance(before, dict):
        lines = [f"{where}: {key} is missing" for key in before if key not in now]
        for key in before.keys() & now.keys():
            lines += broken(before[key], now[key], f"{where} {key}".strip())
        return sorted(lines)
    if isinstance(before, list):
        return [f"{where}: {item} is missing" for item in before if item not in now]
    if isinstance(before, str) and before.startswith("("):
        return broken_signature(before, now, where)
    return [] if before == now else [f"{where}: {now!r} instead of {before!r}"]


def broken_signature(before, now, where):
    """Return which calls that one signature allows another does not."""
    old, new = parameters(before), parameters(now)
    lines = [
        f"{where}: {name} is missing, or is another parameter: {now}"
        for name, parameter in old.items()
        if new.get(name) != parameter
    ]
    order = [name for name in new if name in old]
    if order != list(old) and not lines:
        lines.append(f"{where}: expected the order of {before}: {now}")
    return lines + [
        f"{where}: {name} is new and has no default: {now}"
        for name, parameter in new.items()
        if name not in old
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def parameters(signature):
    """Return the parameters of a signature such as (x, *, y=1): names, kinds, defaults."""
    function = eval(f"lambda {signature[1:-1]}: None")  # noqa: S307  a text of this repository
    return dict(inspect.signature(function).parameters)


@pytest.fixture(scope="module")
def surface():
    """The public names there are."""
    return public_names.surface()


def promise(version):
    """The public names that a version promised; a field with a new name is a property by its old one."""
    names = json.loads((FIXTURES / version / "public-names.json").read_text())
    for (kind, old), new in RENAMED_FIELDS.items():
        promised = names["classes"][kind]
        promised["constructor"] = promised["constructor"].replace(old, new)
        promised["fields"] = [new if field == old else field for field in promised["fields"]]
        promised["properties"].append(old)
    return names


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_public_is_missing_or_has_another_default(surface, version):
    assert not broken(promise(version), surface)


def test_there_is_a_promise():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("prefix", ["--", "--no-"])
def test_what_is_not_shown_in_the_help_is_taken_too(prefix):
    flags = [f"{prefix}{name}" for name in EITHER_WAY]
    command = [sys.executable, "-m", "xpnet", "train", *flags, "--name", "a", "--print-config"]
    answer = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    content = tomllib.loads(answer.stdout)
    assert {content[name.replace("-", "_")] for name in EITHER_WAY} == {prefix == "--"}


# --- the comparison finds what breaks a promise, and lets pass what does not


def changed(edit):
    """Return the promise of 0.1.0 after a change."""
    names = copy.deepcopy(promise("0.1.0"))
    edit(names)
    return names


def replaced(*path, old, new):
    """Return a change of one text."""

    def edit(names):
        for key in path[:-1]:
            names = names[key]
        assert old in names[path[-1]]
        names[path[-1]] = names[path[-1]].replace(old, new)

    return edit


FIT, CLASSIFIER = ("functions", "xpnet.fit"), ("classes", "xpnet.XPNetClassifier", "constructor")


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (replaced(*FIT, old="callback", new="on_epoch"), "functions xpnet.fit: callback is missing"),
        (replaced(*FIT, old="X, y", new="y, X"), "functions xpnet.fit: expected the order"),
        (replaced(*FIT, old="X, y", new="X, y, z"), "functions xpnet.fit: z is new and has no default"),
        (replaced(*FIT, old=", **settings", new=""), "functions xpnet.fit: settings is missing"),
        (replaced(*FIT, old="(X, y, *", new="(*, X, y"), "functions xpnet.fit: X is missing, or is ano"),
        (replaced(*CLASSIFIER, old="epochs=50", new="epochs=60"), "epochs is missing, or is another"),
        (lambda names: names["names"].remove("Epoch"), "names: Epoch is missing"),
        (lambda names: names["errors"]["DivergedError"].update(exit_code=1), "exit_code: 1 instead of 3"),
        (lambda names: names["settings"].update(epochs=10), "settings epochs: 10 instead of 100"),
        (lambda names: names["settings"].pop("init"), "settings: init is missing"),
        (lambda names: names["commands"]["train"].pop("--lr"), "commands train: --lr is missing"),
        (lambda names: names["commands"].pop("doctor"), "commands: doctor is missing"),
        (
            lambda names: names["commands"]["train"]["--activation"].remove("tanh"),
            "commands train --activation: tanh is missing",
        ),
        (lambda names: names["pytest"]["fixtures"].clear(), "pytest fixtures: xp_backend is missing"),
    ],
)
def test_a_broken_promise_is_found(edit, line):
    found, *_ = broken(promise("0.1.0"), changed(edit))
    assert line in found


@pytest.mark.parametrize(
    "edit",
    [
        replaced(*FIT, old="callback=None", new="callback=None, rows=None"),
        replaced(*FIT, old="X, y, *", new="X, y, weights=None, *"),
        replaced("functions", "xpnet.load", old="(path, *,", new="(path, *more,"),
        lambda names: names["names"].append("tune"),
        lambda names: names["settings"].update(ranks=1),
        lambda names: names["commands"]["train"]["--activation"].append("gelu"),
    ],
)
def test_more_than_was_promised_is_none_of_its_business(edit):
    assert not broken(promise("0.1.0"), changed(edit))
