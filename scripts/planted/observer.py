"""A plugin of pytest: runs the tests that a file lists, and writes their outcomes to another one."""

import os
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let coverage, if it measures, measure processes that tests start, each under the name of its test."""
    options = session.config.option
    if getattr(options, "cov_source", None):
        os.environ["COVERAGE_PROCESS_START"] = options.cov_config


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


def _write(outcome: str, seconds: float, name: str) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # the process that reports for all workers
        os.write(_outcomes(), f"{outcome}\t{seconds:.4f}\t{name}\n".encode())


@cache
def _outcomes() -> int:
    """Open the file of outcomes once, before the first test, which may let nothing be opened."""
    return os.open(os.environ[OUTCOMES], os.O_WRONLY | os.O_APPEND)
