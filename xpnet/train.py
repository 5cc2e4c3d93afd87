"""``python -m xpnet.train``: from the command line to trained networks and their records."""

import sys
from collections.abc import Sequence

from xpnet.cli.guard import INTERRUPTED, exit_code
from xpnet.config import parse, to_toml

# What is imported below, inside the function, loads NumPy; --help does without.


def main(argv: Sequence[str] | None = None, prog: str = "python -m xpnet.train") -> int:
    """Train as the command line asks and return the exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted; 1 a fault of xpnet, or
    standard output that cannot be written.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    line = [prog, *words]
    with exit_code(debug="--debug" in words) as outcome:
        command = parse(words, prog)
        config = command.config
        if command.print_config:
            sys.stdout.write(to_toml(config))
        else:
            from xpnet.cli.train import resume, run_trials, train

            if config.resume is not None:
                runs = [resume(command, config.resume, line)]
            elif config.repeats > 1 or len(config.learning_rates) > 1:
                runs = run_trials(config, line)
            else:
                runs = [train(config, line)]
            if runs[-1].record["status"] == "interrupted":
                outcome.code = INTERRUPTED
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
