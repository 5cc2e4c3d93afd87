"""A pytest plugin: the fixture ``xp_backend`` runs a test with every array library.

pytest loads it in every session, by the entry point ``xpnet``, so importing it imports only pytest.
"""

from __future__ import annotations

import inspect
import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from xpnet.errors import ConfigError, XPNetError
from xpnet.parity.session import SESSIONS, Session, current_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from xpnet._typing import Namespace
    from xpnet.backends.base import Backend
    from xpnet.parity.devices import BackendDevice

FIXTURE = "xp_backend"
OPTION = "--xp-backends"
MARKER = "xp_backends"
PARITY_MARKER = "xp_parity"
EMULATION = "XPNET_EMULATED_CUDA"
"""The environment variable that has CuPy compute on an emulated device."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--xp-backends``."""
    names = "numpy,torch,torch:cuda,jax,dpnp,array-api-strict,cupy (default: those that are installed)"
    meaning = f"backends of the fixture xp_backend and of assert_parity, which must then work: {names}"
    parser.getgroup("xpnet").addoption(OPTION, metavar="NAMES", help=meaning)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Install the emulated CUDA device, if the environment asks for it, before a conftest.py imports CuPy.

    Raises
    ------
    pytest.UsageError
        It is not possible here.
    """
    if os.environ.get(EMULATION):
        from xpnet import emulation

        with _raise_as(pytest.UsageError):
            if emulation.is_requested():
                emulation.install()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the session, with the markers and the backends of the option.

    Raises
    ------
    pytest.UsageError
        The option names no backend, or an unknown one.
    """
    meaning = "torch means torch on every device, torch:cuda that one"
    config.addinivalue_line("markers", f"{MARKER}(*names): run with these backends only; {meaning}")
    config.addinivalue_line("markers", f"{PARITY_MARKER}: run assert_parity with one backend in each test")
    session = Session()
    SESSIONS.append(session)
    config.add_cleanup(partial(SESSIONS.remove, session))
    if (names := config.getoption(OPTION)) is not None:
        session.selected = _parse([names], OPTION, pytest.UsageError)


def pytest_report_header() -> list[str]:
    """Say which backends of the option can take part, and whether CuPy's device is emulated."""
    from xpnet.backends.resolve import probe

    emulation = sys.modules.get("xpnet.emulation")
    lines = [emulation.describe()] if emulation and emulation.is_installed() else []
    if selected := current_session().selected:
        probes = {str(target): probe(*target) for target in selected}
        missing = {name: str(outcome.reason) for name, outcome in probes.items() if not outcome.usable}
        lines.append(_describe(probes, missing))
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Give a test with the marker ``xp_parity`` the fixture ``xp_backend``."""
    if inspect.isfunction(obj) and collector.istestfunction(obj, name):
        marks = [*getattr(obj, "pytestmark", ()), *collector.iter_markers()]
        if PARITY_MARKER in {mark.name for mark in marks}:
            pytest.mark.usefixtures(FIXTURE)(obj)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests that use the plugin's fixtures. Pytest skips one that has no backends."""
    if metafunc._calls:  # pytest does so itself, but later: a project may parametrize its own xp
        metafunc.definition._fixtureinfo.prune_dependency_tree()
    markers = [*metafunc.definition.iter_markers(MARKER)]
    if FIXTURE not in metafunc.fixturenames:
        if markers:
            needs = f"needs the fixture {FIXTURE} or xp, or the marker {PARITY_MARKER}"
            raise pytest.Collector.CollectError(f"marker {MARKER}: {metafunc.function.__name__} {needs}")
        return
    if not _reaches_plugin(metafunc):
        return
    targets = current_session().selected
    if not targets:
        from xpnet.parity import devices

        with _raise_as(pytest.Collector.CollectError):
            targets = list(dict.fromkeys([*devices.find_installed(), *devices.find_required()]))
    for marker in markers:
        allowed = _parse(marker.args, f"marker {MARKER}", pytest.Collector.CollectError)
        targets = [each for each in targets if each in allowed or each.backend in marker.args]
    metafunc.parametrize(FIXTURE, targets, ids=str, indirect=True)
    own = getattr(metafunc.function, "_hypothesis_internal_use_settings", None)
    if own:  # of a test with @given: the fixture holds for all examples, and the first compiles
        from hypothesis import HealthCheck, settings

        checks = {*own.suppress_health_check, HealthCheck.function_scoped_fixture}
        changed = settings(own, deadline=None, suppress_health_check=checks)
        metafunc.function._hypothesis_internal_use_settings = changed


def _reaches_plugin(metafunc: pytest.Metafunc) -> bool:
    """Tell whether the test's ``xp_backend`` is the plugin's or takes it. A project may have its own."""
    for definition in reversed(metafunc._arg2fixturedefs.get(FIXTURE, ())):
        is_own = getattr(definition.func, "__module__", None) == __name__
        if is_own or FIXTURE not in definition.argnames:
            return is_own
    return False


@pytest.fixture
def xp_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Yield each backend in turn, inside its scope: ``name``, ``xp``, ``device``, ``from_host``, ``to_host``.

    ``assert_parity`` compares this backend alone. If an installed library cannot run here, such as CuPy
    without a GPU, the test is skipped; it fails if ``--xp-backends`` or XPNET_REQUIRE_BACKENDS names it.
    """
    from xpnet.backends.resolve import make, probe
    from xpnet.parity import devices

    target = request.param
    session, outcome = current_session(), probe(*target)
    session.absence[str(target)] = outcome.reason or ""
    if not outcome.usable:
        message = f"{target.where}: {outcome.reason}; to fix it: {outcome.fix}"
        if session.selected or target in devices.find_required():
            pytest.fail(
                f"{message} ({OPTION if session.selected else devices.REQUIRE} names it)", pytrace=False
            )
        pytest.skip(message)
    backend = make(*target)
    with backend.scope():
        session.of_test = target
        yield backend
        session.of_test = None


@pytest.fixture
def xp(xp_backend: Backend) -> Namespace:
    """Return the array namespace of each backend in turn, as `xp_backend`."""
    return xp_backend.xp


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the backends of a worker process of pytest-xdist to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["xpnet"] = current_session().absence


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the backends of a worker process."""
    current_session().absence |= getattr(node, "workeroutput", {}).get("xpnet", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which backends took part, and why others did not, if any test asked for them."""
    session = current_session()
    if not session.absence:
        return
    from xpnet.parity import devices

    names = dict.fromkeys([*map(str, devices.USUAL), *sorted(session.absence)])
    absent = {}
    for target in [devices.parse(name) for name in names if session.absence.get(name) != ""]:
        reason = devices.describe_absence(target) or session.absence.get(str(target), "no test ran on it")
        is_selected = not session.selected or target in session.selected
        absent[str(target)] = reason if is_selected else f"{OPTION} does not name it"
    terminalreporter.write_line(_describe(names, absent))


def _describe(names: Iterable[str], absent: Mapping[str, str]) -> str:
    """Return a line with the backends that take part, and those that do not by reason."""
    took_part = [name for name in names if name not in absent]
    by_reason: dict[str, list[str]] = {}
    for name, reason in absent.items():
        by_reason.setdefault(reason, []).append(name)
    groups = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return "; without ".join([f"xpnet: tests with {', '.join(took_part) or 'no library'}", *groups])


def _parse(names: Sequence[str], source: str, error_class: type[Exception]) -> list[BackendDevice]:
    """Parse the names of backends, without duplicates. None, or an unknown one, is an error of pytest's."""
    from xpnet.parity import devices

    with _raise_as(error_class, f"{source}: "):
        targets = devices.parse_list(",".join(names))
        if not targets:
            raise ConfigError("expected at least one name")
    return targets


@contextmanager
def _raise_as(error_class: type[Exception], where: str = "") -> Iterator[None]:
    """Raise errors of xpnet's as one of pytest's."""
    try:
        yield
    except XPNetError as error:
        raise error_class(f"{where}{error}") from error
