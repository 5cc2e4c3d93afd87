"""Plant wrong readings of docs/reproducibility.md, one at a time, and tell which test vector notices each.

A reading of tests/misreadings.toml stands in a copy of the text of tests/reference.py, or of a file beside
it, while that computes vectors of docs/vectors: the one that the table names, or with ``--all`` every one. A
vector notices a reading if the results differ. Exit code 1 if the named one does not notice a reading, 2 if a
text does not stand in its file once.

Readings that change no bit are left out: 128·(a·X) for (128·a)·X in 12.3, and 1/(1 − q/65536) for
65536/(65536 − q) in 9.4, as products with powers of two are exact; θ/90 for θ·fl(1/90) in 12.1, which could
change n next to odd multiples of 45 degrees alone, where sine and cosine stay the same.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from checkout import ROOT

from xpnet.errors import ConfigError

TABLE = ROOT / "tests" / "misreadings.toml"


class Reading(NamedTuple):
    """A wrong reading: texts of a file of the reference, each with the one in its place."""

    module: str
    name: str
    texts: list[str]
    vector: str

    def planted(self) -> str:
        """Return the text of the file with the reading; ConfigError unless its texts stand there once."""
        text = source = (ROOT / "tests" / f"{self.module}.py").read_text(encoding="utf-8")
        for old, new in zip(self.texts[::2], self.texts[1::2], strict=True):
            if (number := source.count(old)) != 1:
                msg = f"{self.name}: expected the text once in {self.module}.py, got {number}: {old!r}"
                raise ConfigError(msg)
            text = text.replace(old, new)
        return text


def read_table() -> list[Reading]:
    """Return the readings."""
    files = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [
        Reading(module, name, texts, vector)
        for module, readings in files.items()
        for name, (*texts, vector) in readings.items()
    ]


def noticing(reading: Reading, *, every: bool = False) -> Iterator[str]:
    """Yield the names of the vectors that notice a reading: of all, or of the one in the table."""
    from published_vectors import checks, load_reference

    for name, check in checks(load_reference({reading.module: reading.planted()})):
        if (every or name == reading.vector) and not check():
            yield name


def main(words: Sequence[str] | None = None) -> int:
    """Plant the readings, print what notices each, and return the exit code."""
    parser = argparse.ArgumentParser(description="Plant wrong readings: which test vector notices them?")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="readings that match, as in '10.3*'")
    parser.add_argument(
        "--all", action="store_true", help="compute every vector, not only the one in the table"
    )
    options = parser.parse_args(words)
    sys.path += [str(ROOT / "tests" / "helpers"), str(ROOT / "docs" / "vectors")]
    missed = 0
    try:
        for reading in read_table():
            if fnmatch(reading.name, options.only):
                names = list(noticing(reading, every=options.all))
                missed += reading.vector not in names
                print(f"{len(names):4}  {reading.name}: {', '.join(names[:3]) or 'NOT NOTICED'}", flush=True)
    except ConfigError as error:
        print(f"misreadings: {error}", file=sys.stderr)
        return 2
    print(f"not noticed: {missed}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
