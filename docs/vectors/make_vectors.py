"""Writes the test vectors of docs/reproducibility.md: docs/vectors/*.json, computed on NumPy.

The inputs are those in the files. A new case is an entry with its inputs, in which floats may be decimal
numbers. With --check the script writes nothing, and prints the files that differ from what is computed.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from checkout import ROOT
from shared import write_generated
from vectors import arithmetic, arrays, images, network, trainings, words
from vectors.numbers import Content, Device, hexadecimal

from xpnet.arithmetic import SPECIFICATION_VERSION, Reproducible
from xpnet.backends.base import Backend
from xpnet.backends.resolve import make

FOLDER = ROOT / "docs" / "vectors"
WIDTH = 110
LONGEST_NUMBER = 30  # characters: a fingerprint has more

FILES: dict[str, Callable[[Device, Content], Content]] = {
    "random": words.content,
    "functions": arithmetic.functions,
    "contractions": arithmetic.contractions,
    "sums": arithmetic.sums,
    "public": arithmetic.public,
    "arrays": arrays.content,
    "network": network.content,
    "images": images.content,
    "trainings": trainings.content,
}
"""The functions that compute the entries of each file on a device from those so far."""


def content(name: str, backend: Backend) -> Content:
    """Return the content of a file as computed on a backend."""
    with backend.scope():
        device = Device(backend, Reproducible(backend.xp, backend.device, backend.xp.float64))
        file = read(name)
        return {**file, "specification": SPECIFICATION_VERSION, **FILES[name](device, file)}


def main() -> int:
    """Write or compare the files; return the exit code, 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare the files instead of writing them")
    is_check, differing = parser.parse_args().check, 0
    for name in FILES:
        path, text = FOLDER / f"{name}.json", f"{as_text(content(name, make('numpy', 'cpu')))}\n"
        if not is_check:
            write_generated(path, text)
        elif text != path.read_text(encoding="utf-8"):
            print(f"{path} differs")
            differing += 1
    return min(differing, 1)


def read(name: str) -> Content:
    """Return the content of a file, decimal numbers as texts."""
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    content: Content = json.loads(text, parse_float=lambda decimal: hexadecimal(float(decimal)))
    return content


def as_text(value: Any, indent: str = "") -> str:
    """Return JSON: lists of numbers and what is short on one line, of anything else one item a line."""
    text, inner = json.dumps(value, ensure_ascii=False), f"{indent} "
    if len(indent) + len(text) <= WIDTH or not isinstance(value, list | dict):
        return text
    if isinstance(value, dict):
        lines = [
            f"{json.dumps(key, ensure_ascii=False)}: {as_text(item, inner)}" for key, item in value.items()
        ]
    elif any(isinstance(item, list | dict) or len(str(item)) > LONGEST_NUMBER for item in value):
        lines = [as_text(item, inner) for item in value]
    else:
        return text
    start, *_, end = text
    return f"{start}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{end}"


if __name__ == "__main__":
    sys.exit(main())
