"""Writes what the trainings of the table reached as a page of Markdown."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared import markdown

from papers.rows import HELD_OUT, Row

AVERAGED = "--average-epochs"
PARALLEL = 0.75
"""A run whose wall time is below this share of its processor time had its processors to itself."""


@dataclass(frozen=True)
class SeedResult:
    """A row trained with one seed."""

    seed: int
    test_error: float  # per cent
    wall: float  # seconds, from the start of the process to its end
    cpu: float  # seconds of all processors
    parameters: int
    fingerprint: str
    backend: str  # with its version
    machine: str
    processors: int
    verified: bool = False  # xpnet verify computed the same bits


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


def page(rows: Sequence[RowResults]) -> str:
    """Return the page."""
    parts = [_introduction(rows), _table(rows), _notes(), _instructions(), *map(_section, rows)]
    return "\n\n".join(parts) + "\n"


def _introduction(rows: Sequence[RowResults]) -> str:
    rated: dict[tuple[str, ...], list[bool]] = {}  # a figure: what each row that is compared with it reached
    for row in rows:
        if row.row.published is not None and row.trained:
            figure = row.sizes, row.row.source, row.row.published
            rated.setdefault(figure, []).append(row.matched in ("yes", "to its digits"))
    reached = sum(map(all, rated.values()))
    return f"""\
# The published table

Test errors of multilayer perceptrons on MNIST, as published and as xpnet reaches them: {reached} of the
{len(rated)} published figures that were tried are matched or bettered.

Every row was trained on all 60,000 training images, once for each seed from 0 on, and each run read the
10,000 test images once, at its end. No seed was left out. Settings were chosen before that, on {HELD_OUT:,}
or more of the training images held out. Where a choice was given up after one of its test errors was seen,
the section of the row says so, and what came after it was again chosen by validation images alone, but for
one return that the section of the elastic distortions tells of."""


def _table(rows: Sequence[RowResults]) -> str:
    head = ("network", "training", "published %", "test error %", "matched", "seeds", "time", "parameters")
    return markdown(head, [_table_row(row) for row in rows], "---")


def _table_row(results: RowResults) -> list[str]:
    row = results.row
    return [
        results.sizes,
        row.training,
        "" if row.published is None else row.published,
        error(results),
        results.matched,
        f"{len(results.trained)}" if results.trained else "",
        duration(results.trained),
        f"{results.trained[0].parameters:,}" if results.trained else "",
    ]


def error(results: RowResults) -> str:
    """Return mean ± standard deviation of the test error in per cent."""
    if results.mean is None:
        return "not yet run" if results.row.seeds else "not yet run: needs a GPU"
    spread = "" if results.deviation is None else f" ± {results.deviation:.2f}"
    return f"{results.mean:.2f}{spread}"


def duration(trained: Sequence[SeedResult]) -> str:
    """Return the mean time of a run.

    Where other programs kept the processors busy, the wall time says little: then it is the processor time
    divided by the processors, the least that a quiet machine takes, with a †.
    """
    if not trained:
        return ""
    wall, cpu = statistics.fmean(run.wall for run in trained), statistics.fmean(run.cpu for run in trained)
    if wall <= PARALLEL * cpu:
        return spoken(wall)
    processors = max(run.processors for run in trained)
    low, high = spoken(cpu / processors), spoken(min(wall, cpu))
    return low if low == high else f"{low} - {high} †"


def spoken(seconds: float) -> str:
    """Return a time in seconds below two minutes, in minutes from there on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _notes() -> str:
    return """\
- *Test error*: mean ± standard deviation over the seeds.
- *Matched*: yes if the mean is at most the published figure, *to its digits* if so once rounded.
- *Time*: mean of a run, from the start of its process to its end; the sections below name the machine.
- †: the machine had other work; a quiet one takes from processor time / processors to the second."""


def _instructions() -> str:
    return """\
## How to repeat a row

<!-- skip: next "it takes long" -->
```sh
python -m xpnet.train --recipe NAME --repeats 5
```

trains it with the seeds 0 to 4 and prints mean and standard deviation of the test accuracy; the sections
below have the names. Native float32 arithmetic, whose last digits differ from machine to machine, trains all
rows but the one that says so. `scripts/reproduce_mnist_table.py` trains what is missing of all rows, into
`runs/mnist-table`, and goes on where it was stopped; `--page` puts what is there on this page.

Candidates were trained once, with seed 0 unless they name another, on all but 10,000 of the training images
(another number has a table of its own) and judged by their error on those;
`scripts/reproduce_mnist_table.py --choose ROW --flags="..."` trains one more. Differences below about 0.1
points (0.3 for networks with 10 hidden units) are within the noise. To save time, candidates are often
trained for fewer epochs than was then chosen. *Mean of 10* is the error with `--average-epochs 10`."""


def command(row: Row) -> str:
    """Return the command that trains a row."""
    backend = "" if row.backend == "auto" else f" --backend {row.backend}"
    return f"python -m xpnet.train {row.flags} --repeats 5{backend}"


def _section(results: RowResults) -> str:
    return "\n\n".join([f"## {results.sizes}, {results.row.training}", *_parts(results)])


def _parts(results: RowResults) -> Iterator[str]:
    row = results.row
    lines = [
        f"- Source: {row.source}.",
        f"- The source's: {row.theirs}.",
        f"- xpnet's own: {row.ours}.",
        f"- Command: `{command(row)}`",
    ]
    if results.trained:
        lines.append(f"- Trained with {_places(results.trained)}; {duration(results.trained)} each.")
        errors = ", ".join(f"{run.test_error:.2f}" for run in results.trained)
        lines.append(f"- Test errors of the seeds from {results.trained[0].seed} on: {errors}.")
    yield "\n".join(lines)
    if verified := [run for run in results.trained if run.verified]:
        rows = [[f"{run.seed}", f"`{run.fingerprint}`"] for run in verified]
        table = markdown(("seed", "fingerprint"), rows, "---")
        yield f"Confirmed by `xpnet verify`, which computed these runs again, bit for bit:\n\n{table}"
    for held_out in dict.fromkeys(map(_held_out, results.candidates)):
        yield _candidates([each for each in results.candidates if _held_out(each) == held_out])
    if row.further:
        yield row.further


def _places(trained: Sequence[SeedResult]) -> str:
    """Return the libraries and machines."""
    places = dict.fromkeys((run.backend, run.machine, run.processors) for run in trained)
    return " and ".join(
        f"{backend} on {machine}, {processors} processor{'s' if processors > 1 else ''}"
        for backend, machine, processors in places
    )


def _held_out(candidate: Candidate) -> str:
    """Return the flag of the number of validation images, empty for the usual number."""
    return " ".join(flag for flag in settings(candidate.flags) if flag.startswith("--validation "))


def _candidates(candidates: Sequence[Candidate]) -> str:
    """Return the table of the candidates, one row for those that differ in --average-epochs alone."""
    trainings: dict[str, dict[int, float]] = {}  # errors by the number of averaged epochs
    for candidate in candidates:
        parts = settings(candidate.flags)
        (averaged,) = [part for part in parts if part.startswith(AVERAGED)] or [f"{AVERAGED} 1"]
        flags = " ".join(part for part in parts if part != averaged)
        trainings.setdefault(flags, {})[int(averaged.split()[1])] = candidate.validation_error
    ranked = sorted(trainings, key=lambda flags: min(trainings[flags].values()))
    shared = shared_flags(ranked)
    rows = [[_errors(trainings[flags]), _code(without(flags, shared))] for flags in ranked]
    common = f", all with {_code(' '.join(shared))}" if shared else ""
    return f"Candidates{common}:\n\n{markdown(('validation error %', 'with'), rows, '---')}"


def _errors(errors: Mapping[int, float]) -> str:
    """Return the error of the last epoch, and those of the means of several."""
    last = [f"{errors[1]:.2f}"] if 1 in errors else []
    means = [f"{count}: {errors[count]:.2f}" for count in sorted(errors) if count > 1]
    return "; ".join([*last, f"mean of {', '.join(means)}"] if means else last)


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
