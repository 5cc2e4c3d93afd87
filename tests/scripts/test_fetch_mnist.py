"""scripts/fetch_mnist.py against a local server, and scripts/export_csv.py."""

import gzip
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import export_csv
import fetch_mnist
import pandas as pd
import pytest
from fetch_mnist import FILES, Source
from networks import pixels
from shared import ROOT

from xpnet.data import datasets
from xpnet.data.datasets import Dataset, digest, load

pytestmark = pytest.mark.tooling

KNOWN = fetch_mnist.SOURCES["mnist"]
CONTENTS = {name: name.encode() * 100 for name in FILES}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
REPACKED = {name: gzip.compress(content, 0, mtime=0) for name, content in CONTENTS.items()}
FILE = FILES[0]
DOWN = "http://127.0.0.1:9"


class Handler(BaseHTTPRequestHandler):
    """Serves files; of one that is cut, half."""

    def do_GET(self):
        self.server.requests.append(name := self.path.strip("/"))
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == self.server.cut else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(request):
    """Start mirrors, and close them in the end."""

    def start(files, cut=None):
        mirror = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        mirror.files, mirror.cut, mirror.requests = files, cut, []
        mirror.url = f"http://127.0.0.1:{mirror.server_port}"
        threading.Thread(target=mirror.serve_forever, args=(0.01,), daemon=True).start()
        request.addfinalizer(mirror.server_close)
        request.addfinalizer(mirror.shutdown)
        return mirror

    return start


def md5s(files):
    return tuple(hashlib.md5(content, usedforsecurity=False).hexdigest() for content in files.values())


@pytest.fixture(autouse=True)
def small_source(monkeypatch):
    """Stand small files in for MNIST and KMNIST, with their true checksums."""
    mnist, kmnist = Source((DOWN,), md5s(CONTENTS), decompressed=True), Source((DOWN,), md5s(PACKED))
    monkeypatch.setattr(fetch_mnist, "SOURCES", {"mnist": mnist, "kmnist": kmnist})


def fetch(out, *mirrors, words=()):
    options = [option for mirror in mirrors for option in ("--mirror", getattr(mirror, "url", mirror))]
    return fetch_mnist.main(["--out", str(out), *options, *words])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(capsys):
    """Return what stderr holds, which must be one line."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fetch_mnist: ")
    return line


@pytest.mark.needs("pooch")
def test_data_sets_are_checked_as_they_are_published_and_intact_files_are_not_fetched_again(
    serve, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", "kmnist", "--mirror"]
    assert fetch_mnist.main([*words, serve(REPACKED).url]) == 2
    assert f"{FILE}: its MD5 is" in refusal(capsys)
    mirror = serve(PACKED)
    assert fetch_mnist.main([*words, mirror.url]) == 0
    Path("data", "kmnist", FILE).write_bytes(b"damaged")
    assert fetch_mnist.main([*words, mirror.url]) == 0
    assert mirror.requests == [*FILES, FILE]
    assert contents(Path("data", "kmnist")) == PACKED


@pytest.mark.needs("pooch")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "404 Client Error: "),
        (gzip.compress(b"", mtime=0), "its MD5 is "),
        (b"<html>please log in</html>", "is not an intact gzip file"),
        (PACKED[FILE][:-20], "is not an intact gzip file"),
        ("cut", "IncompleteRead("),
    ],
    ids=["404", "wrong MD5", "not gzip", "truncated", "cut"],
)
def test_a_mirror_without_the_right_file_leaves_nothing_and_the_next_one_is_asked_however_it_packs_files(
    serve, tmp_path, capsys, content, message
):
    broken = serve(PACKED, cut=FILE) if content == "cut" else serve({**PACKED, FILE: content})
    assert fetch(tmp_path, broken) == 2
    line = refusal(capsys)
    assert f"{FILE}: no mirror gave it; {broken.url}/{FILE}: " in line
    assert message in line
    assert contents(tmp_path) == {}
    assert fetch(tmp_path, broken, serve(REPACKED)) == 0
    assert contents(tmp_path).keys() == set(FILES)
    assert gzip.decompress(contents(tmp_path)[FILE]) == CONTENTS[FILE]


@pytest.mark.needs("pooch")
def test_mirrors_that_are_down_silent_or_no_address_and_folders_that_cannot_be_made_are_one_line(
    tmp_path, capsys
):
    assert fetch(tmp_path, DOWN, f"{DOWN}/other", "file:///etc") == 2
    line = refusal(capsys)
    assert (line.count("Connection refused"), line.count("No connection adapters")) == (2, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert fetch(tmp_path, url, words=["--timeout", "0.1"]) == 2
    assert "Read timed out" in refusal(capsys)
    assert contents(tmp_path) == {}
    (tmp_path / "file").touch()
    assert fetch(tmp_path / "file", DOWN) == 2
    assert "cannot be written (File exists)" in refusal(capsys)


def test_without_pooch_it_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(fetch_mnist.sys.modules, "pooch", None)
    assert fetch(tmp_path) == 2
    assert refusal(capsys) == "fetch_mnist: pooch is not installed: pip install pooch"


def test_the_known_checksums_are_those_of_the_bundled_files():
    files = {name: gzip.decompress((ROOT / "data" / "mnist" / name).read_bytes()) for name in FILES}
    assert KNOWN.md5s == md5s(files)


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
