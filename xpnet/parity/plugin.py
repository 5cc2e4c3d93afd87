"""A pytest plugin: the fixture ``xp_backend`` runs a test with every array library.

pytest loads it in every session, by the entry point ``xpnet``, so importing it imports only pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xpnet.backends.base import Backend
    from xpnet.parity.devices import BackendDevice

FIXTURE = "xp_backend"
OPTION = "--xp-backends"
MARKER = "xp_backends"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--xp-backends``."""
    parser.getgroup("xpnet").addoption(
        OPTION,
        metavar="NAMES",
        help="backends of the fixture xp_backend, which must then work: numpy,torch,torch:cuda,jax,"
        "array-api-strict,cupy (default: those that are installed)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check the option.

    Raises
    ------
    pytest.UsageError
        The option names no backend, or an unknown one.
    """
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*names): run with these backends only; torch means torch on every device, "
        "torch:cuda that one",
    )
    if config.getoption(OPTION) is not None and not _selected_targets(config):
        msg = f"{OPTION}: expected at least one name"
        raise pytest.UsageError(msg)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests that use the fixture with their backends; pytest skips one that has none."""
    if FIXTURE not in metafunc.fixturenames:
        return
    targets = _selected_targets(metafunc.config)
    for marker in metafunc.definition.iter_markers(MARKER):
        targets = [target for target in targets if _allows(marker, target)]
    metafunc.parametrize(FIXTURE, targets, ids=str, indirect=True)


@pytest.fixture
def xp_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Yield each backend in turn, inside its scope: ``name``, ``xp``, ``device``, ``from_host``, ``to_host``.

    If an installed library cannot run here, such as CuPy without a GPU, the test is skipped; it fails if
    ``--xp-backends`` names the library.
    """
    from xpnet.backends.resolve import make, probe

    target: BackendDevice = request.param
    outcome = probe(*target)
    if not outcome.usable:
        message = f"{target.where}: {outcome.reason}; to fix it: {outcome.fix}"
        if request.config.getoption(OPTION) is not None:
            pytest.fail(f"{message} ({OPTION} names it)", pytrace=False)
        pytest.skip(message)
    backend = make(*target)
    with backend.scope():
        yield backend


def _selected_targets(config: pytest.Config) -> list[BackendDevice]:
    """Return the backends that the option names; by default those of the installed libraries."""
    from xpnet.parity import devices

    names: str | None = config.getoption(OPTION)
    if names is None:
        return devices.find_installed()
    return _parse([names], OPTION, pytest.UsageError)


def _allows(marker: pytest.Mark, target: BackendDevice) -> bool:
    allowed = _parse(marker.args, f"marker {MARKER}", pytest.Collector.CollectError)
    return target in allowed or target.backend in marker.args


def _parse(names: Sequence[str], source: str, error_class: type[Exception]) -> list[BackendDevice]:
    """Parse the names of backends, without duplicates; an unknown one is an error of pytest's."""
    from xpnet.errors import XPNetError
    from xpnet.parity import devices

    try:
        return devices.parse_list(",".join(names))
    except XPNetError as error:
        msg = f"{source}: {error}"
        raise error_class(msg) from error
