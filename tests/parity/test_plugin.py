"""The pytest plugin, in pytest sessions of its own."""

import subprocess
import sys

import pytest
from backend_enum import BackendCase

from xpnet.backends.probing import Probe
from xpnet.parity import devices

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    def test_all(xp_backend):
        x = xp_backend.xp.ones(3, dtype=xp_backend.xp.float64, device=xp_backend.device)
        assert xp_backend.to_host(xp_backend.xp.sum(x)) == 3

    @pytest.mark.xp_backends("numpy", "array-api-strict")
    def test_some(xp_backend):
        assert xp_backend.name in ("numpy", "array-api-strict")

    def test_none():
        pass
"""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import NumPy and array-api-strict, which can be imported only once.

    What a session in this process imports is forgotten after it.
    """
    devices.find_usable(["numpy", "array-api-strict"])


WORDS = ("-p", "xpnet.parity.plugin", "--strict-markers", "-ra")


@pytest.fixture
def session(pytester, monkeypatch):
    """Run tests with this plugin and no other, whether or not the package is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*words, tests=TESTS):
        pytester.makepyfile(tests)
        return pytester.runpytest_inprocess(*WORDS, *words)

    return run


@pytest.fixture
def process(pytester, monkeypatch):
    """Run tests likewise in a process of its own, with all libraries."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*words, tests=TESTS):
        pytester.makepyfile(tests)
        return pytester.runpytest_subprocess(*WORDS, *words)

    return run


def test_a_test_runs_with_each_installed_library(process):
    result = process("-v")
    usable = {case.backend_name for case in BackendCase if case.probe().usable}
    for name in usable:
        result.stdout.fnmatch_lines([f"*::test_all[[]{name}] PASSED*"])
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= len(usable) + 2 + 1


def test_the_option_chooses_the_libraries(session):
    result = session("-v", "--xp-backends", "numpy,array-api-strict:cpu")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*::test_all[[]numpy] PASSED*"])
    result.stdout.fnmatch_lines(["*::test_all[[]array-api-strict:cpu] PASSED*"])


def test_the_marker_restricts_a_test(session):
    result = session("-v", "-k", "test_some")
    result.assert_outcomes(passed=2, deselected=result.parseoutcomes()["deselected"])


def test_marker_and_option_both_restrict(session):
    result = session("--xp-backends", "numpy", "-k", "test_some")
    assert result.parseoutcomes()["passed"] == 1


def test_a_marker_that_leaves_nothing_skips_and_says_so(session):
    tests = """
        import pytest

        @pytest.mark.xp_backends("torch")
        def test_torch(xp_backend):
            pass
    """
    result = session("--xp-backends", "numpy", tests=tests)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*the marker xp_backends leaves none of the backends"])


def test_unknown_names_are_usage_errors(session):
    for words, message in (
        (("--xp-backends", "numpy,keras"), "--xp-backends: unknown backend 'keras'"),
        (("--xp-backends", "numpy:cuda"), "--xp-backends: unknown backend or device 'numpy:cuda'"),
        (("--xp-backends", ","), "--xp-backends: expected at least one name"),
    ):
        result = session(*words)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}*"])


def test_an_unknown_name_in_a_marker_is_an_error(session):
    tests = """
        import pytest

        @pytest.mark.xp_backends("keras")
        def test_keras(xp_backend):
            pass
    """
    result = session(tests=tests)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["marker xp_backends: unknown backend 'keras': expected numpy, *"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.fixture
def without_torch(monkeypatch):
    """PyTorch is installed and cannot run."""
    gone = Probe(usable=False, version="2", devices=(), reason="torch is broken", fix="pip install it")

    def probe(backend, device):
        return gone if backend == "torch" else Probe(usable=True, version="2", devices=("cpu",))

    here = ("numpy", "torch")
    monkeypatch.setattr(devices, "probe", probe)
    is_installed = property(lambda device: device.backend in here)
    monkeypatch.setattr(devices.BackendDevice, "is_installed", is_installed)
    monkeypatch.setattr(devices, "cuda_driver_version", lambda: None)


@pytest.mark.usefixtures("without_torch")
def test_an_installed_library_that_does_not_work_skips(session):
    result = session("-k", "test_all")
    assert result.parseoutcomes()["skipped"] == 1
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["SKIPPED*torch on cpu: torch is broken; to fix it: pip install it"])


@pytest.mark.usefixtures("without_torch")
def test_a_library_that_is_asked_for_and_does_not_work_fails(session):
    result = session("--xp-backends", "numpy,torch", "-k", "test_all")
    assert result.parseoutcomes()["errors"] == 1
    result.stdout.fnmatch_lines(["*torch on cpu: torch is broken*--xp-backends names it*"])


def test_gpus_are_among_the_defaults_where_there_is_a_driver(monkeypatch):
    monkeypatch.setattr(devices.BackendDevice, "is_installed", property(lambda _: True))
    monkeypatch.setattr(devices, "cuda_driver_version", lambda: 12080)
    names = list(map(str, devices.find_installed()))
    assert names == [*("numpy", "cupy", "torch", "jax", "array-api-strict"), *("torch:cuda", "jax:cuda")]


def test_a_marker_name_covers_every_device_of_the_library(session, monkeypatch):
    monkeypatch.setattr(devices.BackendDevice, "is_installed", property(lambda _: True))
    monkeypatch.setattr(devices, "cuda_driver_version", lambda: 12080)
    tests = """
        import pytest

        @pytest.mark.xp_backends("torch")
        def test_torch(xp_backend):
            pass

        @pytest.mark.xp_backends("torch:cuda")
        def test_gpu(xp_backend):
            pass
    """
    result = session("--collect-only", "-q", tests=tests)
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert names == ["test_torch[torch]", "test_torch[torch:cuda]", "test_gpu[torch:cuda]"]


def test_a_session_without_the_fixture_imports_no_array_library(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass")
    code = (
        "import sys, pytest; pytest.main(['-p', 'xpnet.parity.plugin', '-q', '-s']);"
        "import xpnet.parity; print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "1 passed" in result.stdout
    loaded = set(result.stdout.split())
    assert "xpnet.parity.plugin" in loaded
    assert not {"numpy", "torch", "jax", "cupy", "array_api_strict", "array_api_compat"} & loaded


def test_the_plugin_leaves_the_settings_of_libraries_alone(process):
    tests = """
        import numpy as np
        import pytest

        @pytest.mark.xp_backends("jax", "numpy", "torch")
        def test_inside(xp_backend):
            assert xp_backend.xp.asarray([1.0]).dtype in (xp_backend.xp.float64, xp_backend.xp.float32)

        def test_outside():
            jax = pytest.importorskip("jax")
            assert jax.numpy.asarray(np.ones(1)).dtype == jax.numpy.float32
            assert np.geterr()["divide"] == "warn"
    """
    result = process(tests=tests)
    assert result.ret == 0
