"""The processors and memory that the process may use, and switches in its environment."""

import os

import pytest

from xpnet._lib import machine
from xpnet._lib.switches import read_switch
from xpnet.errors import ConfigError


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """An empty folder in place of the system's control groups, and a machine of 8 processors."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "jobs", "cpus"), [("max 100000", 1, 8), ("150000 100000", 1, 2), ("", 3, 2)]
)
def test_a_quota_and_the_affinity_limit_the_processors_and_jobs_share_them(cgroups, quota, jobs, cpus):
    (cgroups / "cpu.max").write_text(quota)
    assert machine.available_cpus(jobs) == cpus


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_container_and_a_limit_of_the_process_limit_the_memory(cgroups, monkeypatch, name):
    (cgroups / "memory.max").write_text("2097152")
    assert machine.available_memory() == 2**21
    resource = pytest.importorskip("resource")
    kind, none = getattr(resource, name), resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (2**20 if asked == kind else none, none))
    assert machine.available_memory() == 2**20


@pytest.mark.parametrize(("value", "state"), [("TRUE", True), ("oN", True), ("0", False), ("", False)])
def test_a_switch_is_on_or_off(monkeypatch, value, state):
    monkeypatch.setenv("XPNET_TRY", value)
    assert read_switch("XPNET_TRY") is state


def test_another_switch_is_refused_and_one_that_is_absent_has_a_default(monkeypatch):
    monkeypatch.delenv("XPNET_TRY", raising=False)
    assert (read_switch("XPNET_TRY"), read_switch("XPNET_TRY", default=True)) == (False, True)
    monkeypatch.setenv("XPNET_TRY", "2")
    with pytest.raises(ConfigError, match=r"^XPNET_TRY: expected 1, true, yes, .* or nothing, got '2'$"):
        read_switch("XPNET_TRY")
