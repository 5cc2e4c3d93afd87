"""``xpnet verify``: prove that a recorded training gives the results in its record.

Train again with the settings and data of a record, and compare every result with it, bit by bit: the history
with its fingerprints, the model, the metrics and the checkpoints. Any library, device and number of workers
gives the same bits in reproducible arithmetic.

Exit codes: 0 all is the same, 1 something differs, 2 it cannot be verified, 130 interrupted.

Options
-------
run
    a run, by its folder or its name in runs; of a folder of several trained together, each and the summary
--between
    verify the epochs after A up to B alone, from the checkpoint that was kept after A
--files
    without training, compare the files with the digests that the record holds of them
--data
    the data of the training, if they are at another place now
--test-data
    the test data of the training, likewise
--init-from
    the model that the training started from, likewise
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli.guard import read_command
from xpnet.config.flags import Parser, add_settings, get_settings
from xpnet.config.training import DEFAULTS
from xpnet.errors import ConfigError
from xpnet.training.terminal import make_console, style_text

if TYPE_CHECKING:
    from xpnet.distributed.ranks import Ranks

# The imports inside the functions load NumPy, which --help does not need.

PLACE = ("backend", "device", "workers", "require_device", "quiet")
"""Settings of the verification, of which those of the training do not apply."""
Verdict = tuple[int, str]
"""An exit code, and what differs, or that nothing does."""


def main(words: Sequence[str]) -> int:
    """Print what differs, or that nothing does. Return the exit code.

    Errors as in ``xpnet.recording.verification``.
    """
    parser = Parser("xpnet verify", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--between", type=_read_epochs, metavar="A:B")
    parser.add_argument("--files", action="store_true")
    for name in ("--data", "--test-data", "--init-from"):
        parser.add_argument(name, type=Path, default=argparse.SUPPRESS)
    add_settings(parser, PLACE)
    with read_command("verify", words, partial(parser.parse_args, words), _list_facts) as arguments:
        from xpnet.distributed.ranks import connect

        ranks = connect()
        is_quiet = get_settings(arguments).get("quiet", False)
        codes = []
        for code, line in _verify(arguments, ranks):
            is_verified = line.startswith("verified ")
            style = "green" if is_verified else "bold red" if code else "yellow"
            make_console(quiet=ranks.rank > 0 or (is_verified and is_quiet)).print(style_text(line, style))
            codes.append(code)
        return max(codes)


def _verify(arguments: argparse.Namespace, ranks: "Ranks") -> Iterator[Verdict]:
    """Yield the verdict on each run, and on a summary."""
    from xpnet.storage.find import resolve_run
    from xpnet.storage.record import SUMMARY_FILE
    from xpnet.storage.summary import compare_summary

    with ranks.agreement():
        run = resolve_run(arguments.run)
        is_summary = (run / SUMMARY_FILE).is_file()
        if is_summary and arguments.between:
            raise ConfigError(f"--between: is for one run, and {run} holds several")
        summary, difference = compare_summary(run) if is_summary else ({}, None)
    if not is_summary:
        yield _verify_run(run, ranks, arguments)
        return
    for trial in summary["trials"]:
        yield _verify_run(run / trial["run"], ranks, arguments, f"{trial['run']}: ")
    same = 0, f"verified      {run}: the summary of its runs"
    yield (1, f"differs       {difference}") if difference else same


def _verify_run(folder: Path, ranks: "Ranks", arguments: argparse.Namespace, place: str = "") -> Verdict:
    """Return the verdict on a run, with its place."""
    from xpnet.recording.recorded_run import RecordedRun, check_recorded, find_file_difference

    with ranks.agreement():
        run = RecordedRun(folder)
    difference = ranks.from_first(partial(find_file_difference, run, all_files=arguments.files))
    if not (difference or arguments.files):
        from xpnet.cli.train import describe_training
        from xpnet.recording.verification import find_difference
        from xpnet.training.opening import open_training

        settings = get_settings(arguments)
        with ranks.agreement():
            check_recorded(run, arguments.between)
            if "data" not in settings:
                run.check_files("xpnet.verify takes them in Python")
            own: dict[str, Any] = {name: DEFAULTS[name] for name in (*PLACE, "resume", "extend")}
            config = replace(run.config, **(own | settings))
        ranks.compare(run.describe_files())
        with open_training(config, None, ranks) as (trainer, selection):
            source, versions = run.record.get("source_sha256"), run.record["versions"]
            writer = f"xpnet {versions.get('xpnet')}{f', source {source[:16]}…' if source else ''}"
            heading = f"recorded by {writer}, which is not compared"
            lines = [heading, *describe_training(selection, trainer, None)]
            difference = find_difference(run, trainer, lines)
    if difference:
        return 1, f"differs       {place}{difference}"
    verdict, compared = "verified      ", "the files are the same bits" if arguments.files else run.describe()
    if missing := run.missing:
        verdict = f"verified, but for {', '.join(missing)}, which {'are' if missing[1:] else 'is'} missing: "
    others = f"; not compared: {', '.join(run.others)}" if run.others else ""
    return 0, f"{verdict}{folder}: {compared}{others}"


def _list_facts(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what the ranks of an MPI job must have in common."""
    facts = {f"--{name}": str(value) for name, value in vars(arguments).items() if name != "workers"}
    return {**facts, "--device": str(facts.get("--device")).partition(":")[0]}


def _read_epochs(text: str) -> tuple[int, int]:
    """Return the two epochs in A:B."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected two epochs, as in 40:50, got {text}")
    return int(first), int(last)
