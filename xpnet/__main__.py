"""``python -m xpnet`` and the console script ``xpnet``: one word chooses the command."""

import sys
from collections.abc import Sequence

from xpnet._lib.text import complain
from xpnet.cli.parser import guarded

USAGE = """\
usage: xpnet COMMAND [OPTIONS]

Commands:
  train     train a network (xpnet train --help)
  evaluate  say how well a network does on data (xpnet evaluate --help)
  predict   tell the digits in pictures (xpnet predict --help)
  report    write what a run did as a page (xpnet report --help)
  runs      list and compare runs (xpnet runs --help)
  augment   draw distorted images (xpnet augment --help)
  parity    train everywhere and compare with NumPy (xpnet parity --help)
  doctor    say which backends and devices work here, and how to get the others
"""


def _train(arguments: list[str]) -> int:
    from xpnet import train

    return train.main(arguments, prog="xpnet train")


def _evaluate(arguments: list[str]) -> int:
    from xpnet.cli import evaluate

    return evaluate.main(arguments)


def _predict(arguments: list[str]) -> int:
    from xpnet.cli import predict

    return predict.main(arguments)


def _report(arguments: list[str]) -> int:
    from xpnet.cli import report

    return report.main(arguments)


def _runs(arguments: list[str]) -> int:
    from xpnet.cli.runs import command

    return command.main(arguments)


def _augment(arguments: list[str]) -> int:
    from xpnet.cli import augment

    return augment.main(arguments)


def _parity(arguments: list[str]) -> int:
    from xpnet.cli.parity import main as parity

    return parity(arguments)


def _doctor(arguments: list[str]) -> int:
    from xpnet.cli import doctor

    return doctor.main(arguments)


COMMANDS = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "report": _report,
    "runs": _runs,
    "augment": _augment,
    "parity": _parity,
    "doctor": _doctor,
}
"""Each loads what it needs, so that the others start at once."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names, and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    command, arguments = (words[0], words[1:]) if words else ("", [])
    if command in COMMANDS:
        return COMMANDS[command](arguments)
    return guarded(lambda: _without_command(command), debug=False)


def _without_command(command: str) -> int:
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        from xpnet import __version__

        print(f"xpnet {__version__}")
        return 0
    problem = f"unknown command {command!r}" if command else "no command given"
    complain(f"{problem}: expected {', '.join(COMMANDS)} (xpnet --help)")
    return 2


if __name__ == "__main__":
    sys.exit(main())
