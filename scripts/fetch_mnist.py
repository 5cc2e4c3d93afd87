"""Downloads MNIST, Fashion-MNIST or KMNIST and checks what comes; it needs pooch (pip install pooch)."""

import argparse
import sys
from pathlib import Path

from checkout import need

MIRRORS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "kmnist": "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
}
MD5S = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "kmnist": {
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
}
"""The checksums of the files, as torchvision publishes them."""


def main(arguments: list[str] | None = None) -> None:
    """Fetch the files that are not there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=sorted(MIRRORS), default="mnist")
    parser.add_argument("--out", type=Path, help="folder (default: data/ and the dataset's name)")
    parser.add_argument("--mirror", metavar="URL", help="in place of the known one")
    options = parser.parse_args(arguments)
    need("pooch", fix="pip install pooch")
    import pooch

    pooch.get_logger().setLevel("WARNING")
    mirror = (options.mirror or MIRRORS[options.dataset]).rstrip("/")
    for name, md5 in MD5S[options.dataset].items():
        url = f"{mirror}/{name}"
        try:
            path = pooch.retrieve(url, f"md5:{md5}", name, options.out or Path("data", options.dataset))
        except (OSError, ValueError) as error:  # among them those of requests
            sys.exit(f"fetch_mnist: {url}: {' '.join(str(error).split())}")
        print(path, flush=True)


if __name__ == "__main__":
    main()
