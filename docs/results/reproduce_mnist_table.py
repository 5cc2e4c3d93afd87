"""Trains multilayer perceptrons of the literature on MNIST and compares their test errors.

Trains the rows that are named, with the command that docs/results.md has for each, unless runs/mnist-table
has them complete. Writes docs/results.md and results.json, in which the other rows stay as they are.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from checkout import ROOT, need_own
from shared import processor, render, write_generated

from xpnet import __main__ as xpnet
from xpnet._lib.machine import available_cpus
from xpnet.config import parse

DOCS = ROOT / "docs"
OUT = ROOT / "runs" / "mnist-table"
HERE = Path(__file__).parent
ROWS = tomllib.loads((HERE / "rows.toml").read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """Train rows, write what they reached, and return the exit code: of xpnet train where it fails."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("rows", nargs="+", choices=ROWS, metavar="NAME", help=f"some of {', '.join(ROWS)}")
    file = DOCS / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    for name in parser.parse_args(argv).rows:
        folder = OUT / name
        if not (folder / "summary.json").exists():
            where = ["--out", str(OUT), "--name", name, "--overwrite", "--no-report", "--quiet"]
            if code := xpnet.main(["train", *words(name), *where]):
                return code
        trials = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["trials"]
        for trial in trials if is_reproducible(name) else ():
            if code := xpnet.main(["verify", str(folder / trial["run"]), "--quiet"]):
                return code
        results[name] = describe(folder, trials)
        write_generated(file, json.dumps(results, indent=1) + "\n")
        write_generated(DOCS / "results.md", page(results))
    return 0


def words(name: str) -> list[str]:
    """Return the words of the command that trains a row, after its program."""
    return [*ROWS[name].get("flags", f"--recipe {name}").split(), "--repeats", "5"]


def is_reproducible(name: str) -> bool:
    """Return whether the bits of a row are the same everywhere."""
    return parse(words(name), "xpnet train").config.arithmetic == "reproducible"


def describe(folder: Path, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the trainings in a folder reached, the mean of their times, and where they ran."""
    record = json.loads((folder / trials[0]["run"] / "run.json").read_text(encoding="utf-8"))
    library, processors = record["backend"], available_cpus()
    return {
        "test_errors": [round(100.0 * (1.0 - each["metrics"]["test_accuracy"]), 6) for each in trials],
        "seconds": fmean(each["metrics"]["seconds"] for each in trials),
        "place": f"{library} {record['versions'][library]} on {processor()}, "
        f"{processors} processor{'s' if processors > 1 else ''}",
        "fingerprints": [each["fingerprint"] for each in trials],
    }


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page of what rows reached."""
    rows, figures, missed = [], set(), set()
    for name, row in ROWS.items():
        config = parse(words(name), "xpnet train").config
        sizes = (784, *config.hidden, 10)
        parameters = sum((inputs + 1) * units for inputs, units in pairwise(sizes))
        shown = {
            "published": "",
            "error": "not yet run",
            "matched": "",
            "time": "",
            "network": "-".join(map(str, sizes)),
            "parameters": parameters + 2 * sum(config.hidden) * config.batch_norm,
            "command": " ".join(words(name)[:-2]),
            "is_reproducible": is_reproducible(name),
        }
        if name in results:
            errors, seconds = results[name]["test_errors"], results[name]["seconds"]
            shown["error"] = f"{fmean(errors):.2f} ± {stdev(errors):.2f}"
            shown["time"] = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
            if "published" in row:
                figure = shown["network"], row["source"], row["published"]
                figures.add(figure)
                shown["matched"] = "yes" if fmean(errors) <= float(row["published"]) else "no"
                if shown["matched"] == "no":
                    missed.add(figure)
        rows.append({**shown, **row, **results.get(name, {})})
    reached = len(figures - missed)
    return render(HERE / "page.md.j2", reached=reached, figures=len(figures), rows=rows)


if __name__ == "__main__":
    need_own()
    sys.exit(main())
