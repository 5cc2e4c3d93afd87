"""Compare every name of CuPy on the emulated CUDA device with NumPy: the table of docs/emulated-cupy.md.

``python docs/emulated_names.py [names]`` calls each name of ``MODULES`` with arrays of ``DTYPES`` and
``SIZES``, on the device and in NumPy; with names it prints how these fare, without writing. A call is right
if dtype apart both results agree, or both raise, which not all calls of a name may do; it is refused if the
error says what is not emulated. emulated_calls.py has the calls, the differences that are CuPy's own, and the
names that are left out, with the reason. Random numbers agree in mean and deviation.

Exit codes: 0 no number is wrong and each failure has a reason; 1 not so; 2 there can be no device.
"""

import importlib
import inspect
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import checkout
import numpy as np
from emulated_calls import CALLS, EXPLAINED, HOST, LEFT_OUT, RANDOM_CALLS, TWO, Call
from shared import markdown, write_part

from xpnet import emulation
from xpnet.errors import XPNetError

PAGE = checkout.ROOT / "docs" / "emulated-cupy.md"
MODULES = {
    "cupy": "numpy",
    "cupy.linalg": "numpy.linalg",
    "cupy.fft": "numpy.fft",
    "cupy.random": "numpy.random",
    "array_api_compat.cupy": "array_api_compat.numpy",
}
DTYPES = ("float32", "float64", "int64", "bool", "complex128")
SIZES = (0, 1, 7, 5000)
TOLERANCE = {"float32": 1e-4, "complex64": 1e-4, "float16": 1e-2}
UNSUPPORTED = re.compile(r"is not emulated")
OWN = (TypeError, ValueError, NotImplementedError, IndexError, AttributeError, ArithmeticError)
"""Errors that CuPy raises itself."""


def make_arrays(dtype: str, size: int) -> tuple[Any, Any]:
    """Return two arrays of NumPy, whose values are the same in each run."""
    generator = np.random.default_rng(size)

    def make() -> Any:
        if dtype == "int64":
            return generator.integers(-9, 9, size)
        x = generator.normal(0, 2, size)
        if dtype == "complex128":
            return x + 1j * generator.normal(0, 2, size)
        return x > 0 if dtype == "bool" else x.astype(dtype)

    return make(), make()


def find_call(name: str, function: Any) -> Call:
    """Return how a function is called."""
    if name in CALLS:
        return CALLS[name]
    count = getattr(function, "nin", 2 if name in TWO else 1)
    return lambda m, x, y: getattr(m, name)(*(x, y)[:count])


def find_reason(module: Any, name: str) -> str:
    """Return why a name is not called, or nothing: a sentence's end after "Left out, since they"."""
    value = getattr(module, name)
    reasons = (reason for reason, names in LEFT_OUT.items() if name in names.split())
    if inspect.ismodule(value):
        return "are modules"
    if name in CALLS or name in RANDOM_CALLS:
        return ""
    if inspect.isclass(value):
        return "are classes"
    return next(reasons, "" if callable(value) else "are constants, and objects that are no functions")


def flatten(value: Any) -> Iterator[Any]:
    """Yield the arrays of a result as NumPy's; types become their names."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from flatten(each)
    elif value is not None:
        value = value.get() if hasattr(value, "get") else value
        yield np.asarray(np.dtype(value).name if isinstance(value, type | np.dtype) else value)


def run(call: Call, *arguments: Any) -> list[Any] | Exception:
    """Return the arrays of a call's result, or the error."""
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            return [*flatten(call(*arguments))]
    except Exception as error:  # noqa: BLE001  whatever a library raises
        return error


def agree(ours: list[Any], theirs: list[Any]) -> bool:
    """Tell whether results are the same but for dtype and rounding."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return False
    for x, y in zip(ours, theirs, strict=True):
        if x.dtype.kind not in "biufc" or y.dtype.kind not in "biufc":
            if not np.array_equal(x, y):
                return False
            continue
        tolerance = max(TOLERANCE.get(str(z.dtype), 1e-9) for z in (x, y))
        scale = np.max(np.abs(y[np.isfinite(y)]), initial=0.0) if y.size else 0.0
        if not np.allclose(x, y, rtol=tolerance, atol=tolerance * (1 + scale) / 10, equal_nan=True):
            return False
    return True


def judge(theirs: list[Any] | Exception, ours: list[Any] | Exception) -> str:
    """Return what a call is: right, refused, wrong, fails, or the error is CuPy's own."""
    if isinstance(ours, Exception):
        if UNSUPPORTED.search(str(ours)):
            return "refused"
        if isinstance(theirs, Exception):
            return "both raise"
        return "CuPy's error" if isinstance(ours, OWN) else "fails"
    if isinstance(theirs, Exception):
        return "beyond NumPy"
    return "right" if agree(ours, theirs) else "wrong"


def compare(path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield how each call of a function fares, and with which arguments."""
    module, host = importlib.import_module(path), importlib.import_module(MODULES[path])
    cupy = importlib.import_module("cupy")
    call = find_call(name, getattr(module, name))
    of_host = HOST.get(name, call)
    for dtype in DTYPES:
        for size in SIZES:
            x, y = make_arrays(dtype, size)
            ours = run(call, module, cupy.asarray(x), cupy.asarray(y))
            theirs = run(of_host, host, x, y)
            text = f": {str(ours).splitlines()[:1]}" if isinstance(ours, Exception) else ""
            yield judge(theirs, ours), f"{dtype}, size {size}{text}"


def compare_random(name: str) -> Iterator[tuple[str, str]]:
    """Yield whether samples of a distribution have the mean and the deviation of NumPy's."""
    size, samples = 20000, []
    for path in ("numpy.random", "cupy.random"):
        module = importlib.import_module(path)
        module.seed(1)
        sample = run(RANDOM_CALLS[name], module, size)
        if isinstance(sample, Exception):
            yield "fails", str(sample)
            return
        samples.append(sample[0].astype(float))
    theirs, ours = samples
    close = abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 8 * theirs.std(axis=0) / size**0.5
    ratio = ours.std(axis=0) / theirs.std(axis=0)
    is_right = np.all(close) and np.all((ratio > 0.8) & (ratio < 1.25))
    yield "right" if is_right else "wrong", "mean and deviation"


Known = dict[tuple[str, Any, Any], list[tuple[str, str]]]
"""What was compared, by name and functions: array_api_compat has most of them from CuPy."""


def compare_module(
    path: str, names: list[str], left_out: dict[str, set[str]], known: Known
) -> tuple[list[str], list[str]]:
    """Return a module's row of the table, and what is bad; add the names that are left out."""
    module, host = importlib.import_module(path), importlib.import_module(MODULES[path])
    verdicts, bad = defaultdict[str, Counter[str]](Counter), []
    for name in names or [name for name in dir(module) if not name.startswith("_")]:
        if not hasattr(module, name):
            continue
        if reason := find_reason(module, name):
            left_out[reason].add(name)
            continue
        print(path, name, file=sys.stderr)
        key = name, getattr(module, name), getattr(host, name, None)
        if key not in known:
            known[key] = [*(compare_random(name) if path.endswith("random") else compare(path, name))]
        for verdict, arguments in known[key]:
            is_explained = verdict == "wrong" and name in EXPLAINED
            verdicts[name]["explained" if is_explained else verdict] += 1
            if verdict in {"wrong", "fails"} and not is_explained:
                bad.append(f"{path}.{name}: {verdict}, {arguments}")
            elif names:
                print(f"{path}.{name}: {verdict}, {arguments}")
        if {*verdicts[name]} <= {"both raise", "beyond NumPy", "CuPy's error"}:
            bad.append(f"{path}.{name}: no call can be compared")
    refused = sorted(name for name, counts in verdicts.items() if counts["refused"])
    total = sum(verdicts.values(), Counter[str]())
    numbers = (
        len(verdicts),
        sum(total.values()),
        total["right"] + total["both raise"],
        *(total[kind] for kind in ("CuPy's error", "beyond NumPy", "explained")),
        total["wrong"] + total["fails"],
    )
    return [f"`{path}`", *map(str, numbers), ", ".join(refused)], bad


def main(words: list[str]) -> int:
    """Compare, print or write the table, and return the exit code."""
    try:
        emulation.install()
    except XPNetError as error:
        print(f"emulated_names: {error}", file=sys.stderr)
        return 2
    left_out = defaultdict[str, set[str]](set)
    known: Known = {}
    compared = [compare_module(path, words, left_out, known) for path in MODULES]
    columns = ["functions", "calls", "right", "CuPy refuses", "beyond NumPy", "CuPy differs", "wrong"]
    notes = [f"CuPy differs: `{name}` {reason}." for name, reason in EXPLAINED.items()]
    notes += [
        f"Left out, since they {reason}: {', '.join(f'`{name}`' for name in sorted(names))}."
        for reason, names in left_out.items()
    ]
    table = markdown(["", *columns, "not emulated"], [row for row, _ in compared])
    text = "\n\n".join([table, "\n".join(notes)])
    bad = [line for _, lines in compared for line in lines]
    print(text, *bad, sep="\n")
    if not words and PAGE.exists():
        write_part(PAGE, "names", text)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
