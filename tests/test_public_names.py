"""What is public stays: nothing that a version promised is missing, or has another default.

tests/fixtures/VERSION/public-names.json is the promise of a version; there may be more than it says.
"""

import inspect
import json
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

import public_names  # noqa: E402

VERSIONS = sorted(path.parent.name for path in FIXTURES.glob("*/public-names.json"))
RENAMED_FIELDS = {("xpnet.Epoch", "figures"): "metrics"}


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


def promise(version):
    """The public names that a version promised; a field with a new name is a property by its old one."""
    names = json.loads((FIXTURES / version / "public-names.json").read_text())
    for (kind, old), new in RENAMED_FIELDS.items():
        promised = names["classes"][kind]
        promised["constructor"] = promised["constructor"].replace(old, new)
        promised["fields"] = [new if field == old else field for field in promised["fields"]]
        promised["properties"].append(old)
    return names


@pytest.mark.needs("sklearn")
def test_nothing_public_is_missing_or_has_another_default():
    surface = public_names.surface()
    assert "0.1.0" in VERSIONS
    assert [line for version in VERSIONS for line in broken(promise(version), surface)] == []


def changed(old, new):
    """Return the promise of 0.1.0 with the first such text replaced."""
    text = json.dumps(promise("0.1.0"))
    assert old in text
    return json.loads(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("callback=None", "on_epoch=None", "functions xpnet.fit: callback is missing"),
        ("(X, y, *", "(y, X, *", "functions xpnet.fit: expected the order"),
        ("(X, y, *", "(X, y, z, *", "functions xpnet.fit: z is new and has no default"),
        ("epochs=50", "epochs=60", "classes xpnet.XPNetClassifier constructor: epochs is missing, or is ano"),
        ('"Epoch", ', "", "names: Epoch is missing"),
        ('"epochs": 100', '"epochs": 10', "settings epochs: 10 instead of 100"),
        ('"uniform", "he"', '"uniform"', "commands train --init: he is missing"),
        ("(X, y, *", "(X, y, weights=None, *", "nothing"),
        ("(path, *,", "(path, *more,", "nothing"),
        ('"Epoch", ', '"Epoch", "tune", ', "nothing"),
    ],
)
def test_what_breaks_a_promise_is_found_and_more_than_was_promised_is_none_of_its_business(old, new, line):
    first, *_ = [*broken(promise("0.1.0"), changed(old, new)), "nothing"]
    assert first.startswith(line)
