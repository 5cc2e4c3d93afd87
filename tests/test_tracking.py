"""The record of a run: what it holds, and that nothing is lost or half-written."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet import tracking
from xpnet.checkpoint import SavedModel, load_model
from xpnet.errors import ConfigError, DataError
from xpnet.tracking import Given, Record, Run, environment, read_metrics, read_run

GIVEN: Given = {
    "command": ["python", "-m", "xpnet.train", "--data", "weiß"],
    "config": {"hidden": [10], "learning_rate": 0.1, "name": None},
    "seed": 2**64 - 1,
    "device_requested": "cuda",
    "device_used": "cpu",
    "device_reason": "no driver",
    "backend": "numpy",
    "data": {"sha256": "ab", "name": "mnist", "train": 60000, "test": 10000},
}
NO_SPACE = OSError(28, "No space left on device")


def start(out: Path, name: str | None = None, *, overwrite: bool = False) -> Run:
    return Run.start(out, name, overwrite, GIVEN)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder, with the content of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def a_model() -> SavedModel:
    layers = [{"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}]
    return SavedModel(layers, (3, 2))


def test_a_started_run_has_a_folder_with_a_running_record(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    run = start(tmp_path / "new" / "runs")
    record = read_run(run.folder)
    assert run.folder.parent == tmp_path / "new" / "runs"
    assert record == run.record
    assert {key: record[key] for key in GIVEN} == GIVEN  # type: ignore[literal-required]
    assert set(record) == set(get_type_hints(Record))
    assert (record["schema_version"], record["status"]) == (1, "running")
    assert record["id"] == run.id == run.folder.name
    assert before <= datetime.fromisoformat(record["started"]) <= datetime.now(UTC)
    assert record["started"].endswith("+00:00")
    assert [record["ended"], record["metrics"], record["fingerprint"], record["error"]] == (
        [None] * 4
    )
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    assert [path.name for path in run.folder.parent.iterdir()] == [run.id]


def test_run_folders_sort_by_the_time_of_their_start(tmp_path: Path) -> None:
    run = start(tmp_path)
    match = re.fullmatch(r"(\d{8}T\d{6}Z)-[0-9a-f]{6}", run.id)
    assert match
    named = datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(named - datetime.fromisoformat(run.record["started"])) < timedelta(seconds=2)


def test_trainings_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    runs: list[Run] = []
    barrier = threading.Barrier(8)

    def training() -> None:
        barrier.wait()
        runs.append(start(tmp_path))

    threads = [threading.Thread(target=training) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.folder for run in runs}) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(run.id for run in runs)


def test_an_id_that_is_taken_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["a", "a", "b"])
    monkeypatch.setattr(tracking, "_new_id", lambda: next(ids))
    first, second = start(tmp_path), start(tmp_path)
    assert (first.id, second.id) == ("a", "b")
    assert read_run(second.folder)["id"] == "b"


def test_of_trainings_that_want_one_name_at_once_one_gets_it(tmp_path: Path) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(6)

    def training() -> None:
        barrier.wait()
        try:
            outcomes.append(start(tmp_path, "same").id)
        except ConfigError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=training) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ConfigError"] * 5 + ["same"]
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def test_a_name_makes_exactly_that_folder(tmp_path: Path) -> None:
    run = start(tmp_path, "first try")
    assert run.folder == tmp_path / "first try"
    assert run.id == "first try"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "empty folder", "other folder", "link", "dead link"])
def test_what_is_no_run_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool) -> None:
    target = tmp_path / "runs" / "mine"
    target.parent.mkdir()
    if kind == "file":
        target.write_bytes(b"precious")
    elif kind == "link":
        target.symlink_to(start(tmp_path / "elsewhere").folder)
    elif kind == "dead link":
        target.symlink_to(tmp_path / "absent")
    else:
        target.mkdir()
    if kind == "other folder":
        (target / "thesis.txt").write_bytes(b"precious")
    before = tree(tmp_path)
    reason = r"not a run \(no run.json in it\)" if overwrite else "exists already"
    with pytest.raises(ConfigError, match=rf"runs/mine: {reason}[^\n]*--overwrite[^\n]*$"):
        start(tmp_path / "runs", "mine", overwrite=overwrite)
    assert tree(tmp_path) == before
    assert os.path.lexists(target)


def test_a_run_is_replaced_only_where_overwrite_says_so(tmp_path: Path) -> None:
    old = start(tmp_path, "mine")
    old.log({"epoch": 1})
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"mine: exists already: choose another --name, or "):
        start(tmp_path, "mine")
    assert tree(tmp_path) == before
    start(tmp_path, "mine", overwrite=True)
    assert set(tree(tmp_path)) == {"mine", "mine/run.json"}


def test_overwrite_without_an_old_run_starts_an_ordinary_one(tmp_path: Path) -> None:
    start(tmp_path, "mine", overwrite=True)
    assert set(tree(tmp_path)) == {"mine", "mine/run.json"}


def failing_rename(number: int, error: BaseException) -> Any:
    rename, calls = Path.rename, itertools.count(1)

    def patched(self: Path, target: Path) -> Path:
        if next(calls) == number:
            raise error
        return rename(self, target)

    return patched


@pytest.mark.parametrize("error", [NO_SPACE, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("step", ["write", "move aside", "move in"])
def test_a_failed_start_leaves_the_old_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    start(tmp_path, "mine").log({"epoch": 1})
    before = tree(tmp_path)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(tracking, "write_atomic", fail)
        else:
            number = 1 if step == "move aside" else 2
            patch.setattr(Path, "rename", failing_rename(number, error))
        expected = ConfigError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            start(tmp_path, "mine", overwrite=True)
    assert tree(tmp_path) == before


def test_a_run_that_never_started_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NO_SPACE

    monkeypatch.setattr(tracking, "write_atomic", fail)
    with pytest.raises(ConfigError) as caught:
        start(tmp_path)
    assert str(caught.value) == (
        f"--out: no run can be written in {tmp_path} (No space left on device): "
        "choose another folder"
    )
    assert tree(tmp_path) == {}


def test_an_out_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"x")
    for out, reason in [("runs", "is a file"), ("runs/below", "Not a directory")]:
        with pytest.raises(ConfigError) as caught:
            start(tmp_path / out)
        assert str(caught.value) == (
            f"--out: no run can be written in {tmp_path / out} ({reason}): choose another folder"
        )


def test_a_name_too_long_for_the_system_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--out: [^\n]*File name too long[^\n]*$"):
        start(tmp_path, "n" * 300)
    assert tree(tmp_path) == {}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=4))
def test_logged_values_read_back_exactly(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    run = start(tmp_path)
    for line in lines:
        run.log(line)
    path = run.folder / "metrics.jsonl"
    found = read_metrics(path) if lines else []
    assert repr(found) == repr(lines)


def test_a_line_is_in_the_file_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    run = start(tmp_path)
    for epoch in (1, 2):
        run.log({"epoch": epoch, "loss": 0.1 + 0.2})
        lines = (run.folder / "metrics.jsonl").read_text().splitlines()
        assert lines[-1] == f'{{"epoch": {epoch}, "loss": 0.30000000000000004}}'
        assert len(lines) == epoch


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_become_null(tmp_path: Path, value: float) -> None:
    def refuse(text: str) -> None:
        pytest.fail(f"not JSON: {text}")

    run = start(tmp_path)
    run.log({"loss": value, "deep": {"list": [1.0, (value,)]}})
    run.finish("failed", metrics={"train_loss": value})
    expected = {"loss": None, "deep": {"list": [1.0, [None]]}}
    text = (run.folder / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == expected
    record = json.loads((run.folder / "run.json").read_text(), parse_constant=refuse)
    assert record["metrics"] == {"train_loss": None}


@pytest.mark.parametrize("status", ["completed", "interrupted", "failed"])
def test_finish_completes_the_record(tmp_path: Path, status: Any) -> None:
    run = start(tmp_path)
    started = read_run(run.folder)
    run.finish(status, metrics={"test_accuracy": 0.5}, fingerprint="cd")
    record = read_run(run.folder)
    changed = {key for key in record if record[key] != started[key]}  # type: ignore[literal-required]
    assert changed == {"status", "ended", "metrics", "fingerprint"}
    assert (record["status"], record["metrics"]) == (status, {"test_accuracy": 0.5})
    assert record["ended"] is not None
    assert record["ended"] >= record["started"]
    assert run.record == record


def test_a_failed_run_says_why_and_has_no_fingerprint(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.finish("failed", error="diverged in epoch 3")
    record = read_run(run.folder)
    assert (record["error"], record["fingerprint"]) == ("diverged in epoch 3", None)


def test_an_outcome_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="accuracy"):
        start(tmp_path).finish("completed", accuracy=1.0)  # type: ignore[call-arg]


def test_the_model_is_saved_beside_the_record(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.save_model(a_model())
    assert load_model(run.folder / "model.safetensors").sizes == (3, 2)
    assert set(tree(run.folder)) == {"run.json", "model.safetensors"}


def test_a_full_disk_is_one_line_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NO_SPACE

    run = start(tmp_path)
    run.log({"epoch": 1})
    run.save_model(a_model())
    before = tree(tmp_path)
    expected = r"/{}: cannot be written \(No space left on device\): [^\n]*$"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ConfigError, match=expected.format("model.safetensors")):
            run.save_model(a_model())
        with pytest.raises(ConfigError, match=expected.format("run.json")):
            run.finish("completed")
        patch.setattr(Path, "open", fail)
        with pytest.raises(ConfigError, match=expected.format("metrics.jsonl")):
            run.log({"epoch": 2})
    assert tree(tmp_path) == before


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_run_never_writes_into_the_folder_of_its_successor(tmp_path: Path, how: str) -> None:
    old = start(tmp_path, "mine")
    if how == "replaced":
        start(tmp_path, "mine", overwrite=True)
    else:
        shutil.rmtree(old.folder)
    before = tree(tmp_path)
    message = r"mine: was replaced or removed while this run was using it$"
    with pytest.raises(ConfigError, match=message):
        old.log({"epoch": 1})
    with pytest.raises(ConfigError, match=message):
        old.save_model(a_model())
    with pytest.raises(ConfigError, match=message):
        old.finish("completed")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b'{"a": 1}\n', [{"a": 1}]),
        (b'{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        (b'{"a": 1}\n{"a', [{"a": 1}]),
        (b'{"a": 1}\n{"a": "\xc3', [{"a": 1}]),
        (b'{"a": 1}\n\0\0\0\0', [{"a": 1}]),
        (b'{"a": 1}\n3', [{"a": 1}]),
        (b'{"a', []),
    ],
)
def test_a_torn_last_line_is_left_out(
    tmp_path: Path, content: bytes, lines: list[dict[str, int]]
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_metrics(tmp_path / "metrics.jsonl") == lines


@pytest.mark.parametrize(
    ("content", "number", "shown"),
    [
        (b'{"a\n{"a": 1}\n', 1, r'"{\"a"'),
        (b'{"a": 1}\n\n{"a": 1}\n', 2, '""'),
        (b'{"a": 1}\n{"a": 1}\n3\n', 3, '"3"'),
        (b'{"a": 1}\n\xff\x1b[31m\n{"a": 1}\n', 2, '"\\ufffd\\u001b[31m"'),
        (b"[" * 100_000 + b"\n", 1, '"' + "[" * 60 + '"'),
    ],
)
def test_a_damaged_line_elsewhere_is_named(
    tmp_path: Path, content: bytes, number: int, shown: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_metrics(path)
    assert str(caught.value) == (f"{path}: line {number}: expected a JSON object, got {shown}")


def test_every_torn_tail_of_a_log_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    run = start(tmp_path)
    for epoch in range(3):
        run.log({"epoch": epoch, "word": "weiß"})
    path = run.folder / "metrics.jsonl"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = content[: length + 1].count(b"\n")
        assert [line["epoch"] for line in read_metrics(path)] == list(range(whole))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a run record: expected a JSON object"),
        (b"[]", "not a run record: expected a JSON object"),
        (b'{"schema_version": 1', "not a run record: expected a JSON object"),
        (b"{}", "schema_version: expected 1, got null"),
        (b'{"schema_version": 2}', "schema_version: expected 1, got 2"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_run(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'run.json'}: {message}"


def test_files_that_are_missing_are_refused(tmp_path: Path) -> None:
    reason = r": cannot be read \(No such file or directory\): expected [^\n]*$"
    with pytest.raises(DataError, match=r"absent/run\.json" + reason):
        read_run(tmp_path / "absent")
    with pytest.raises(DataError, match=r"metrics\.jsonl" + reason):
        read_metrics(tmp_path / "metrics.jsonl")


def test_the_environment_names_the_libraries_that_are_loaded() -> None:
    found = environment()
    assert found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) <= set(sys.modules)
    assert found["python"].endswith(f" {'.'.join(map(str, sys.version_info[:3]))}")
    assert found["platform"]
    json.dumps(found)


def test_the_environment_loads_no_library() -> None:
    code = (
        "import sys, xpnet.tracking as t; t.environment()\n"
        "loaded = {'numpy', 'torch', 'jax', 'cupy', 'pandas', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


GIT = shutil.which("git")
IDENTITY = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> str:
    command = [str(GIT), "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of xpnet with one commit, from which the package seems to be loaded."""
    if GIT is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    (root / "xpnet").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "xpnet"\n')
    (root / "xpnet" / "tracking.py").touch()
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "m")
    monkeypatch.setattr(tracking, "__file__", str(root / "xpnet" / "tracking.py"))
    return root


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert environment()["git"] == {"commit": commit, "dirty": False}


def test_only_a_changed_tracked_file_makes_a_checkout_dirty(checkout: Path) -> None:
    (checkout / "untracked").touch()
    assert (environment()["git"] or {})["dirty"] is False
    (checkout / "pyproject.toml").write_text('[project]\nname = "xpnet"\nversion = "1"\n')
    assert (environment()["git"] or {})["dirty"] is True


def test_another_repository_in_the_environment_changes_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = environment()["git"]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    assert environment()["git"] == expected
    assert expected is not None


@pytest.mark.parametrize(
    "case",
    [
        "no git",
        "in another checkout",
        "another project",
        "no project",
        "no commit",
        "broken",
        "slow",
    ],
)
def test_where_there_is_no_commit_to_name_there_is_null(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    assert environment()["git"] is not None
    if case == "no git":
        monkeypatch.setenv("PATH", "")
    elif case == "in another checkout":
        (checkout / ".git").rename(checkout.parent / ".git")
    elif case == "another project":
        (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    elif case == "no project":
        (checkout / "pyproject.toml").write_text("[project")
    elif case == "no commit":
        shutil.rmtree(checkout / ".git")
        git(checkout, "init", "--quiet")
    elif case == "broken":
        (checkout / ".git" / "HEAD").write_text("nonsense")
    else:
        tool = checkout / "git"
        tool.write_text("#!/bin/sh\nexec sleep 30\n")
        tool.chmod(0o755)
        monkeypatch.setattr(tracking, "GIT_TIMEOUT", 0.2)
        monkeypatch.setenv("PATH", f"{checkout}{os.pathsep}{os.environ['PATH']}")
    begin = time.monotonic()
    assert environment()["git"] is None
    assert time.monotonic() - begin < 5
