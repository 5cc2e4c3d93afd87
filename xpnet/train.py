"""``python -m xpnet.train``: train networks with the settings of the command line, and record the runs."""

import sys

# The imports inside the functions are interrupted quietly; some load NumPy, which --help does not need.


def main(argv: list[str] | None = None, prog: str = "xpnet train") -> int:
    """Run the command and return its exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted (143 by SIGTERM, 129 by
    SIGHUP); 1 an unexpected error, or standard output that cannot be written.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        from xpnet.cli.guard import handle_errors, read_command

        with handle_errors(debug="--debug" in words) as output:
            from functools import partial

            from xpnet._lib.extras import need_train
            from xpnet._lib.interrupts import last_signal
            from xpnet.distributed.launch import check_alone, rank_and_size

            line = [prog, *words]
            need_train(prog)
            from xpnet.config import Command, parse, to_toml

            with read_command("train", words, partial(parse, words, prog), Command.list_facts) as command:
                config = command.config
                if is_series := config.repeats > 1 or len(config.learning_rates) > 1:
                    work = "which train one network together: start each training as a job of its own"
                    setting = "--repeats" if config.repeats > 1 else "--learning-rate"
                    check_alone(setting, f"{work}, as in an array of the scheduler")
                if command.print_config:
                    sys.stdout.write(to_toml(config) if rank_and_size()[0] == 0 else "")
                elif command.dry_run:
                    from xpnet.cli.train import dry_run

                    dry_run(command)
                else:
                    from xpnet.cli.train import train
                    from xpnet.cli.trials import run_trials
                    from xpnet.distributed.ranks import connect

                    advise = not config.quiet and "normalize" not in command.explicit
                    trained = None
                    if is_series and not (config.resume or config.extend):
                        output.code = run_trials(config, line, advise=advise)
                    else:
                        trained = train(command, line, ranks := connect(), advise=advise)
                    if trained and trained.interrupted:
                        output.code = ranks.max(128 + last_signal())
    except KeyboardInterrupt:  # while modules are loaded
        return 130
    return output.code


if __name__ == "__main__":
    sys.exit(main(prog="python -m xpnet.train"))
