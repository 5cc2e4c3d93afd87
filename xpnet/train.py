"""``python -m xpnet.train``: train networks with the settings of the command line, and record the runs."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpnet.config import Command

# The imports inside the functions are interrupted quietly; some load NumPy, which --help does not need.


def main(argv: Sequence[str] | None = None, prog: str = "xpnet train") -> int:
    """Run the command and return its exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted (143 by SIGTERM, 129 by
    SIGHUP); 1 an unexpected error, or standard output that cannot be written.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        from functools import partial

        from xpnet._lib.extras import need_train
        from xpnet.cli.guard import handle_errors, read_command

        line = [prog, *words]
        with handle_errors(debug="--debug" in words) as output:
            need_train(prog)
            from xpnet.config import Command, parse

            with read_command("train", words, partial(parse, words, prog), Command.list_facts) as command:
                output.code = _run(command, line)
    except KeyboardInterrupt:  # while modules are loaded
        return 130
    return output.code


def _run(command: "Command", line: list[str]) -> int:
    """Run the command that a line of words stands for. Return the exit code."""
    from xpnet._lib.interrupts import last_signal
    from xpnet.config import to_toml
    from xpnet.distributed.launch import rank_and_size

    config = command.config
    if command.print_config:
        sys.stdout.write(to_toml(config) if rank_and_size()[0] == 0 else "")
        return 0
    from xpnet.cli.train import dry_run, read_extension, resume, resume_or_start, train
    from xpnet.cli.trials import run_trials
    from xpnet.distributed.ranks import connect

    ranks, advise = connect(), not config.quiet and "normalize" not in command.explicit
    trained = None
    if command.dry_run:
        dry_run(command)
    elif config.resume_or_start:
        trained = resume_or_start(command, line)
    elif config.resume is not None:
        trained = resume(command, config.resume, line)
    elif config.extend is not None:
        with ranks.agreement():
            config, parent = read_extension(command, config.extend)
        trained = train(config, line, parent=parent)
    elif config.repeats > 1 or len(config.learning_rates) > 1:
        return run_trials(config, line, advise=advise)
    else:
        trained = train(config, line, advise=advise)
    return ranks.max(128 + last_signal()) if trained is not None and trained[0].interrupted else 0


if __name__ == "__main__":
    sys.exit(main(prog="python -m xpnet.train"))
