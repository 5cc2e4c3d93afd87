"""Layout of a CSV file, from its first lines, and reading of its lines in chunks."""

import gzip
import itertools
import os
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from xpnet._lib.text import plain
from xpnet.data.source import open_data_file
from xpnet.errors import DataError

CHUNK_SIZE = 1 << 18
MIN_PART_SIZE = 2 << 20
MAX_LINE_SIZE = 16 << 20
NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORKERS = min(4, os.cpu_count() or 1)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CsvLayout:
    """The layout of a CSV file, from its first lines."""

    path: Path
    labelled: bool  # True if the first column is the label
    names: tuple[str, ...]  # of the columns, for messages; empty without a header
    width: int  # number of columns
    start: int  # offset of the first row, in bytes of the decompressed file
    line: int  # line number of the first row, from 1
    parts: list[tuple[int, int]]  # start and stop offsets of the parts to read in parallel


def read_layout(path: Path, features: int | None = None) -> CsvLayout:
    """Read the layout from the first two lines that are not blank.

    Parameters
    ----------
    path
        The file.
    features
        The number of features: a file with that many columns has no labels. None if the first column is
        the label.

    Raises
    ------
    DataError
        The file is empty or not text, or the number of columns differs.
    """
    with open_data_file(path) as file:
        lines = list(itertools.islice(_read_lines(path, file), 2))
        if not lines:
            raise DataError.at(path, "is empty")
        cells = [cell.strip(b' \t\r\n"') for cell in lines[0][2].split(b",")]
        width = len(cells)
        if features is not None and width not in (features, features + 1):
            raise DataError.at(
                path,
                f"has {width} columns, the network takes {features} features: "
                f"expected {features} columns, or {features + 1} with the label first",
            )
        labelled = width != features
        if labelled:
            _check_text(path, lines, width)
        header = _is_header(cells, labelled=labelled)
        if header and len(lines) == 1:
            raise DataError.at(path, "has a header but no rows")
        names = tuple(map(format_cell, cells)) if header and labelled else ()
        number, start, _ = lines[header]
        parts = _split_file(file, start, path.stat().st_size)
        return CsvLayout(path, labelled, names, width, start, number, parts)


def _check_text(path: Path, lines: list[tuple[int, int, bytes]], width: int) -> None:
    """Raise DataError if the file is not text, or its first line has fewer than two cells."""
    if any(b"\0" in line for _, _, line in lines):
        _raise_not_text(path)
    number, _, line = lines[0]
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise DataError.at(path, "is not text in UTF-8", line=number) from error
    if width < 2:
        problem = "has one column; a row is a label and its features, separated by commas"
        raise DataError.at(path, problem, line=number)


def _read_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield line number (from 1), offset and bytes of the lines that are not blank."""
    start = len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0
    file.seek(start)
    for number in itertools.count(1):
        line = file.readline(MAX_LINE_SIZE)
        if not line:
            return
        if len(line) == MAX_LINE_SIZE:
            _raise_too_long(path, line)
        if line.strip():
            yield number, start, line
        start += len(line)


def _is_header(cells: list[bytes], *, labelled: bool) -> bool:
    """Return True if the cells are column names: not numbers, or features counted from 0 or 1."""
    labels, features = cells[:labelled], cells[labelled:]
    counted = [[b"%d" % (first + i) for i in range(len(features))] for first in (0, 1)]
    return not any(map(NUMBER.fullmatch, labels)) and (
        features in counted or not any(map(NUMBER.fullmatch, features))
    )


def _split_file(file: BinaryIO, start: int, size: int) -> list[tuple[int, int]]:
    """Split a file at line ends into a part for each thread; a gzip file is one part."""
    if isinstance(file, gzip.GzipFile):
        return [(start, sys.maxsize)]
    count = max(1, min(_WORKERS, (size - start) // MIN_PART_SIZE))
    cuts = [start]
    for part in range(1, count):
        file.seek(start + (size - start) * part // count)
        file.readline(MAX_LINE_SIZE)
        cuts.append(max(cuts[-1], file.tell()))
    return list(zip(cuts, [*cuts[1:], sys.maxsize], strict=True))


def read_chunks(layout: CsvLayout, start: int, stop: int = sys.maxsize) -> Generator[bytes, None, None]:
    """Yield the lines between two offsets in chunks of whole lines, with a newline at the end."""
    rest = b""
    with open_data_file(layout.path) as file:
        file.seek(start)
        while piece := file.read(min(CHUNK_SIZE, stop - start)):
            start += len(piece)
            if layout.labelled and b"\0" in piece:
                _raise_not_text(layout.path)
            text = rest + piece
            end = text.rfind(b"\n") + 1
            rest = text[end:]
            if len(rest) > MAX_LINE_SIZE:
                _raise_too_long(layout.path, rest)
            if end:
                yield text[:end]
    if rest:
        yield rest + b"\n"


def format_cell(cell: bytes) -> str:
    """Return a cell for a message: at most 41 characters, escaped."""
    text = plain(cell[:160].decode(errors="backslashreplace"))
    return text if len(text) <= 40 else f"{text[:40]}…"


def _raise_not_text(path: Path) -> NoReturn:
    raise DataError.at(path, "is not a CSV file, nor any text in UTF-8")


def _raise_too_long(path: Path, line: bytes) -> NoReturn:
    if b"\0" in line:
        _raise_not_text(path)
    raise DataError.at(path, f"has a line of more than {MAX_LINE_SIZE} bytes")
