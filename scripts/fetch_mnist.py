"""Downloads MNIST, Fashion-MNIST or KMNIST, checks what comes, and resumes where a download was cut."""

import argparse
import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ATTEMPTS = 3
PIECE = 1 << 16


class Raw(NamedTuple):
    """A file as it must be once decompressed."""

    size: int
    md5: str
    packed: bool = False  # the MD5 is that of the gzip file; mirrors of MNIST pack it differently


@dataclass(frozen=True)
class Source:
    """Where a dataset is published, and its files by name (as `name`.gz on the mirrors)."""

    mirrors: tuple[str, ...]
    files: dict[str, Raw]


MNIST = {
    "train-images-idx3-ubyte": Raw(47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": Raw(60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": Raw(7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": Raw(10_008, "27ae3e4e09519cfbb04c329615203637"),
}


def _packed(*md5s: str) -> dict[str, Raw]:
    """Return files of MNIST's names and sizes, with the MD5s of their gzip files."""
    pairs = zip(MNIST.items(), md5s, strict=True)
    return {name: Raw(raw.size, md5, packed=True) for (name, raw), md5 in pairs}


SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=MNIST,
    ),
    # The addresses and checksums of torchvision's datasets.
    "fashion-mnist": Source(
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        files=_packed(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "kmnist": Source(
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        files=_packed(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
}


class FetchError(Exception):
    """A file could not be had: the message is one line."""


def main(arguments: list[str] | None = None) -> int:
    """Fetch the files and return the exit code: 0, or 2 after one line on stderr."""
    options = _parser().parse_args(arguments)
    source = SOURCES[options.dataset]
    mirrors = tuple(options.mirror or source.mirrors)
    out = options.out or Path("data") / options.dataset
    try:
        _check_addresses(mirrors)
        out.mkdir(parents=True, exist_ok=True)
        for name, raw in source.files.items():
            print(fetch(name, raw, mirrors, out, options.timeout), flush=True)
    except FetchError as error:
        print(f"fetch_mnist: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(f"fetch_mnist: {out}: cannot be written ({reason})", file=sys.stderr)
        return 2
    return 0


def fetch(name: str, raw: Raw, mirrors: tuple[str, ...], out: Path, timeout: float) -> str:
    """Put `name`.gz into `out` unless it is there intact; return a line that says what was done.

    Raises
    ------
    FetchError
        No mirror gave the file.
    """
    target = out / f"{name}.gz"
    if target.is_file() and defect(target, raw) is None:
        return f"{target}: already there"
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            part = download(url, raw, target, timeout)
        except FetchError as error:
            failures.append(f"{url}: {error}")
            continue
        _settle(part, target)
        for part in out.glob(f"{target.name}.*.part"):
            part.unlink()
        return f"{target}: fetched from {mirror}"
    msg = f"{target.name}: no mirror gave it; {'; '.join(failures)}"
    raise FetchError(msg)


def download(url: str, raw: Raw, target: Path, timeout: float) -> Path:
    """Return the complete, checked download of `url`, a file beside `target`.

    The name of the partial file comes from the address, as one mirror's bytes do not continue
    another's. What is there is continued; if that ends in a wrong file, it starts afresh once.

    Raises
    ------
    FetchError
        The mirror did not give the file, or gave another one.
    """
    part = target.with_name(f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    afresh = not part.exists()
    while True:
        _continue(url, part, raw.size + PIECE, timeout)
        wrong = defect(part, raw)
        if wrong is None:
            return part
        part.unlink()
        if afresh:
            raise FetchError(wrong)
        afresh = True


def defect(path: Path, raw: Raw) -> str | None:
    """Say how the gzip file `path` differs from `raw`, or None."""
    md5, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with gzip.open(path) as file:
            while size <= raw.size and (piece := file.read(PIECE)):
                md5.update(piece)
                size += len(piece)
    except EOFError:
        return "ends too early"
    except (gzip.BadGzipFile, zlib.error):
        return "is not an intact gzip file"
    if size != raw.size:
        return f"holds {'more' if size > raw.size else 'fewer'} than {raw.size} bytes"
    if raw.packed:
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False)
    digest = md5.hexdigest()
    return None if digest == raw.md5 else f"its MD5 is {digest}, not {raw.md5}"


def _continue(url: str, part: Path, limit: int, timeout: float) -> None:
    """Download `url` into `part` from where it ends, trying again after a cut connection."""
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, part, limit, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            msg = f"the server answered {error.code} {' '.join(str(error.reason).split())}"
            raise FetchError(msg) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == ATTEMPTS - 1:
                reason = " ".join(str(getattr(error, "reason", error)).split())
                msg = f"the connection failed ({reason or type(error).__name__})"
                raise FetchError(msg) from error
        else:
            return


def _receive(url: str, part: Path, limit: int, timeout: float) -> None:
    """Append what is missing from `part`, or all of it if the server ignores ranges."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            error.close()
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        length = response.headers.get("Content-Length")
        received = 0
        while piece := response.read(PIECE):
            received += len(piece)
            if file.tell() + len(piece) > limit:
                msg = f"sends more than {limit} bytes"
                raise FetchError(msg)
            file.write(piece)
        if length is not None and received < int(length):
            msg = f"cut after {received} of {length} bytes"
            raise ConnectionError(msg)


def _check_addresses(mirrors: tuple[str, ...]) -> None:
    for mirror in mirrors:
        if urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
            msg = f"--mirror {mirror}: is not an http or https address"
            raise FetchError(msg)


def _settle(part: Path, target: Path) -> None:
    """Bring `part` to the disk, then give it its final name in one step."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=sorted(SOURCES), default="mnist")
    parser.add_argument("--out", type=Path, help="folder (default: data/ and the dataset's name)")
    parser.add_argument(
        "--mirror",
        action="append",
        metavar="URL",
        help="folder to fetch from instead of the known mirrors; repeat it for several",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="of silence (default: 30)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
