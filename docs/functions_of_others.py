"""Functions of scikit-learn, SciPy and array-api-extra on rp.Array: one SHA-256 on every library and kernel.

``python docs/functions_of_others.py`` computes each on rp.Array of NumPy, PyTorch, JAX, array-api-strict,
of NumPy with OpenBLAS's kernels for other processors, and on plain NumPy and PyTorch; it writes the tables of
docs/functions-of-others.md. ``--digests LIBRARY ...`` prints those of these libraries as JSON,
and ``--check LIBRARY`` ends with 1 unless they are those of the table.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # SciPy reads it when it is imported

import numpy as np
import sklearn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from checkout import ROOT, need_own
from numpy.typing import NDArray
from others.calls import CALLS, LEAVING, Call
from shared import markdown, write_part
from sklearn.datasets import load_breast_cancer

import xpnet.reproducible as rp
from xpnet.backends.resolve import make

LIBRARIES = ("numpy", "torch", "jax", "array-api-strict")
KERNELS = ("Nehalem", "Haswell")
SIGNS = ("sklearn LinearDiscriminantAnalysis",)
"""Those with singular vectors whose signs nobody fixes: differences are those of magnitudes."""
PAGE = ROOT / "docs" / "functions-of-others.md"
YES = {True: "yes", False: "no"}


def arrays_in(value: Any) -> Iterator[NDArray[Any]]:
    """Yield all numbers of a result, in order, as arrays of NumPy: outputs, named ones, fitted attributes."""
    if value is None or isinstance(value, str):
        return
    if isinstance(value, Mapping):
        value = [*value.values()]
    elif isinstance(value, sklearn.base.BaseEstimator):
        value = [part for name, part in vars(value).items() if name.endswith("_")]
    if isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)
    else:
        yield np.asarray(value)


def results(library: str, calls: Mapping[str, Call], *, plain: bool = False) -> dict[str, list[NDArray[Any]]]:
    """Return the numbers of each call on rp.Array of a library, or on its own arrays: none if that fails."""
    data, backend = load_breast_cancer(), make(library, "cpu")

    def put(values: NDArray[Any]) -> Any:
        array = backend.from_host(values)
        return array if plain else rp.asarray(array)

    found = {}
    with sklearn.config_context(array_api_dispatch=True), warnings.catch_warnings(action="ignore"):
        for name, call in calls.items():
            x, y = put(data.data[:300, :10].copy()), put(data.target[:300].copy())
            try:
                found[name] = [*arrays_in(call(x, y))]
            except (ValueError, TypeError, AttributeError):
                if not plain:
                    raise
                found[name] = []  # PyTorch has no negative steps
    return found


def digest(arrays: Sequence[NDArray[Any]]) -> str:
    """Return the SHA-256 of numbers as float64, and of their shapes; of a NaN, the bits of NumPy's."""
    hashed = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array, dtype=np.float64)
        values = np.where(np.isnan(values), np.nan, values)
        hashed.update(repr(array.shape).encode() + values.astype("<f8").tobytes())
    return hashed.hexdigest()


def digests(libraries: Sequence[str], *, plain: bool = False) -> dict[str, dict[str, str]]:
    """Return the digest of each call, by library."""
    calls = CALLS | {name: call for name, (call, _) in LEAVING.items()}
    return {
        library: {name: digest(arrays) for name, arrays in results(library, calls, plain=plain).items()}
        for library in libraries
    }


def digests_with(kernel: str, *, plain: bool = False) -> dict[str, str]:
    """Return those on NumPy, in a process with kernels of OpenBLAS for another processor."""
    variables = {"OPENBLAS_CORETYPE": kernel}
    if kernel == "Nehalem":
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(np.show_config("dicts")["SIMD Extensions"]["found"])
    words = [sys.executable, "-W", "ignore", __file__, "--digests", "numpy", *["--plain"] * plain]
    run = subprocess.run(
        words, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)["numpy"]


def difference(name: str, actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Return the largest difference of two results of a call, relative to the largest number of its array."""
    worst = 0.0
    for pair in zip(actual, expected, strict=True):
        one, other = (np.asarray(each, dtype=np.float64) for each in pair)
        if name in SIGNS:
            one, other = abs(one), abs(other)
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            return np.inf
        if (apart := np.nan_to_num(abs(one - other))).any():
            worst = max(worst, float(apart.max() / np.nanmax(abs(other))))
    return worst


def differences() -> dict[str, float]:
    """Return the difference of each call's results on rp.Array and on plain arrays of NumPy."""
    ours, theirs = results("numpy", CALLS), results("numpy", CALLS, plain=True)
    return {name: difference(name, ours[name], theirs[name]) for name in CALLS}


def compute() -> dict[str, str]:
    """Return the tables of the page, by the name of their marks."""
    own = digests(LIBRARIES) | {kernel: digests_with(kernel) for kernel in KERNELS}
    plain = digests(("numpy", "torch"), plain=True) | {"Nehalem": digests_with("Nehalem", plain=True)}
    apart = differences()
    rows = []
    for name in CALLS:
        found = {each[name] for each in own.values()}
        same = [YES[plain["numpy"][name] == plain[each][name]] for each in ("torch", "Nehalem")]
        rtol = f"{apart[name]:.0e}" if apart[name] else "equal"
        rows.append([f"`{name}`", *(each[:12] for each in found), rtol, *same])
    counts = [sum(row[column] == "yes" for row in rows) for column in (3, 4)]
    rows.append([f"{len(CALLS)} functions", "", "", *(f"{count} yes" for count in counts)])
    head = [
        "function",
        "SHA-256 on all",
        "beside plain NumPy",
        "plain NumPy = PyTorch",
        "plain NumPy = Nehalem's",
    ]
    leaving = [
        [f"`{name}`", reason, YES[len({each[name] for each in own.values()}) == 1]]
        for name, (_, reason) in LEAVING.items()
    ]
    return {
        "functions": markdown(head, rows),
        "leaving": markdown(["function", "goes on in", "one SHA-256 here"], leaving, other_columns="---"),
    }


def main() -> None:
    """Print or compare digests, or write the tables of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--digests", nargs="+", choices=LIBRARIES, help="print those of these libraries as JSON"
    )
    parser.add_argument("--check", choices=LIBRARIES, help="compare those of this library with the table")
    parser.add_argument("--plain", action="store_true", help="of plain arrays in place of rp.Array")
    options = parser.parse_args()
    if options.digests:
        print(json.dumps(digests(options.digests, plain=options.plain)))
        return
    if options.check:
        text = PAGE.read_text(encoding="utf-8")
        shown = dict(re.findall(r"^\| `([^`]+)` \| ([0-9a-f]{12}) \|", text, re.MULTILINE))
        found = {name: digest(arrays)[:12] for name, arrays in results(options.check, CALLS).items()}
        differing = sorted(name for name in CALLS if found[name] != shown.get(name))
        print(
            f"{len(found)} functions, {len(differing)} with another digest than the table's",
            *differing,
            sep="\n",
        )
        sys.exit(1 if differing else 0)
    for name, table in compute().items():
        write_part(PAGE, name, table)


if __name__ == "__main__":
    need_own()
    main()
