"""Run a script or a module with CuPy on the emulated device: ``python -m xpnet.emulation script.py [words]``.

``-m module`` in place of the script runs a module, ``-c code`` a text. Exit code 2, with a line that gives
the reason, if there can be no emulated device; else that of the script.
"""

import runpy
import sys
from pathlib import Path

from xpnet.emulation.device import describe, install
from xpnet.errors import XPNetError

USAGE = "usage: python -m xpnet.emulation script.py [words], or -m module [words], or -c code"


def main() -> int:
    """Install the emulated device and run what the command line names."""
    words = sys.argv[1:]
    option = words.pop(0) if words and words[0] in {"-m", "-c"} else ""
    if not words or (words[0].startswith("-") and not option):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        install()
    except XPNetError as error:
        print(f"xpnet.emulation: {error}", file=sys.stderr)
        return error.exit_code
    print(describe(), file=sys.stderr)
    sys.argv = words
    if option:
        sys.path[0] = str(Path.cwd())
    if option == "-m":
        runpy.run_module(words[0], run_name="__main__")
    elif option == "-c":
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
if __name__ == "__mp_main__":  # a process that the module has started
    install()
