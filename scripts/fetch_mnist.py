"""Downloads MNIST, Fashion-MNIST or KMNIST and checks what comes; it needs pooch (pip install pooch)."""

import argparse
import gzip
import hashlib
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Source:
    """The mirrors of a data set, and the MD5 of each of its files, as they are or decompressed."""

    mirrors: tuple[str, ...]
    md5s: tuple[str, ...]
    decompressed: bool = False


SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        md5s=(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        decompressed=True,  # mirrors compress differently
    ),
    # The addresses and checksums of torchvision's datasets.
    "fashion-mnist": Source(
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        md5s=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "kmnist": Source(
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        md5s=(
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
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", choices=sorted(SOURCES), default="mnist")
    add("--out", type=Path, help="folder (default: data/ and the dataset's name)")
    add("--mirror", action="append", metavar="URL", help="in place of the known ones; repeat it for several")
    add("--timeout", type=float, default=30.0, metavar="SECONDS", help="of silence (default: 30)")
    options = parser.parse_args(arguments)
    source = SOURCES[options.dataset]
    out = options.out or Path("data") / options.dataset
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, md5 in zip(FILES, source.md5s, strict=True):
            target = out / name
            if target.is_file() and find_problem(target, md5, decompressed=source.decompressed) is None:
                print(f"{target}: already there", flush=True)
            else:
                mirror = fetch(target, md5, source, options.mirror or source.mirrors, options.timeout)
                print(f"{target}: fetched from {mirror}", flush=True)
    except FetchError as error:
        print(f"fetch_mnist: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"fetch_mnist: {error.name} is not installed: pip install pooch", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"fetch_mnist: {out}: cannot be written ({error.strerror or error})", file=sys.stderr)
        return 2
    return 0


def fetch(target: Path, md5: str, source: Source, mirrors: Sequence[str], timeout: float) -> str:
    """Put a file into its folder once it is complete and right; return the mirror that gave it.

    Raises
    ------
    FetchError
        None gave it.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{target.name}"
        with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            downloader = pooch.HTTPDownloader(timeout=timeout)
            try:
                path = Path(pooch.retrieve(url, None, target.name, folder, downloader=downloader))
            except requests.RequestException as error:
                problem: str | None = " ".join(str(error).split())
            else:
                problem = find_problem(path, md5, decompressed=source.decompressed)
                if problem is None:
                    path.replace(target)
                    return mirror
        failures.append(f"{url}: {problem}")
    msg = f"{target.name}: no mirror gave it; {'; '.join(failures)}"
    raise FetchError(msg)


def find_problem(path: Path, md5: str, *, decompressed: bool) -> str | None:
    """Return how a file differs from what its checksum promises, or None."""
    try:
        with gzip.open(path) if decompressed else path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "is not an intact gzip file"
    return None if digest == md5 else f"its MD5 is {digest}, not {md5}"


if __name__ == "__main__":
    sys.exit(main())
