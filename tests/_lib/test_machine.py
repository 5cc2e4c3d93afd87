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
    ("quota", "jobs", "cpus"),
    [("max 100000", 1, 8), ("200000 100000", 1, 2), ("150000 100000", 1, 2), ("", 3, 2)],
)
def test_a_quota_and_the_affinity_limit_the_processors_and_jobs_share_them(
    cgroups, monkeypatch, quota, jobs, cpus
):
    (cgroups / "cpu.max").write_text(quota)
    assert machine.available_cpus(jobs) == cpus
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.available_cpus(jobs) == 1


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_container_and_a_limit_of_the_process_limit_the_memory(cgroups, monkeypatch, name):
    whole = machine.available_memory()
    for content, memory in (("max", whole), ("2097152", 2**21)):
        (cgroups / "memory.max").write_text(content)
        assert machine.available_memory() == memory
    resource = pytest.importorskip("resource")
    limits, kind = resource.getrlimit, getattr(resource, name)
    limited = lambda asked: (2**20, limits(asked)[1]) if asked == kind else limits(asked)  # noqa: E731
    monkeypatch.setattr(resource, "getrlimit", limited)
    assert machine.available_memory() == 2**20


def test_a_switch_is_on_off_or_refused_and_has_a_default(monkeypatch):
    for value, state in (("1", True), ("TRUE", True), ("oN", True), ("0", False), ("No", False), ("", False)):
        monkeypatch.setenv("XPNET_TRY", value)
        assert read_switch("XPNET_TRY") is state
    monkeypatch.delenv("XPNET_TRY")
    assert (read_switch("XPNET_TRY"), read_switch("XPNET_TRY", default=True)) == (False, True)
    monkeypatch.setenv("XPNET_TRY", "2")
    line = "^XPNET_TRY: expected 1, true, yes, on, 0, false, no, off or nothing, got '2'$"
    with pytest.raises(ConfigError, match=line):
        read_switch("XPNET_TRY")
