"""What the process may use, container limits included."""

import os
import subprocess
import sys

import pytest

from xpnet._lib import machine


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """An empty folder in place of the system's control groups, and a machine of 8 processors."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "cpus"),
    [("", 8), ("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)],
)
def test_a_quota_and_the_affinity_limit_the_processors(cgroups, monkeypatch, content, cpus):
    (cgroups / "cpu.max").write_text(content)
    assert machine.available_cpus() == cpus
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.available_cpus() == 1


@pytest.mark.parametrize(("jobs", "cpus"), [(1, 8), (3, 2), (9, 1)])
@pytest.mark.usefixtures("cgroups")
def test_jobs_share_the_processors(jobs, cpus):
    assert machine.available_cpus(jobs) == cpus


def test_a_container_limits_the_memory(cgroups):
    whole = machine.available_memory()
    assert whole > 2**28
    for content, memory in (("max", whole), ("1048576", 2**20)):
        (cgroups / "memory.max").write_text(content)
        assert machine.available_memory() == memory


@pytest.mark.usefixtures("cgroups")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process_limits_the_memory(monkeypatch, name):
    resource = pytest.importorskip("resource")
    limits, kind = resource.getrlimit, getattr(resource, name)
    limited = lambda asked: (2**20, limits(asked)[1]) if asked == kind else limits(asked)  # noqa: E731
    monkeypatch.setattr(resource, "getrlimit", limited)
    assert machine.available_memory() == 2**20


def test_the_peak_is_that_of_the_process_and_not_of_the_one_that_started_it():
    filled = b"\1" * 2**28
    code = "from xpnet._lib.machine import peak_memory; print(peak_memory())"
    child = int(subprocess.check_output([sys.executable, "-c", code]))
    assert 2**20 < child < len(filled) < machine.peak_memory()
