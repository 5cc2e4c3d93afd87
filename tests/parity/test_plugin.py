"""The pytest plugin, in pytest sessions of its own."""

import sys

import pytest

from xpnet.backends.probing import Probe
from xpnet.parity import devices

pytest_plugins = ["pytester"]

STRICT_CPU = "array-api-strict:cpu"

MARKED = """
    import pytest

    def test_all(xp_backend):
        x = xp_backend.xp.ones(3, dtype=xp_backend.xp.float64, device=xp_backend.device)
        assert xp_backend.to_host(xp_backend.xp.sum(x)) == 3

    @pytest.mark.xp_backends({})
    def test_some(xp_backend):
        pass
"""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import NumPy and array-api-strict, which can be imported only once.

    What a session in this process imports is forgotten after it.
    """
    devices.probe_all(["numpy", "array-api-strict"])


@pytest.fixture
def session(pytester, monkeypatch):
    """Run tests with this plugin and no other, whether or not the package is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*words, marked='"numpy", "array-api-strict"', tests=MARKED, run=pytester.runpytest_inprocess):
        pytester.makepyfile(tests.format(marked))
        return run("-p", "xpnet.parity.plugin", "--strict-markers", "-ra", "-v", *words)

    return run


@pytest.fixture
def here(monkeypatch):
    """Choose the libraries that are installed, and whether there is an NVIDIA driver; torch does not work."""

    def choose(*names, driver=None):
        found = {name.replace("-", "_") for name in names}
        monkeypatch.setattr(devices, "find_spec", lambda name: True if name in found else None)
        monkeypatch.setattr(devices, "cuda_driver_version", lambda: driver)
        works, gone = Probe(True, "2", ("cpu",)), Probe(False, "2", (), "torch is broken", "pip install it")
        probe = "xpnet.backends.resolve.probe"
        monkeypatch.setattr(probe, lambda backend, _: gone if backend == "torch" else works)

    return choose


def names(result):
    """The names of the tests in an output."""
    return [line.partition("::")[2].partition(" ")[0] for line in result.outlines if "::test_" in line]


@pytest.mark.parametrize(
    ("words", "marked", "all_", "some"),
    [
        ((), '"numpy"', ["numpy", "array-api-strict"], "numpy"),
        (("--xp-backends", "numpy"), '"array-api-strict", "numpy"', ["numpy"], "numpy"),
        (("--xp-backends", STRICT_CPU), '"array-api-strict"', [STRICT_CPU], STRICT_CPU),
    ],
)
def test_option_and_marker_choose_the_libraries(session, here, words, marked, all_, some):
    here("numpy", "array-api-strict")
    result = session(*words, marked=marked)
    assert names(result) == [*(f"test_all[{name}]" for name in all_), f"test_some[{some}]"]
    result.assert_outcomes(passed=len(all_) + 1)


def test_gpus_are_among_the_defaults_where_there_is_a_driver(session, here):
    here(*devices.BACKENDS, driver=12080)
    default = ["numpy", "cupy", "torch", "jax", "array-api-strict", "torch:cuda", "jax:cuda"]
    assert list(map(str, devices.find_installed())) == default
    result = session("--collect-only", "-qq", "-k", "test_some", marked='"torch"')
    assert names(result) == ["test_some[torch]", "test_some[torch:cuda]"]


@pytest.mark.parametrize(
    ("installed", "words", "outcome", "message"),
    [
        # An installed library that does not work skips; one that is asked for fails.
        ("torch", (), "skipped", "SKIPPED*torch on cpu: torch is broken; to fix it: pip install it"),
        ("numpy", ("--xp-backends", "torch"), "errors", "*torch is broken*--xp-backends names it*"),
        ("numpy", (), "skipped", "SKIPPED*xp_backend*"),
    ],
)
def test_a_library_that_is_missing_is_named(session, here, installed, words, outcome, message):
    here(installed)
    result = session(*words, "-k", "test_some", marked='"torch"')
    assert result.parseoutcomes()[outcome] == 1
    result.stdout.fnmatch_lines([message])


def test_unknown_names_are_usage_errors(session):
    for option, message in (("numpy,keras", "unknown backend 'keras'"), (",", "expected at least one name")):
        result = session("--xp-backends", option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --xp-backends: {message}*"])
    result = session(marked='"keras"')
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["marker xp_backends: unknown backend 'keras': expected numpy, *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_session_without_the_fixture_imports_no_array_library(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_nothing(): pass")
    code = "import sys, pytest; pytest.main(['-p', 'xpnet.parity.plugin', '-q', '-s'])"
    words = [sys.executable, "-c", f"{code}; import xpnet.parity; print(*sys.modules)"]
    loaded = set(pytester.run(*words).stdout.str().split())
    assert {"1", "passed", "xpnet.parity.plugin"} <= loaded
    assert not {"numpy", "torch", "jax", "cupy", "array_api_strict", "array_api_compat"} & loaded
