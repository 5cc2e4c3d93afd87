"""A plugin of pytest: runs the tests that a file lists, writes their outcomes, and names them to coverage."""

import os
import sys
from collections.abc import Iterator
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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let coverage attribute the lines of this process to the test."""
    coverage = sys.modules.get("coverage")  # imported at the start of a process that it measures
    measured = None if coverage is None else coverage.Coverage.current()
    if measured is None:
        return (yield)
    measured.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        measured.switch_context("")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test starts."""
    _write("started", 0, nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a phase of a test: setup, call or teardown."""
    _write("ended" if report.when == "teardown" else report.outcome, report.duration, report.nodeid)
    if report.when == "teardown" and report.failed:
        _write("failed", 0, report.nodeid)


def _write(outcome: str, seconds: float, name: str) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that reports for all workers
        with Path(os.environ[OUTCOMES]).open("a", encoding="utf-8") as file:
            file.write(f"{outcome}\t{seconds:.4f}\t{name}\n")
