"""Switches in the environment are on, off or refused."""

import pytest

from xpnet._lib.switches import read_switch
from xpnet.errors import ConfigError

ON, OFF = ("1", "true", "TRUE", "Yes", "oN"), ("0", "false", "FALSE", "No", "oFF", "")


@pytest.mark.parametrize(("values", "state"), [(ON, True), (OFF, False)], ids=["on", "off"])
def test_the_values_of_a_switch_are_understood_in_any_case(monkeypatch, values, state):
    for value in values:
        monkeypatch.setenv("XPNET_TRY", value)
        assert read_switch("XPNET_TRY") is state


def test_a_switch_that_is_not_set_or_empty_has_its_default(monkeypatch):
    monkeypatch.delenv("XPNET_TRY", raising=False)
    assert (read_switch("XPNET_TRY"), read_switch("XPNET_TRY", default=True)) == (False, True)
    monkeypatch.setenv("XPNET_TRY", "")
    assert read_switch("XPNET_TRY", default=True)


@pytest.mark.parametrize("value", ["2", "y", "truth", " "])
def test_another_value_is_refused_with_those_that_are_understood(monkeypatch, value):
    monkeypatch.setenv("XPNET_TRY", value)
    line = f"^XPNET_TRY: expected 1, true, yes, on, 0, false, no, off or nothing, got '{value}'$"
    with pytest.raises(ConfigError, match=line):
        read_switch("XPNET_TRY")
