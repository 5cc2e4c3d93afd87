"""What several scripts need: paths, arguments, folders, the environment of processes, and Markdown tables."""

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from checkout import ROOT, SCRIPTS, need_own


def whole_number(text: str) -> int:
    """Return an argument that is a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"expected a whole number, 1 or more, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def make_folder(path: Path) -> None:
    """Make a folder unless it exists; ConfigError if that fails."""
    from xpnet._lib.files import make_write_error  # here, because contenders may have another xpnet

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_write_error(path, error) from error


def python_path(root: Path = ROOT) -> str:
    """Return the PYTHONPATH of a process that imports xpnet of a checkout, and the scripts of this one."""
    return os.pathsep.join(filter(None, (str(root), str(SCRIPTS), os.environ.get("PYTHONPATH"))))


def take_stdout() -> IO[str]:
    """Return a stream to standard output; what libraries print there goes to standard error from now on."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], other_columns: str = "---:") -> str:
    """Return a Markdown table; its first column is text, the others are numbers unless they are "---" too."""
    lines = [head, ["---", *[other_columns] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_generated(path: Path, text: str) -> None:
    """Write a file that is made from xpnet; in the checkout, end with one line if xpnet is another's."""
    from xpnet._lib.files import write_atomic

    if path.is_relative_to(ROOT):
        need_own()
    write_atomic(path, text.encode())


def write_part(page: Path, name: str, text: str) -> None:
    """Replace the part of a page between its marks ``name`` and ``end of name``; ValueError without them."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last):
        msg = f"{page} has no part {name}"
        raise ValueError(msg)
    write_generated(page, "".join([before, begin, text.strip("\n"), "\n", end, after]))


def render(template: Path, **values: Any) -> str:
    """Return a Jinja template filled with values."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701  Markdown, not HTML
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values)
