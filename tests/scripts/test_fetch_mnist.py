"""scripts/fetch_mnist.py against a local server, and scripts/export_csv.py."""

import gzip
import hashlib
import socket
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import export_csv
import fetch_mnist
import numpy as np
import pandas as pd
import pytest
from networks import pixels
from shared import ROOT

from xpnet.data import datasets
from xpnet.data.datasets import Dataset, digest, load

pytestmark = pytest.mark.tooling

KNOWN = fetch_mnist.SOURCES["mnist"].files
RAW = {name: bytes([i]) + np.random.default_rng(i).bytes(5000) for i, name in enumerate(KNOWN)}
FILES = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in RAW.items()}
REPACKED = {f"{name}.gz": gzip.compress(content, 0, mtime=0) for name, content in RAW.items()}
FILE, CONTENT = "train-images-idx3-ubyte.gz", RAW["train-images-idx3-ubyte"]
DOWN = "http://127.0.0.1:9"


class Handler(BaseHTTPRequestHandler):
    """Serves files; the server may ignore ranges, and cut some answers after a thousand bytes."""

    def do_GET(self):
        mirror, name, asked = self.server, self.path.strip("/"), self.headers.get("Range")
        mirror.requests.append((name, asked))
        content, start = mirror.files.get(name), int(asked[6:-1]) if asked and mirror.ranges else 0
        if content is None or start >= len(content):
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + 1000 if mirror.cuts else len(content)
        mirror.cuts = max(mirror.cuts - 1, 0)
        self.wfile.write(content[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start mirrors, and close them in the end."""
    with ExitStack() as stack:

        def start(files, *, ranges=True, cuts=0):
            mirror = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            mirror.files, mirror.ranges, mirror.cuts, mirror.requests = files, ranges, cuts, []
            mirror.url = f"http://127.0.0.1:{mirror.server_port}"
            threading.Thread(target=mirror.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(mirror.shutdown)
            return mirror

        yield start


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def small_source(monkeypatch):
    """Stand small files in for MNIST and KMNIST, with their true checksums."""
    raws = {name: fetch_mnist.Raw(len(content), md5(content)) for name, content in RAW.items()}
    packed = {name: raw._replace(md5=md5(FILES[f"{name}.gz"]), packed=True) for name, raw in raws.items()}
    for name, files in (("mnist", raws), ("kmnist", packed)):
        monkeypatch.setitem(fetch_mnist.SOURCES, name, fetch_mnist.Source((DOWN,), files))


def fetch(out, *mirrors, timeout=60):
    options = [option for mirror in mirrors for option in ("--mirror", getattr(mirror, "url", mirror))]
    return fetch_mnist.main(["--out", str(out), "--timeout", str(timeout), *options])


def assert_fetched(out):
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert {name: gzip.decompress((out / f"{name}.gz").read_bytes()) for name in RAW} == RAW


def refusal(capsys):
    """Return what stderr holds, which must be one line."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fetch_mnist: ")
    return line


def test_other_datasets_are_checked_as_they_are_packed(serve, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for files, code in ((REPACKED, 2), (FILES, 0)):
        assert fetch_mnist.main(["--dataset", "kmnist", "--mirror", serve(files).url]) == code
    assert "its MD5 is" in refusal(capsys)
    assert {path.name: path.read_bytes() for path in Path("data", "kmnist").iterdir()} == FILES


@pytest.mark.parametrize(
    ("ranges", "part", "asked"),
    [
        (True, FILES[FILE][:3000], ["bytes=3000-"]),
        (False, FILES[FILE][:1000], ["bytes=1000-"]),
        (True, FILES[FILE], [f"bytes={len(FILES[FILE])}-"]),
        (True, bytes(100), ["bytes=100-", None]),
    ],
    ids=["continued", "without ranges", "whole", "wrong"],
)
def test_a_cut_download_goes_on_in_the_next_call_and_a_wrong_part_is_fetched_afresh(
    serve, tmp_path, capsys, ranges, part, asked
):
    mirror = serve(FILES, ranges=ranges, cuts=3)
    assert fetch(tmp_path, mirror) == 2
    assert "the connection failed (cut after 1000 of" in refusal(capsys)
    assert mirror.requests[:2] == [(FILE, None), (FILE, "bytes=1000-")]
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == FILES[FILE][: 3000 if ranges else 1000]
    left.write_bytes(part)
    mirror.requests.clear()
    assert fetch(tmp_path, mirror) == 0
    assert [header for name, header in mirror.requests if name == FILE] == asked
    assert_fetched(tmp_path)


def test_intact_files_are_not_fetched_again(serve, tmp_path):
    mirror = serve(FILES)
    assert fetch(tmp_path, mirror) == 0
    (tmp_path / FILE).write_bytes(b"damaged")
    assert fetch(tmp_path, mirror) == 0
    assert mirror.requests == [(name, None) for name in [*FILES, FILE]]
    assert_fetched(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the server answered 404 Not Found"),
        (gzip.compress(bytes(len(CONTENT)), mtime=0), "its MD5 is "),
        (gzip.compress(CONTENT + b"x", mtime=0), "holds more than 5001 bytes"),
        (b"<html>please log in</html>", "is not an intact gzip file"),
        (FILES[FILE][:-20], "ends too early"),
        (bytes(10**6), "sends more than 70537 bytes"),
    ],
    ids=["404", "wrong MD5", "longer", "not gzip", "truncated", "endless"],
)
def test_a_mirror_without_the_right_file_is_refused_and_the_next_one_asked_however_it_packs_files(
    serve, tmp_path, capsys, content, message
):
    broken = serve({**FILES, FILE: content})
    assert fetch(tmp_path, broken) == 2
    assert f"{FILE}: no mirror gave it; {broken.url}/{FILE}: {message}" in refusal(capsys)
    assert not (tmp_path / FILE).exists()
    assert fetch(tmp_path, broken, serve(REPACKED)) == 0
    assert_fetched(tmp_path)


def test_mirrors_that_are_down_or_silent_and_folders_that_cannot_be_written_are_one_line(tmp_path, capsys):
    assert fetch(tmp_path, DOWN, f"{DOWN}/other") == 2
    assert refusal(capsys).count("Connection refused") == 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert fetch(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1) == 2
    assert "the connection failed (timed out)" in refusal(capsys)
    assert list(tmp_path.iterdir()) == []
    assert fetch(tmp_path, "file:///etc") == 2
    assert refusal(capsys).endswith("is not an http or https address")
    (tmp_path / "file").touch()
    assert fetch(tmp_path / "file", DOWN) == 2
    assert "cannot be written (File exists)" in refusal(capsys)


def test_the_known_checksums_are_those_of_the_bundled_files():
    for name, raw in KNOWN.items():
        content = gzip.decompress((ROOT / "data" / "mnist" / f"{name}.gz").read_bytes())
        assert raw == (len(content), md5(content), False)


def test_export_writes_what_the_notebook_reads_or_one_line(monkeypatch, tmp_path, capsys):
    x, y = pixels(5000, 784, 10)
    part = Dataset(x, y, x[:100], y[:100], "digits")
    monkeypatch.setattr(datasets, "load", lambda: part)
    assert export_csv.main(["--out", str(tmp_path / "new")]) == 0
    test, train = sorted((tmp_path / "new").iterdir())
    assert (test.name, train.name) == ("mnist_test.csv", "mnist_train.csv")
    table = pd.read_csv(train)
    assert table.shape == (5000, 785)
    assert [*table.columns[:3], *table.columns[-2:]] == ["label", "1x1", "1x2", "28x27", "28x28"]
    assert digest(load(train, test)) == digest(part)
    assert export_csv.main(["--out", str(test)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"export_csv: {test}: cannot be written")
