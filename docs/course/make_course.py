"""Writes the pictures of docs/course, and the functions of its given.mjs: those of examples/browser/xpnet.js.

With --check the script writes nothing, and says what is out of date.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import course_pictures
from checkout import ROOT
from shared import write_generated

COURSE = ROOT / "docs" / "course"
SECTIONS = re.compile(r"(3|5|5\.\d|6|7|10\.2)\.? ")
"""The sections of the specification whose functions given.mjs has."""
MARK = "// From examples/browser/xpnet.js, by docs/course/make_course.py\n"


def given() -> str:
    """Return given.mjs: its own beginning, and sections of xpnet.js without their exports."""
    own, mark, _ = (COURSE / "given.mjs").read_text(encoding="utf-8").partition(MARK)
    program = (ROOT / "examples/browser/xpnet.js").read_text(encoding="utf-8")
    sections = re.split(r"^// (?=\d)", program, flags=re.MULTILINE)
    text = "".join(f"// {section}" for section in sections if SECTIONS.match(section))
    return own + mark + re.sub(r"^export ", "", text, flags=re.MULTILINE)


def files() -> dict[Path, str]:
    """Return the text of each file."""
    pictures = {COURSE / "images" / f"{name}.svg": text for name, text in course_pictures.draw().items()}
    return {COURSE / "given.mjs": given(), **pictures}


def main() -> int:
    """Write or compare the files; return the exit code, 1 if one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare the files instead of writing them")
    if not parser.parse_args().check:
        for path, text in files().items():
            write_generated(path, text)
    elif stale := [path.name for path, text in files().items() if path.read_text("utf-8") != text]:
        print(f"out of date: {', '.join(stale)}: run python docs/course/make_course.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
