"""``python -m xpnet`` and the console script ``xpnet``: the first word selects the command."""

import sys

# Only the imports inside the functions are interrupted quietly.

COMMANDS = {
    "train": "train a network on images or a table (xpnet train --help)",
    "evaluate": "say how well a network does on data (xpnet evaluate --help)",
    "predict": "classify images of digits, and rows of tables (xpnet predict --help)",
    "verify": "train again, and compare every bit (xpnet verify --help)",
    "export": "write a network for ONNX or PyTorch (xpnet export --help)",
    "report": "write what a run did as a page (xpnet report --help)",
    "runs": "list and compare runs (xpnet runs --help)",
    "parity": "train everywhere and compare with NumPy (xpnet parity --help)",
    "doctor": "say which backends and devices work here, and how to get the others",
}
"""The summary of each command in the help. Its module is imported only to run it."""
SHARED = ("train", "verify")
"""The commands that the ranks of an MPI job run together."""


def main(argv: list[str] | None = None) -> int:
    """Run the command that the first word names, and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        from xpnet.cli.guard import handle_errors

        with handle_errors(debug="--debug" in words[1:]) as output:
            output.code = _run_command(*words)
    except KeyboardInterrupt:  # while modules are loaded
        return 130
    return output.code


def _run_command(command: str = "", *words: str) -> int:
    if command == "help":
        command, words = (words[0], ("--help",)) if words else ("--help", ())
    if command in COMMANDS:
        from importlib import import_module

        if command not in SHARED:
            from xpnet.distributed.launch import check_alone

            check_alone(f"xpnet {command}", "and one does all of it: start it without mpiexec")
        if command != "doctor":
            from xpnet._lib.extras import need_train

            need_train(f"xpnet {command}")
        module = "xpnet.train" if command == "train" else f"xpnet.cli.{command}"
        return int(import_module(module).main(list(words)))
    if command in ("-h", "--help"):
        print("usage: xpnet COMMAND [OPTIONS]\n\nCommands:")
        for name, summary in COMMANDS.items():
            print(f"  {name:<8}  {summary}")
        return 0
    if command == "--version":
        from xpnet import __version__

        print(f"xpnet {__version__}")
        return 0
    from xpnet._lib.text import complain, did_you_mean

    problem = f"unknown command {command!r}" if command else "no command given"
    if command == "augment":
        problem += ", now examples/augment_preview.py of the source"
    complain(f"{problem}: expected {', '.join(COMMANDS)}{did_you_mean(command, COMMANDS)} (xpnet --help)")
    return 2


if __name__ == "__main__":
    sys.exit(main())
