"""The `backend` fixture, and the summary of which backends a run was about."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from backend_enum import REQUIRE_VARIABLE, BackendCase, required_cases, usable_backend
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xpnet.backends.base import Backend

# The same examples in every run, however busy the machine is.
settings.register_profile(
    "xpnet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("xpnet")

USES = pytest.StashKey[Counter[BackendCase]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: has a case on a GPU")
    config.stash[USES] = Counter()
    try:
        required_cases()
    except ValueError as error:
        known = ", ".join(case.value for case in BackendCase)
        msg = f"{REQUIRE_VARIABLE}: {error}; expected some of {known}"
        raise pytest.UsageError(msg) from error


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test on a GPU, so that ``-m cuda`` selects it."""
    case = _case(item)
    if case is not None and case.device.startswith("cuda"):
        item.add_marker(pytest.mark.cuda)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose backend is missing, or fail it if the environment requires the backend.

    Here and not in the fixture, so that pytest's list of skips has one line a backend, not a test.
    """
    case = _case(item)
    if case is None:
        return
    item.config.stash[USES][case] += 1
    usable_backend(case)


def _case(item: pytest.Item) -> BackendCase | None:
    """Return the backend that a test runs with, if it takes one."""
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("backend") if callspec else None
    return case if isinstance(case, BackendCase) else None


@pytest.fixture(params=BackendCase, ids=lambda case: case.value)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend in turn, inside its scope."""
    case: BackendCase = request.param
    made = case.make()
    with made.scope():
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the backends that ran and those that did not, and why."""
    uses = config.stash[USES]
    if not uses:
        return
    terminalreporter.section("backends")
    for case in BackendCase:
        if uses[case]:
            terminalreporter.write_line(_summary(case, uses[case]))


def _summary(case: BackendCase, tests: int) -> str:
    found = case.probe()
    if found.usable:
        outcome = f"{found.version} on {case.device}"
    else:
        outcome = f"{'MISSING' if case.required else 'skipped'}: {found.reason}"
    return f"{case.value:<17} {tests:>5} tests  {outcome}"
