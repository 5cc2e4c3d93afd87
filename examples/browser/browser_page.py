"""Writes examples/browser/xpnet.html, the page that trains and verifies in a browser.

It is one file, which opens without a server, made of those beside it: style, script and the program of its
worker are in it, and its policy allows these and no connection. With --check the script writes nothing, and
says whether the page is up to date.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from checkout import ROOT
from shared import write_generated

FOLDER = ROOT / "examples" / "browser"
PAGE = FOLDER / "xpnet.html"
WORKER = ("xpnet.js", "verify.js", "worker.js")
"""The modules of the worker, each after those that it imports."""


def build_page() -> str:
    """Return the HTML of the page."""
    style, script = read("page.css"), read("page.js")
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; worker-src blob:; "
    policy += f"style-src '{digest(style)}'; script-src '{digest(script)}'"
    parts = {"policy": policy, "style": style, "script": script}
    parts["worker"] = "\n".join(map(join_module, WORKER))
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], read("page.html"))


def join_module(name: str) -> str:
    """Return a module as a part of one script: without imports and exports, but with imported JSON."""

    def define(match: re.Match[str]) -> str:
        return f"const {match[1]} = {json.dumps(json.loads(read(match[2])))};\n"

    text = re.sub(r'^import (\w+) from "(.*\.json)" .*\n', define, read(name), flags=re.MULTILINE)
    text = re.sub(r"^import .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


def read(name: str) -> str:
    """Return the text of a file of the page."""
    return (FOLDER / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return the hash of an inline style or script, as a Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def main() -> int:
    """Write or compare the page; return the exit code, 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare the page instead of writing it")
    if not parser.parse_args().check:
        write_generated(PAGE, build_page())
    elif build_page() != PAGE.read_text(encoding="utf-8"):
        print(f"{PAGE} is out of date: run python examples/browser/browser_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
