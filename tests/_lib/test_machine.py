"""What the process may use, container limits included."""

import os

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
    [(None, 8), ("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)],
)
def test_a_quota_limits_the_processors(cgroups, content, cpus):
    if content is not None:
        (cgroups / "cpu.max").write_text(content)
    assert machine.available_cpus() == cpus


def test_affinity_limits_the_processors(cgroups, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.available_cpus() == 1


@pytest.mark.parametrize(("content", "limited"), [(None, False), ("max", False), ("1048576", True)])
def test_a_container_limits_the_memory(cgroups, content, limited):
    if content is not None:
        (cgroups / "memory.max").write_text(content)
    memory = machine.available_memory()
    assert memory == 2**20 if limited else memory > 2**28
