"""Writes what the trainings of the table reached as a page of Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from shared import markdown

from papers.rows import HELD_OUT, Row

PARALLEL = 0.75
"""A run whose wall time is below this share of its processor time had its processors to itself."""


@dataclass(frozen=True)
class SeedResult:
    """A row trained with one seed."""

    seed: int
    test_error: float  # per cent
    wall: float | None  # seconds, from the start of the process to its end
    cpu: float | None  # seconds of all processors
    parameters: int
    fingerprint: str
    backend: str


@dataclass(frozen=True)
class Candidate:
    """A setting that was tried for a row, and how it fared on the validation images."""

    flags: str
    validation_error: float  # per cent
    epochs: int
    cpu: float | None


@dataclass(frozen=True)
class RowResults:
    """All that is there of a row."""

    row: Row
    sizes: str  # 784-800-10
    trained: Sequence[SeedResult] = ()
    candidates: Sequence[Candidate] = ()

    @property
    def mean(self) -> float | None:
        """The mean test error in per cent, if anything was trained."""
        return statistics.fmean(t.test_error for t in self.trained) if self.trained else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds (n - 1), if there are two or more."""
        errors = [trained.test_error for trained in self.trained]
        return statistics.stdev(errors) if len(errors) > 1 else None

    @property
    def matched(self) -> str:
        """How the mean compares with the published error."""
        mean, published = self.mean, self.row.published
        if mean is None or published is None:
            return ""
        if mean <= float(published):
            return "yes"
        decimals = len(published.partition(".")[2])
        return "to its digits" if round(mean, decimals) <= float(published) else "no"


@dataclass(frozen=True)
class Results:
    """The whole table."""

    rows: Sequence[RowResults]
    processors: int
    about: str  # machine and versions


def page(results: Results) -> str:
    """Return the page."""
    parts = [_introduction(results), _table(results), _notes(results), _commands(results)]
    parts += [_candidates(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(results: Results) -> str:
    rated = [row for row in results.rows if row.row.published is not None]
    reached = sum(row.matched in ("yes", "to its digits") for row in rated)
    run = sum(bool(row.trained) for row in rated)
    return f"""\
# The published table

Test errors of multilayer perceptrons on MNIST, as published and as xpnet reaches them in native float32
arithmetic: {reached} of {len(rated)} published figures are matched or bettered ({run} were trained so far).

Every row was trained on all 60,000 training images, once for each seed, and each run read the 10,000 test
images once, at its end. Settings were chosen before that, on {HELD_OUT:,} training images held out, without
regard to the test images. The rows have the networks, losses and regularisation of their sources; optimisers,
schedules, numbers of epochs and what the notes name are xpnet's own choice and stand in the commands below.

{results.about or "Nothing was trained yet."}"""


def _table(results: Results) -> str:
    head = ("network", "training", "published %", "test error %", "matched", "seeds", "time", "parameters")
    return markdown(head, [_table_row(row, results.processors) for row in results.rows], "---")


def _table_row(results: RowResults, processors: int) -> list[str]:
    row = results.row
    parameters = f"{results.trained[0].parameters:,}" if results.trained else ""
    return [
        results.sizes,
        row.training,
        "" if row.published is None else row.published,
        error(results),
        results.matched,
        f"{len(results.trained)}" if results.trained else "",
        duration(results.trained, processors),
        parameters,
    ]


def error(results: RowResults) -> str:
    """Return mean ± standard deviation of the test error in per cent."""
    if results.mean is None:
        return "not yet run"
    spread = "" if results.deviation is None else f" ± {results.deviation:.2f}"
    return f"{results.mean:.2f}{spread}"


def duration(trained: Sequence[SeedResult], processors: int) -> str:
    """Return the mean time of a run.

    Where other programs kept the processors busy, the wall time says little: then it is the processor time
    divided by the processors, the least that a quiet machine takes, with a †.
    """
    costs = [(run.wall, run.cpu) for run in trained if run.wall is not None and run.cpu is not None]
    if not costs:
        return ""
    wall, cpu = (statistics.fmean(column) for column in zip(*costs, strict=True))
    if wall <= PARALLEL * cpu:
        return spoken(wall)
    low, high = spoken(cpu / processors), spoken(min(wall, cpu))
    return low if low == high else f"{low} - {high} †"


def spoken(seconds: float) -> str:
    """Return a time in seconds below two minutes, in minutes from there on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _notes(results: Results) -> str:
    processors = results.processors
    lines = [
        "*Test error*: mean ± standard deviation over the seeds 0, 1, …; without ± there is one seed.",
        "*Matched*: yes if the mean is at most the published figure, *to its digits* if so once rounded.",
        "*Time*: mean of a run, from the start of its process to its end.",
        f"†: the machine had other work; a quiet one takes from processor time / {processors} to the second.",
    ]
    for row in results.rows:
        backends = sorted({run.backend for run in row.trained} - {"numpy"})
        note = f"Trained with --backend {' and '.join(backends)}." if backends else ""
        notes = " ".join(filter(None, (row.row.note, note)))
        lines += [f"{row.sizes}, {row.row.training}: {notes}"] if notes else []
    return "\n".join(f"- {line}" for line in lines)


def _commands(results: Results) -> str:
    rows = [[row.sizes, row.row.training, f"`{command(row.row)}`", row.row.source] for row in results.rows]
    table = markdown(("network", "training", "command", "source of the published figure"), rows, "---")
    return f"""\
## How to repeat it

    python scripts/reproduce_mnist_table.py          # trains what is missing, into runs/mnist-table
    python scripts/reproduce_mnist_table.py --page   # puts what is there on this page

It goes on where it was stopped. `--rows` picks rows, `--seeds` sets how many seeds, `--backend` names the
array library. Each training is a command too; with `--seed 1` and so on for the further seeds.

{table}"""


def command(row: Row) -> str:
    """Return the command that trains a row once."""
    native = "" if "--recipe" in row.words else " --arithmetic native"
    return f"xpnet train {row.flags}{native}"


def _candidates(results: Results) -> str:
    tried = [row for row in results.rows if row.candidates]
    if not tried:
        return ""
    parts = [
        f"""\
## How the settings were chosen

Each candidate was trained once, with seed 0, on all but {HELD_OUT:,} of the training images and judged by
its error on those; `--choose ROW` does it. Differences below about 0.1 points (0.3 for small networks) are
within the noise. To save time, candidates are often trained for fewer epochs than was then chosen."""
    ]
    for row in tried:
        ranked = sorted(row.candidates, key=lambda candidate: candidate.validation_error)
        shared = shared_flags([candidate.flags for candidate in ranked])
        rows = [[f"{one.validation_error:.2f}", _code(without(one.flags, shared))] for one in ranked]
        table = markdown(("validation error %", "with"), rows, "---")
        common = f"All with {_code(' '.join(shared))}" if shared else "These settings"
        parts.append(
            f"### {row.sizes}, {row.row.training}\n\nChosen: `{row.row.flags}`. {common}:\n\n{table}"
        )
    return "\n\n".join(parts)


def _code(text: str) -> str:
    return f"`{text}`" if text else "nothing more"


def settings(flags: str) -> list[str]:
    """Return flags, each with its values: --lr 0.1 --batch-norm -> ["--lr 0.1", "--batch-norm"]."""
    parts = flags.split("--")
    return [f"--{part.strip()}" for part in parts if part.strip()]


def shared_flags(candidates: Sequence[str]) -> list[str]:
    """Return the flags with values that all candidates have, in the first one's order."""
    first, *rest = [settings(flags) for flags in candidates]
    return [flag for flag in first if all(flag in flags for flags in rest)] if rest else []


def without(flags: str, shared: Sequence[str]) -> str:
    """Return flags without those that are shared."""
    return " ".join(flag for flag in settings(flags) if flag not in shared)
