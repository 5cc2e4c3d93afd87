"""A plugin of pytest for scripts/faults.py: runs chosen tests, writes outcomes, tells coverage names."""

import os
import sys
from pathlib import Path

import pytest

CHOSEN = os.environ["XPNET_CHOSEN_TESTS"]
"""The file that lists the tests to run, one a line; all if it is empty."""
OUTCOMES = os.open(os.environ["XPNET_OUTCOMES"], os.O_WRONLY | os.O_APPEND)
"""Receives a line for each start and for each phase of a test; a test may let nothing be opened later."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the chosen tests, in the order in which they are collected."""
    if names := set(Path(CHOSEN).read_text(encoding="utf-8").splitlines()):
        items[:] = [item for item in items if item.nodeid in names]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let coverage, if it measures, name the file with the lines of fixtures, which its tests may share."""
    _switch_context(item.nodeid.partition("::")[0])


pytest_runtest_teardown = pytest_runtest_setup


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Let coverage name the test."""
    _switch_context(item.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Write that a file cannot be imported."""
    if report.failed:
        _write("collect", "failed", 0, report.nodeid)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test starts."""
    _write("start", "passed", 0, nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a phase of a test: setup, call or teardown."""
    _write(report.when, report.outcome, report.duration, report.nodeid)


def _switch_context(name: str) -> None:
    coverage = sys.modules.get("coverage")  # imported at the start of a process that it measures
    if coverage is not None and (measured := coverage.Coverage.current()) is not None:
        measured.switch_context(name)


def _write(phase: str, outcome: str, seconds: float, name: str) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that reports for all workers
        os.write(OUTCOMES, f"{phase}\t{outcome}\t{seconds:.4f}\t{name}\n".encode())
