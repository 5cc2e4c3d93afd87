"""Writes the test vectors of docs/reproducibility.md: docs/vectors/*.json, computed on NumPy.

The inputs are those in the files. A new case is an entry with its inputs, in which floats may be decimal
numbers. With --check the script writes nothing, and compares the files with what is computed.

Exit codes: 0 done, 1 a file differs (the first difference is printed), 2 bad input.
"""

import json
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from shared import ROOT, make_folder
from vectors import arithmetic, images, network, trainings, words
from vectors.numbers import Content, Device, hexadecimal

from xpnet._lib.files import make_read_error, save
from xpnet.arithmetic import SPECIFICATION_VERSION, Reproducible
from xpnet.backends.base import Backend
from xpnet.backends.resolve import make
from xpnet.config.flags import Parser
from xpnet.errors import XPNetError

FOLDER = ROOT / "docs" / "vectors"
WIDTH = 110
LONGEST_NUMBER = 30  # characters: a fingerprint has more

FILES: dict[str, Callable[[Device, Content], Content]] = {
    "random": words.content,
    "functions": arithmetic.functions,
    "contractions": arithmetic.contractions,
    "sums": arithmetic.sums,
    "network": network.content,
    "images": images.content,
    "trainings": trainings.content,
}
"""The functions that compute the content of each file on a device from that so far."""


def content(name: str, backend: Backend) -> Content:
    """Return the content of a file as computed on a backend."""
    with backend.scope():
        device = Device(backend, Reproducible(backend.xp, backend.device, backend.xp.float64))
        return {"specification": SPECIFICATION_VERSION, **FILES[name](device, read(FOLDER / f"{name}.json"))}


def main(argv: Sequence[str] | None = None) -> int:
    """Write or compare the files and return the exit code."""
    parser = Parser(debug=False, prog="make_vectors.py", description=__doc__, epilog="", allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare the files instead of writing them")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="FOLDER", help="(default: docs/vectors)"
    )
    try:
        options = parser.parse_args(sys.argv[1:] if argv is None else argv)
        return check(options.folder) if options.check else write(options.folder)
    except XPNetError as error:
        print(f"make_vectors: {error}", file=sys.stderr)
        return error.exit_code


def write(folder: Path) -> int:
    """Write all files."""
    make_folder(folder)
    for name in FILES:
        data = f"{as_text(content(name, make('numpy', 'cpu')))}\n".encode()
        save(folder / f"{name}.json", data)
        print(f"{folder / name}.json: {len(data):,} bytes")
    return 0


def check(folder: Path) -> int:
    """Compare all files with what is computed; print the first difference."""
    for name in FILES:
        difference = first_difference(content(name, make("numpy", "cpu")), read(folder / f"{name}.json"))
        if difference is not None:
            print(f"{folder / name}.json: {difference}")
            return 1
    return 0


def read(path: Path) -> Content:
    """Return the content of a file, decimal numbers as texts; DataError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        content: Content = json.loads(text, parse_float=lambda decimal: hexadecimal(float(decimal)))
    except (OSError, ValueError) as error:
        raise make_read_error(path, error, "scripts/make_vectors.py writes it") from error
    return content


def first_difference(computed: Content, written: Content) -> str | None:
    """Return where two contents first differ, and how; None if they are equal."""
    lines = (as_text(content).splitlines() for content in (computed, written))
    for number, (left, right) in enumerate(zip_longest(*lines, fillvalue=""), 1):
        if left != right:
            at = next(i for i, (a, b) in enumerate(zip_longest(left, right)) if a != b)
            ours, theirs = (line[max(at - 40, 0) : at + 40] for line in (left, right))
            return f"line {number}: computed {ours}, the file has {theirs}"
    return None


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
