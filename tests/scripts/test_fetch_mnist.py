"""scripts/fetch_mnist.py against a local server, and scripts/export_csv.py."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import export_csv
import fetch_mnist
import pandas as pd
import pytest
from networks import pixels

from xpnet.data import datasets
from xpnet.data.datasets import Dataset, digest, load

pytestmark = pytest.mark.tooling

DOWN = "http://127.0.0.1:9"
FILES = {name: gzip.compress(name.encode(), mtime=0) for name in fetch_mnist.MD5S["kmnist"]}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder of small files in place of KMNIST, and the address of the server that has them."""
    (tmp_path / "mirror").mkdir()
    for name, content in FILES.items():
        (tmp_path / "mirror" / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(fetch_mnist.MD5S["kmnist"], name, md5)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "mirror")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path / "mirror", f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def fetch(out, *mirrors):
    options = [word for mirror in mirrors for word in ("--mirror", mirror)]
    return fetch_mnist.main(["--dataset", "kmnist", "--out", str(out), *options])


def refusal(capsys):
    """Return what stderr holds, which must be one line."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fetch_mnist: ")
    return line


@pytest.mark.needs("pooch")
def test_files_are_fetched_from_the_first_mirror_that_has_them_and_intact_ones_are_kept(mirror, tmp_path):
    folder, url = mirror
    out = tmp_path / "data" / "kmnist"
    assert fetch(out, DOWN, url) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == FILES
    damaged, *intact = FILES
    (out / damaged).write_bytes(b"damaged")
    for name in intact:
        (folder / name).unlink()
    assert fetch(out, url) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == FILES


@pytest.mark.needs("pooch")
def test_mirrors_without_the_right_file_are_one_line_and_nothing_is_left(mirror, tmp_path, capsys):
    folder, url = mirror
    name = next(iter(FILES))
    (folder / name).write_bytes(b"<html>please log in</html>")
    assert fetch(tmp_path / "out", DOWN, f"{url}elsewhere", url, "file:///etc") == 2
    line = refusal(capsys)
    assert f"{name}: no mirror gave it; {DOWN}/{name}: " in line
    for reason in ("Connection refused", "404 Client Error", "does not match the known hash", "protocol"):
        assert reason in line
    assert [*(tmp_path / "out").iterdir()] == []
    (tmp_path / "file").touch()
    assert fetch(tmp_path / "file", url) == 2
    assert "cannot be written (File exists)" in refusal(capsys)


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
