"""Links the functions that docs/math.md names to their lines in the package."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from checkout import ROOT, need_own
from shared import write_generated

PAGE = ROOT / "docs" / "math.md"
LINKED = re.compile(r"\[(`[a-z_][\w.]*\.\w+`)\]\(\.\./xpnet/[^)]*\)")
NAMED = re.compile(r"`([a-z_][\w.]*)\.(\w+)`")


def link(text: str) -> str:
    """Return the page with a link on each function, as it stands now."""
    modules = [file.relative_to(ROOT).with_suffix("").parts for file in sorted(ROOT.glob("xpnet/**/*.py"))]
    paths = [".".join(parts) for parts in modules]

    def place(match: re.Match[str]) -> str:
        for path in paths:
            if path.endswith(f".{match[1]}") and (found := getattr(import_module(path), match[2], None)):
                break
        else:
            return match[0]
        try:
            line = inspect.getsourcelines(found)[1]
        except TypeError:  # of a table
            return match[0]
        return f"[{match[0]}](../{found.__module__.replace('.', '/')}.py#L{line})"

    return NAMED.sub(place, LINKED.sub(r"\1", text))


if __name__ == "__main__":
    need_own()  # the lines are of its functions
    write_generated(PAGE, link(PAGE.read_text(encoding="utf-8")))
