"""scripts/fetch_mnist.py against a local server, and scripts/export_csv.py."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import export_csv
import fetch_mnist
import pytest
from networks import pixels

from xpnet.data import datasets
from xpnet.data.datasets import Dataset, digest, load

pytestmark = pytest.mark.tooling

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


def fetch(out, url):
    fetch_mnist.main(["--dataset", "kmnist", "--out", str(out), "--mirror", url])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == FILES


@pytest.mark.needs("pooch")
def test_files_are_fetched_and_intact_ones_are_kept(mirror, tmp_path):
    folder, url = mirror
    fetch(tmp_path / "out", url)
    damaged, *intact = FILES
    (tmp_path / "out" / damaged).write_bytes(b"damaged")
    for name in intact:
        (folder / name).unlink()
    fetch(tmp_path / "out", url)


@pytest.mark.needs("pooch")
def test_a_mirror_without_the_right_file_is_one_line_and_nothing_is_left(mirror, tmp_path):
    folder, url = mirror
    name = next(iter(FILES))
    (folder / name).write_bytes(b"<html>please log in</html>")
    with pytest.raises(SystemExit, match=f"fetch_mnist: {url}{name}: .*does not match the known hash"):
        fetch(tmp_path / "out", url)
    assert [*(tmp_path / "out").iterdir()] == []


def test_export_writes_what_the_notebook_reads(monkeypatch, tmp_path):
    x, y = pixels(500, 784, 10)
    part = Dataset(x, y, x[:100], y[:100], "digits")
    monkeypatch.setattr(datasets, "load", lambda: part)
    export_csv.main(["--out", str(tmp_path / "new")])
    test, train = sorted((tmp_path / "new").iterdir())
    assert (test.name, train.name) == ("mnist_test.csv", "mnist_train.csv")
    assert train.read_text().startswith("label,1x1,1x2,")
    assert digest(load(train, test)) == digest(part)
