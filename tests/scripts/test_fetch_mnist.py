"""scripts/fetch_mnist.py against a local server, and scripts/export_csv.py."""

import gzip
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import export_csv
import fetch_mnist
import numpy as np
import pandas as pd
import pytest

from xpnet.data import datasets
from xpnet.data.datasets import Dataset, digest, load

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
NAME = NAMES[0]
KNOWN = fetch_mnist.SOURCES["mnist"].files


@dataclass
class Mirror:
    """A server of files that can ignore ranges, or cut each answer after some bytes."""

    files: dict[str, bytes]
    ranges: bool = True
    cut: int | None = None
    cuts: int = 0  # how many answers are still to be cut
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, asked = self.path.strip("/"), self.headers.get("Range")
                mirror.requests.append((name, asked))
                content = mirror.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                start = int(asked[6:-1]) if asked and mirror.ranges else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if asked and mirror.ranges else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                stop = len(content)
                if mirror.cuts:
                    mirror.cuts -= 1
                    stop = min(stop, start + (mirror.cut or 0))
                self.wfile.write(content[start:stop])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def serve() -> Iterator[type[Mirror]]:
    servers = []

    class Served(Mirror):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            servers.append(server)
            self.url = f"http://127.0.0.1:{server.server_port}"

    yield Served
    for server in servers:
        server.shutdown()
        server.server_close()


RAW = {name: bytes([i]) + np.random.default_rng(i).bytes(5000) for i, name in enumerate(NAMES)}
FILES = {f"{name}.gz": gzip.compress(content) for name, content in RAW.items()}


@pytest.fixture(autouse=True)
def small_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand small files in for MNIST, with their true checksums."""
    raws = {
        name: fetch_mnist.Raw(len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
        for name, content in RAW.items()
    }
    monkeypatch.setitem(fetch_mnist.SOURCES, "mnist", fetch_mnist.Source(("http://127.0.0.1:9/",), raws))


@pytest.mark.parametrize("dataset", ["fashion-mnist", "kmnist"])
def test_other_datasets_are_checked_as_they_are_packed(
    serve: type[Mirror],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dataset: str,
) -> None:
    assert set(fetch_mnist.SOURCES[dataset].files) == set(NAMES)
    raws = {
        name: fetch_mnist.Raw(len(RAW[name]), hashlib.md5(packed).hexdigest(), packed=True)  # noqa: S324
        for name, packed in zip(NAMES, FILES.values(), strict=True)
    }
    monkeypatch.setitem(fetch_mnist.SOURCES, dataset, fetch_mnist.Source((), raws))
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", dataset, "--mirror", serve(FILES).url]
    assert fetch_mnist.main(words) == 0
    for name, packed in FILES.items():
        assert (tmp_path / "data" / dataset / name).read_bytes() == packed
    repacked = {name: gzip.compress(RAW[name[:-3]], 1) for name in FILES}
    capsys.readouterr()
    assert fetch_mnist.main([*words[:3], serve(repacked).url, "--out", "other"]) == 2
    assert "its MD5 is" in capsys.readouterr().err


def run(out: Path, *mirrors: Mirror) -> int:
    options = [option for mirror in mirrors for option in ("--mirror", mirror.url)]
    code: int = fetch_mnist.main(["--out", str(out), "--timeout", "60", *options])
    return code


def assert_fetched(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    for name, content in RAW.items():
        assert gzip.decompress((out / f"{name}.gz").read_bytes()) == content


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what stderr holds, which must be one line."""
    message = capsys.readouterr().err
    assert message.startswith("fetch_mnist: ")
    assert message.count("\n") == 1
    return message


def part(out: Path, mirror: Mirror) -> Path:
    address = f"{mirror.url}/{NAME}.gz"
    return out / f"{NAME}.gz.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part"


def test_fetches_the_four_files(serve: type[Mirror], tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert run(out, serve(FILES)) == 0
    assert_fetched(out)


def test_the_gzip_bytes_of_a_mirror_are_its_own(serve: type[Mirror], tmp_path: Path) -> None:
    other = {f"{name}.gz": gzip.compress(content, 0) for name, content in RAW.items()}
    assert run(tmp_path, serve(other)) == 0
    assert_fetched(tmp_path)


def test_intact_files_are_not_fetched_again(serve: type[Mirror], tmp_path: Path) -> None:
    mirror = serve(FILES)
    assert run(tmp_path, mirror) == 0
    (tmp_path / f"{NAME}.gz").write_bytes(b"damaged")
    mirror.requests.clear()
    assert run(tmp_path, mirror) == 0
    assert mirror.requests == [(f"{NAME}.gz", None)]
    assert_fetched(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_continued_at_once(serve: type[Mirror], tmp_path: Path, ranges: bool) -> None:
    mirror = serve(FILES, ranges=ranges, cut=1000, cuts=1)
    assert run(tmp_path, mirror) == 0
    assert mirror.requests[:2] == [(f"{NAME}.gz", None), (f"{NAME}.gz", "bytes=1000-")]
    assert_fetched(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_later_call_continues_where_the_last_one_was_cut(
    serve: type[Mirror], tmp_path: Path, ranges: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = serve(FILES, ranges=ranges, cut=1000, cuts=3)
    assert run(tmp_path, mirror) == 2
    assert "the connection failed (cut after 1000 of" in refusal(capsys)
    reached = 3000 if ranges else 1000
    assert [path.name for path in tmp_path.iterdir()] == [part(tmp_path, mirror).name]
    assert part(tmp_path, mirror).stat().st_size == reached
    mirror.requests.clear()
    assert run(tmp_path, mirror) == 0
    assert mirror.requests[0] == (f"{NAME}.gz", f"bytes={reached}-")
    assert_fetched(tmp_path)


def test_a_part_that_is_already_whole(serve: type[Mirror], tmp_path: Path) -> None:
    mirror = serve(FILES)
    part(tmp_path, mirror).write_bytes(FILES[f"{NAME}.gz"])
    assert run(tmp_path, mirror) == 0
    assert_fetched(tmp_path)


@pytest.mark.parametrize("size", [100, 10**5])
def test_a_part_that_is_wrong_is_fetched_afresh(serve: type[Mirror], tmp_path: Path, size: int) -> None:
    mirror = serve(FILES)
    part(tmp_path, mirror).write_bytes(bytes(size))
    assert run(tmp_path, mirror) == 0
    assert [asked for _, asked in mirror.requests[:2]] == [f"bytes={size}-", None]
    assert_fetched(tmp_path)


def test_one_mirrors_part_is_not_continued_from_another(serve: type[Mirror], tmp_path: Path) -> None:
    first, second = serve(FILES, cut=1000, cuts=3), serve(FILES)
    assert run(tmp_path, first, second) == 0
    assert second.requests[0] == (f"{NAME}.gz", None)
    assert_fetched(tmp_path)


LONGER = gzip.compress(RAW[NAME] + b"x")
SHORTER = gzip.compress(RAW[NAME][:-1])
OTHER = gzip.compress(RAW[NAME][:-1] + b"?")
OTHER = OTHER if gzip.decompress(OTHER) != RAW[NAME] else gzip.compress(RAW[NAME][:-1] + b"!")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the server answered 404 Not Found"),
        (OTHER, "its MD5 is "),
        (LONGER, "holds more than 5001 bytes"),
        (SHORTER, "holds fewer than 5001 bytes"),
        (b"<html>please log in</html>", "is not an intact gzip file"),
        (FILES[f"{NAME}.gz"][:-20], "ends too early"),
        (bytes(10**6), "sends more than 70537 bytes"),
    ],
    ids=["404", "wrong MD5", "longer", "shorter", "not gzip", "truncated", "endless"],
)
def test_a_mirror_without_the_right_file(
    serve: type[Mirror],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    message: str,
) -> None:
    files = {name: held for name, held in FILES.items() if name != f"{NAME}.gz"}
    if content is not None:
        files[f"{NAME}.gz"] = content
    broken = serve(files)
    assert run(tmp_path, broken) == 2
    found = refusal(capsys)
    assert f"{NAME}.gz: no mirror gave it; {broken.url}/{NAME}.gz: {message}" in found
    assert not (tmp_path / f"{NAME}.gz").exists()
    assert run(tmp_path, broken, serve(FILES)) == 0
    assert_fetched(tmp_path)


def test_all_mirrors_down(serve: type[Mirror], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    down = [Mirror({}, url="http://127.0.0.1:9"), Mirror({}, url="http://127.0.0.1:9/other")]
    assert run(tmp_path, *down) == 2
    found = refusal(capsys)
    assert found.count("Connection refused") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_silent_mirror_is_given_up(
    serve: type[Mirror], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = ["--out", str(tmp_path), "--timeout", "0.1", "--mirror", url]
        assert fetch_mnist.main(options) == 2
    assert "the connection failed (timed out)" in refusal(capsys)


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://example.org", "example.org"])
def test_a_mirror_must_be_http(tmp_path: Path, capsys: pytest.CaptureFixture[str], mirror: str) -> None:
    assert fetch_mnist.main(["--out", str(tmp_path), "--mirror", mirror]) == 2
    assert refusal(capsys).endswith("is not an http or https address\n")


def test_a_folder_that_cannot_be_written(
    serve: type[Mirror], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(tmp_path / "file", serve(FILES)) == 2
    assert "cannot be written (File exists)" in refusal(capsys)


def test_the_command_ends_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fetch_mnist.py"), "--out", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--mirror", "http://127.0.0.1:9"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_the_known_checksums_are_those_of_the_bundled_files() -> None:
    assert set(KNOWN) == set(NAMES)
    for name, raw in KNOWN.items():
        content = gzip.decompress((ROOT / "data" / "mnist" / f"{name}.gz").read_bytes())
        digest_of = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert raw == (len(content), digest_of, False)


# export_csv


@pytest.fixture
def slice_of_mnist(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    whole = load()
    part = Dataset(
        whole.x_train[:5000], whole.y_train[:5000], whole.x_test[:100], whole.y_test[:100], "mnist"
    )
    monkeypatch.setattr(datasets, "load", lambda: part)
    return part


def test_export_writes_what_the_notebook_reads(slice_of_mnist: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "new"
    assert export_csv.main(["--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["mnist_test.csv", "mnist_train.csv"]
    train = pd.read_csv(out / "mnist_train.csv")
    test = pd.read_csv(out / "mnist_test.csv")
    assert (train.shape, test.shape) == ((5000, 785), (100, 785))
    assert list(train.columns[:3]) == ["label", "1x1", "1x2"]
    assert list(train.columns[-2:]) == ["28x27", "28x28"]
    np.testing.assert_array_equal(train.to_numpy()[:, 1:], slice_of_mnist.x_train)
    np.testing.assert_array_equal(train.to_numpy()[:, 0], slice_of_mnist.y_train)
    loaded = load(out / "mnist_train.csv", out / "mnist_test.csv")
    assert digest(loaded) == digest(slice_of_mnist)


def test_the_whole_export_has_the_notebooks_shapes_and_size() -> None:
    whole = load()
    for x, y, rows, size in (
        (whole.x_train, whole.y_train, 60000, 109_580_200),
        (whole.x_test, whole.y_test, 10000, 18_293_649),
    ):
        lines = commas = length = 0
        for block in export_csv.csv_blocks(x, y):
            lines += block.count(b"\n")
            commas += block.count(b",")
            length += len(block)
        assert (lines, commas, length) == (rows + 1, (rows + 1) * 784, size)


def test_export_into_a_folder_that_cannot_be_written(
    slice_of_mnist: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert export_csv.main(["--out", str(tmp_path / "file")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"export_csv: {tmp_path / 'file' / 'mnist_train.csv'}: cannot be")
    assert message.count("\n") == 1
