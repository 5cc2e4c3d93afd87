"""Writes the test vectors of docs/reproducibility.md: docs/vectors/*.json, computed on NumPy.

The inputs are those in the files. A new case is an entry with its inputs, in which floats may be decimal
numbers. With --check the script writes nothing, and compares the files with what is computed.

Exit codes: 0 done, 1 a file differs (the first difference is printed), 2 bad input.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared import ROOT, make_folder
from vectors import contractions, functions, images, network, sums, trainings, words
from vectors.numbers import Content, hexadecimal

from xpnet._lib.files import make_read_error, save
from xpnet.arithmetic import SPECIFICATION_VERSION
from xpnet.backends.base import Backend
from xpnet.backends.resolve import make
from xpnet.config.flags import Parser
from xpnet.errors import XPNetError

FOLDER = ROOT / "docs" / "vectors"
WIDTH = 110
LONGEST_NUMBER = 30  # characters: a fingerprint has more

FILES: dict[str, Callable[[Backend, Content], Content]] = {
    "random": words.content,
    "functions": functions.content,
    "contractions": contractions.content,
    "sums": sums.content,
    "network": network.content,
    "images": images.content,
    "trainings": trainings.content,
}
"""The functions that compute the content of each file on a backend, inside its scope, from that so far."""


def content(name: str, backend: Backend) -> Content:
    """Return the content of a file as computed on a backend."""
    with backend.scope():
        file = read(FOLDER / f"{name}.json")
        return {"specification": SPECIFICATION_VERSION, **FILES[name](backend, file)}


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


def first_difference(computed: Any, written: Any, place: str = "") -> str | None:
    """Return where two contents first differ, and how; None if they are equal."""
    if isinstance(computed, dict) and isinstance(written, dict) and computed.keys() == written.keys():
        items = [(f"{place}/{key}", computed[key], written[key]) for key in computed]
    elif isinstance(computed, list) and isinstance(written, list) and len(computed) == len(written):
        items = [(f"{place}/{i}", *pair) for i, pair in enumerate(zip(computed, written, strict=True))]
    elif type(computed) is type(written) and computed == written:
        return None
    else:
        return f"{place}: computed {shorten(computed)}, the file has {shorten(written)}"
    differences = (first_difference(left, right, where) for where, left, right in items)
    return next((difference for difference in differences if difference is not None), None)


def shorten(value: Any) -> str:
    """Return a value for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def as_text(value: Any, indent: str = "") -> str:
    """Return JSON: lists of numbers and what is short on one line, of anything else one item a line."""
    text = json.dumps(value, ensure_ascii=False)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    is_long = any(isinstance(item, list | dict) or len(str(item)) > LONGEST_NUMBER for item in items)
    if len(indent) + len(text) <= WIDTH or (isinstance(value, list) and not is_long) or not items:
        return text
    inner = f"{indent} "
    if isinstance(value, dict):
        lines = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {as_text(item, inner)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{as_text(item, inner)}" for item in items) + f"\n{indent}]"


if __name__ == "__main__":
    sys.exit(main())
