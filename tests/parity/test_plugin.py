"""The pytest plugin, in pytest sessions of its own."""

import sys
from importlib import import_module

import pytest

from xpnet.backends.probing import Probe
from xpnet.parity import devices

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "xpnet.parity.plugin", "--strict-markers", "-ra", "-v")
STRICT_CPU = "array-api-strict:cpu"
HEAD = "import numpy as np, pytest\nfrom xpnet.parity import assert_close, assert_parity\n"
MARKED = """
def test_all(xp_backend):
    x = xp_backend.xp.ones(3, dtype=xp_backend.xp.float64, device=xp_backend.device)
    assert xp_backend.to_host(xp_backend.xp.sum(x)) == 3

@pytest.mark.xp_backends(MARKED)
def test_some(xp_backend): pass
"""
PARITY = """
def check(*libraries):
    seen = []
    function = lambda x, xp: seen.append(type(x).__module__.partition(".")[0]) or x
    assert_parity(function, np.ones(2), tier="bitwise", variations=False)
    assert seen == ["numpy", *libraries]

def test_plain():
    check("array_api_strict")

def test_fixture(xp_backend):
    check("numpy" if xp_backend.name == "numpy" else "array_api_strict")

@pytest.mark.xp_parity
class TestClass:
    def test_it(self): assert_parity(lambda x: x, np.ones(2), tier="bitwise")
"""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import what the sessions in this process would forget; NumPy can be imported only once."""
    devices.probe_all(["numpy", "array-api-strict"])
    import_module("xpnet.parity.assertion")


@pytest.fixture
def session(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv(devices.REQUIRE, raising=False)

    def run(*words, marked="'numpy', 'array-api-strict'", tests=MARKED):
        pytester.makepyfile(HEAD + tests.replace("MARKED", marked))
        return pytester.runpytest_inprocess(*OPTIONS, *words)

    return run


@pytest.fixture
def here(monkeypatch):
    """Choose the libraries that are installed, and whether there is an NVIDIA driver; torch does not work."""

    def choose(*names, driver=None):
        installed = {name.replace("-", "_") for name in names}
        monkeypatch.setattr(devices, "find_spec", lambda name: True if name in installed else None)
        monkeypatch.setattr(devices, "cuda_driver_version", lambda: driver)
        works, gone = Probe(True, "2", ("cpu",)), Probe(False, "2", (), "torch is broken", "pip install it")
        probe = "xpnet.backends.resolve.probe"
        monkeypatch.setattr(probe, lambda backend, _: gone if backend == "torch" else works)

    return choose


def names(result):
    return [line.partition("::")[2].partition(" ")[0] for line in result.outlines if "::test_" in line]


@pytest.mark.parametrize(
    ("words", "marked", "libraries", "some"),
    [
        ((), "'numpy'", ["numpy", "array-api-strict"], "numpy"),
        (("--xp-backends", STRICT_CPU), "'array-api-strict'", [STRICT_CPU], STRICT_CPU),
    ],
)
def test_option_fixture_and_markers_choose_the_libraries(
    session, here, monkeypatch, words, marked, libraries, some
):
    here("numpy", "array-api-strict")
    usable = [(target, devices.Probe(True, "1", ())) for target in devices.find_installed()]
    monkeypatch.setattr(devices, "probe_all", lambda: usable)
    result = session(*words, marked=marked, tests=MARKED + PARITY)
    tests = ("test_all", "test_fixture", "TestClass::test_it")
    expected = [f"{test}[{name}]" for test in tests for name in libraries]
    expected += ["test_plain", f"test_some[{some}]"]
    assert sorted(names(result)) == sorted(expected)
    result.assert_outcomes(passed=len(expected))


def test_gpus_are_among_the_defaults_where_there_is_a_driver(here):
    here(*devices.BACKENDS, driver=12080)
    default = ["numpy", "cupy", "torch", "jax", "dpnp", "array-api-strict", "torch:cuda", "jax:cuda"]
    assert list(map(str, devices.find_installed())) == default


@pytest.mark.parametrize(
    ("installed", "required", "words", "outcome", "message"),
    [
        ("torch", "", (), "skipped", "SKIPPED*torch on cpu: torch is broken; to fix it: pip install it"),
        ("numpy", "", ("--xp-backends", "torch"), "errors", "*torch is broken*--xp-backends names it*"),
        ("numpy", "torch", (), "errors", "*torch is broken*XPNET_REQUIRE_BACKENDS names it*"),
        ("numpy", "torh", (), "errors", "XPNET_REQUIRE_BACKENDS: unknown backend 'torh': expected numpy, *"),
    ],
)
def test_a_library_that_is_missing_skips_or_fails_if_it_is_asked_for(
    session, here, monkeypatch, installed, required, words, outcome, message
):
    here(installed)
    monkeypatch.setenv(devices.REQUIRE, required)
    result = session(*words, "-k", "test_some", marked="'torch:cpu'")
    assert result.parseoutcomes()[outcome] == 1
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_marker_without_effect_is_an_error(session, here):
    here("numpy")
    result = session(tests="@pytest.mark.xp_backends('numpy')\ndef test_it(): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it needs the fixture xp_backend *"])


TAKES_XP = """
from hypothesis import given, settings, strategies as st

numbers = lambda test: settings(max_examples=3, database=None)(given(st.integers(0, 9))(test))

def test_namespace(xp):
    x = xp.asarray([1.0, 2.0], dtype=xp.float64)
    assert_close((x + x, xp.sum(x)), (np.asarray([2.0, 4.0]), 3.0), check_device=False)
    with pytest.raises(AssertionError, match=r"^result differs first at \\(0,\\): 1.0 where desired has 1.5"):
        assert_close(x, [1.5, 2.0], check_device=False)

@pytest.mark.xp_parity
@numbers
def test_given(number):
    assert_parity(lambda x: x + number, np.arange(3.0), tier="bitwise")
"""


@pytest.mark.filterwarnings("ignore")
def test_the_namespace_is_a_fixture_and_hypothesis_works_with_all_of_them(session, here):
    here("numpy", "array-api-strict")
    result = session("-p", "_hypothesis_pytestplugin", tests=TAKES_XP)
    tests = ["test_namespace", "test_given"]
    assert names(result) == [f"{test}[{name}]" for test in tests for name in ("numpy", "array-api-strict")]
    result.assert_outcomes(passed=4)


OWN = """
@pytest.fixture(params=["a", "b"])
def FIXTURE(request):
    return request.param

def test_fixture(FIXTURE): assert FIXTURE in "ab"

@pytest.mark.parametrize("FIXTURE", [5])
def test_mark(FIXTURE): assert FIXTURE == 5
"""


@pytest.mark.parametrize("fixture", ["xp", "xp_backend"])
def test_a_projects_own_fixtures_are_left_alone(session, here, fixture):
    here("numpy", "array-api-strict")
    result = session(tests=OWN.replace("FIXTURE", fixture))
    assert names(result) == ["test_fixture[a]", "test_fixture[b]", "test_mark[5]"]
    result.assert_outcomes(passed=3)


def test_a_line_names_the_libraries_that_took_part_and_the_reasons_of_others(session, here):
    here("numpy", "torch")
    result = session("--xp-backends", "numpy,torch", marked="'numpy'")
    header = "xpnet: tests with numpy; without torch: torch is broken"
    unnamed = "without cupy, jax, dpnp, array-api-strict, torch:cuda, jax:cuda, dpnp:gpu: --xp-backends does"
    lines = [line for line in result.outlines if line.startswith("xpnet: tests with ")]
    last = f"xpnet: tests with numpy; {unnamed} not name it; without torch: torch is broken"
    assert lines == [header, last]


def test_a_session_without_the_fixture_imports_no_array_library(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_nothing(): pass")
    code = "import sys, pytest; pytest.main(['-p', 'xpnet.parity.plugin', '-q', '-s'])"
    words = [sys.executable, "-c", f"{code}; import xpnet.parity; print(*sys.modules)"]
    loaded = set(pytester.run(*words).stdout.str().split())
    assert {"1", "passed", "xpnet.parity.plugin"} <= loaded
    assert not {"numpy", "pandas", "torch", "jax", "cupy", "array_api_strict", "array_api_compat"} & loaded
