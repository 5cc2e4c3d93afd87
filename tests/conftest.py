"""The `backend` fixture, and the selection of the tests that can run here.

With ``XPNET_EMULATED_CUDA=1`` in the environment, xpnet's plugin has CuPy compute on an emulated GPU.
The workers of pytest-xdist share the processors, and begin with the tests that take longest.
"""

import gc
import os
import shutil
import tempfile
from collections import Counter
from contextlib import chdir
from functools import cache, wraps
from pathlib import Path

import pytest
from backend_enum import CASES, BackendCase
from hypothesis import HealthCheck, settings
from requirements import chromium, missing, required
from threadpoolctl import threadpool_limits

from xpnet._lib.machine import available_cpus
from xpnet.errors import ConfigError
from xpnet.storage import environment

# The same examples in every run, however busy the machine is.
SLOW = [HealthCheck.too_slow]
settings.register_profile("xpnet", deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.load_profile("xpnet")

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
ON_CUDA = {case.value for case in BackendCase if case.device.startswith("cuda")}
ROOT = Path(__file__).resolve().parents[1]
JAX_CACHE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"
"""What is -1 for JAX to keep all that it compiles."""
ABSENT = pytest.StashKey[Counter[str]]()
"""The number of tests left out, by requirement that is missing."""


def pytest_configure(config):
    config.stash[ABSENT] = Counter()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # of this session, for its workers and their children
        folder = tempfile.TemporaryDirectory(prefix="xpnet-jax-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder.name, **dict.fromkeys(JAX_CACHE, "-1")}
    if WORKERS > 1:
        # Threads that spin while they wait for a processor, as PyTorch's do, take several times as long.
        share = max(1, available_cpus() // WORKERS)
        os.environ.setdefault("OMP_NUM_THREADS", str(share))
        threadpool_limits(share)  # of libraries that are loaded already
    try:
        required()
    except (ValueError, ConfigError) as error:
        raise pytest.UsageError(str(error)) from error


def _needs(item):
    names = {name for mark in item.iter_markers("needs") for name in mark.args}
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return names | {case.value for case in parameters if isinstance(case, BackendCase)}


def pytest_itemcollected(item):
    if _needs(item) & ON_CUDA:
        item.add_marker(pytest.mark.cuda)


@pytest.hookimpl(trylast=True)  # once marks and keywords have selected
def pytest_collection_modifyitems(config, items):
    """Leave out the tests whose requirements are missing, unless the environment insists on them."""
    kept, left_out = [], []
    for item in items:
        absent = [name for name in _needs(item) - required() if missing(name)]
        config.stash[ABSENT].update(absent)
        (left_out if absent else kept).append(item)
    items[:] = kept if WORKERS == 1 else _deal(kept)
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish():
    """Collect garbage rarely, and not among the collected tests: it takes a tenth of the time otherwise."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


def _deal(items):
    """Return the tests, of which each worker gets as many consecutive ones, its slow ones first.

    Of the quick ones, the files with tests on JAX are first, so that one worker loads it and has it compile.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if item not in slow]
    on_jax = {item.path for item in quick if "jax" in _needs(item)}
    quick.sort(key=lambda item: item.path not in on_jax)
    slow.sort(key=lambda item: "docs" not in item.path.parts)  # which take longest
    files = list(dict.fromkeys(item.path for item in slow))  # a file's fixtures are made by one worker
    dealt = []
    for worker in range(WORKERS):
        share = [item for item in slow if files.index(item.path) % WORKERS == worker]
        number = max(0, len(items) // WORKERS - len(share))
        dealt += [*share, *quick[:number]]
        del quick[:number]
    return [*dealt, *quick]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let a worker that has done its tests take some from the others."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_runtest_setup(item):
    """Fail a test whose requirement the environment insists on, but is missing."""
    for name in _needs(item):
        if reason := missing(name):
            pytest.fail(f"{name} is required, but missing: {reason}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def one_question_to_git():
    """Ask git once for the commit of the checkout, which every run records, and not outside repositories."""
    describe = environment._describe_commit
    describe_once = cache(describe)

    @wraps(describe)
    def answer(folder, **variables):
        path = Path(folder).resolve()
        if not any((parent / ".git").exists() for parent in (path, *path.parents)):
            return None
        return (describe_once if path == ROOT else describe)(folder, **variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_describe_commit", answer)
        yield


@pytest.fixture(params=CASES, ids=lambda case: case.value)
def backend(request):
    made = request.param.make()
    with made.scope():
        yield made


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """The folder of the recorded runs, which are trained once; tests change copies of it."""
    from recorded_runs import train_all

    folder = tmp_path_factory.mktemp("recorded")
    with chdir(folder):
        train_all()
    return folder


@pytest.fixture
def small_data(recorded, tmp_path, monkeypatch):
    """Work in a folder that holds small.npz: 180 + 50 samples, 36 features, 4 classes."""
    shutil.copy(recorded / "small.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_REQUIRE_DEVICE", raising=False)


@pytest.fixture
def copied(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "copy"))
    return tmp_path / "copy"


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNET_REQUIRE_DEVICE", raising=False)


def pytest_sessionfinish(session):
    """Pass the counts of a worker process of pytest-xdist to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["absent"] = dict(session.config.stash[ABSENT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over the counts of a worker process; all workers collect the same tests."""
    node.config.stash[ABSENT] |= Counter(getattr(node, "workeroutput", {}).get("absent", {}))


def pytest_terminal_summary(terminalreporter, config):
    absent = config.stash[ABSENT]
    if absent:
        terminalreporter.section("not tested, because it is missing")
    for name in sorted(absent):
        terminalreporter.write_line(f"{name:<16} {absent[name]:>5} tests  {missing(name)}")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield launched
        launched.close()
