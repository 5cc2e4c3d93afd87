"""A plugin of pytest: runs the tests that a file lists, writes their outcomes, and names them to coverage."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

CHOSEN = "XPNET_CHOSEN_TESTS"
"""The variable of the file that lists the tests to run, one a line."""

OUTCOMES = "XPNET_OUTCOMES"
"""The variable of the file that receives a line for each start and for each phase of a test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the chosen tests, in the order in which they are collected."""
    if path := os.environ.get(CHOSEN):
        names = set(Path(path).read_text(encoding="utf-8").split("\n"))
        items[:] = [item for item in items if item.nodeid in names]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Attribute the lines of fixtures, which other tests of the file may share, to the file."""
    _attribute(item.nodeid.partition("::")[0])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Attribute the lines of a test to it."""
    _attribute(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Attribute what follows to the file."""
    _attribute(item.nodeid.partition("::")[0])


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Write that a file cannot be imported."""
    if report.failed:
        _write("failed", 0, report.nodeid)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test starts."""
    _write("started", 0, nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a phase of a test: setup, call or teardown."""
    _write("ended" if report.when == "teardown" else report.outcome, report.duration, report.nodeid)
    if report.when == "teardown" and report.failed:
        _write("failed", 0, report.nodeid)


def _attribute(context: str) -> None:
    """Let coverage note a context with the lines of this process, if it measures them."""
    coverage = sys.modules.get("coverage")  # imported at the start of a process that it measures
    if coverage is not None and (measured := coverage.Coverage.current()) is not None:
        measured.switch_context(context)


def _write(outcome: str, seconds: float, name: str) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that reports for all workers
        os.write(_outcomes(), f"{outcome}\t{seconds:.4f}\t{name}\n".encode())


@cache
def _outcomes() -> int:
    """Open the file of outcomes once, before the first test, which may let nothing be opened."""
    return os.open(os.environ[OUTCOMES], os.O_WRONLY | os.O_APPEND)
