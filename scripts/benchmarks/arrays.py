"""Times on rp.Array beside plain NumPy: operators, sums, linear algebra, functions of scikit-learn and SciPy.

``OMP_NUM_THREADS=1 python -m benchmarks.arrays``, in scripts/, prints the tables of docs/arrays.md, and with
``--write`` puts them there. None of the functions of scikit-learn and SciPy needs linear algebra.
"""

import operator
import os
import statistics
import sys
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("SCIPY_ARRAY_API", "1")

import array_api_compat
import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy import special, stats
from scipy.cluster import vq
from shared import write_part
from sklearn import metrics, preprocessing
from sklearn.metrics import pairwise
from sklearn.naive_bayes import GaussianNB

import xpnet.reproducible as rp

Call = Callable[..., Any]
"""A function of samples, (samples, features), and labels 0 and 1, or of two arrays."""

ROUNDS = 5
LEAST = 0.005
"""Seconds that a measurement takes at least."""


def fitted(estimator: Any, method: str = "transform") -> Call:
    """Return the call that fits an estimator and applies it."""
    return lambda x, y: getattr(sklearn.clone(estimator).fit(x, y), method)(x)


CALLS: dict[str, Call] = {
    "GaussianNB.predict": fitted(GaussianNB(), "predict"),
    "GaussianNB.predict_proba": fitted(GaussianNB(), "predict_proba"),
    "StandardScaler": fitted(preprocessing.StandardScaler()),
    "MinMaxScaler": fitted(preprocessing.MinMaxScaler()),
    "MaxAbsScaler": fitted(preprocessing.MaxAbsScaler()),
    "Normalizer, l2": fitted(preprocessing.Normalizer()),
    "Normalizer, l1": fitted(preprocessing.Normalizer("l1")),
    "Binarizer": fitted(preprocessing.Binarizer(threshold=0.7)),
    "KernelCenterer": lambda x, _: preprocessing.KernelCenterer().fit_transform(x[:64, :30] @ x[:64, :30].T),
    "LabelEncoder": lambda _, y: preprocessing.LabelEncoder().fit_transform(y),
    "scale": lambda x, _: preprocessing.maxabs_scale(x),
    "mean_squared_error": lambda x, _: metrics.mean_squared_error(x[:, 0], x[:, 1]),
    "root_mean_squared_error": lambda x, _: metrics.root_mean_squared_error(x[:, 0], x[:, 1]),
    "mean_absolute_error": lambda x, _: metrics.mean_absolute_error(x[:, 0], x[:, 1]),
    "mean_absolute_percentage_error": lambda x, _: metrics.mean_absolute_percentage_error(x[:, 0], x[:, 1]),
    "mean_squared_log_error": lambda x, _: metrics.mean_squared_log_error(x[:, 0], x[:, 1]),
    "mean_tweedie_deviance": lambda x, _: metrics.mean_tweedie_deviance(x[:, 0], x[:, 1], power=1.5),
    "mean_gamma_deviance": lambda x, _: metrics.mean_gamma_deviance(x[:, 0], x[:, 1]),
    "d2_tweedie_score": lambda x, _: metrics.d2_tweedie_score(x[:, 0], x[:, 1], power=1.5),
    "r2_score": lambda x, _: metrics.r2_score(x[:, 0], x[:, 1]),
    "explained_variance_score": lambda x, _: metrics.explained_variance_score(x[:, 0], x[:, 1]),
    "max_error": lambda x, _: metrics.max_error(x[:, 0], x[:, 1]),
    "mean_pinball_loss": lambda x, _: metrics.mean_pinball_loss(x[:, 0], x[:, 1]),
    "accuracy_score": lambda _, y: metrics.accuracy_score(y, y),
    "zero_one_loss": lambda _, y: metrics.zero_one_loss(y, y),
    "f1_score": lambda _, y: metrics.f1_score(y, y),
    "log_loss": lambda x, y: metrics.log_loss(y, x[:, 0] / 300.0),
    "brier_score_loss": lambda x, y: metrics.brier_score_loss(y, x[:, 0] / 300.0),
    "confusion_matrix": lambda _, y: metrics.confusion_matrix(y, y),
    "paired_euclidean_distances": lambda x, _: pairwise.paired_euclidean_distances(x, x[:, :]),
    "chi2_kernel, 100 rows": lambda x, _: pairwise.additive_chi2_kernel(x[:100, :]),
    "cosine_similarity, 100 rows": lambda x, _: pairwise.cosine_similarity(x[:100, :]),
    "euclidean_distances, 100 rows": lambda x, _: pairwise.euclidean_distances(x[:100, :]),
    "rbf_kernel, 100 rows": lambda x, _: pairwise.rbf_kernel(x[:100, :]),
    "polynomial_kernel, 100 rows": lambda x, _: pairwise.polynomial_kernel(x[:100, :]),
    "stats.zscore": lambda x, _: stats.zscore(x, axis=0),
    "stats.skew": lambda x, _: stats.skew(x, axis=0),
    "stats.kurtosis": lambda x, _: stats.kurtosis(x, axis=0),
    "stats.moment": lambda x, _: stats.moment(x, 3, axis=0),
    "stats.variation": lambda x, _: stats.variation(x, axis=0),
    "stats.sem": lambda x, _: stats.sem(x, axis=0),
    "stats.gmean": lambda x, _: stats.gmean(x, axis=0),
    "stats.hmean": lambda x, _: stats.hmean(x, axis=0),
    "stats.pmean": lambda x, _: stats.pmean(x, 3, axis=0),
    "stats.describe": lambda x, _: stats.describe(x, axis=0),
    "stats.tmean": lambda x, _: stats.tmean(x, (0.6, 4.0), axis=0),
    "stats.tvar": lambda x, _: stats.tvar(x, (0.6, 4.0), axis=0),
    "stats.tstd": lambda x, _: stats.tstd(x, (0.6, 4.0), axis=0),
    "stats.tmin": lambda x, _: stats.tmin(x, 0.6, axis=0),
    "stats.tmax": lambda x, _: stats.tmax(x, 4.0, axis=0),
    "stats.gstd": lambda x, _: stats.gstd(x, axis=0),
    "stats.ttest_1samp": lambda x, _: stats.ttest_1samp(x, 1.0, axis=0).statistic,
    "stats.kstat": lambda x, _: stats.kstat(x[:, 0], 3),
    "special.logsumexp": lambda x, _: special.logsumexp(x, axis=1),
    "special.softmax": lambda x, _: special.softmax(x, axis=1),
    "special.log_softmax": lambda x, _: special.log_softmax(x, axis=1),
    "vq.whiten": lambda x, _: vq.whiten(x),
}
SHAPES = ((1797, 64), (20_000, 30))
OPERATORS: dict[str, Call] = {
    "`x + y`": lambda x, y: x + y,
    "`x * y`": lambda x, y: x * y,
    "`x / y`": lambda x, y: x / y,
    "`x < y`": lambda x, y: x < y,
    "`x + 1.5`": lambda x, _: x + 1.5,
    "`x ** 2`": lambda x, _: x**2,
    "`-x`": lambda x, _: -x,
    "`x // y`": lambda x, y: x // y,
    "`x += y`": operator.iadd,
}
SIZES = (1, 10_001, 20_000, 115_008, 600_000)


def space(array: Any) -> Any:
    """Return the namespace of an array."""
    return array_api_compat.array_namespace(array)


def own(name: str) -> Callable[..., Any]:
    """Return a function of the namespace of its first argument."""
    return lambda *args: getattr(space(args[0]), name)(*args)


OTHERS: dict[str, tuple[Any, ...]] = {
    "`sum` of 10 numbers": (own("sum"), 10),
    "a matrix times a vector, n = 2,000": (own("matmul"), (2000, 2000), 2000),
    "a product of matrices, 64 × 1,797 × 64": (own("matmul"), (64, 1797), (1797, 64)),
    **{f"`{name}` of 115,008 numbers": (own(name), 115_008) for name in ("exp", "log", "sin", "tanh")},
}
LINEAR: dict[str, Call] = {
    "`cholesky`": lambda _, a, __: space(a).linalg.cholesky(a),
    "`solve`, 3 columns": lambda a, _, b: space(a).linalg.solve(a, b),
    "`inv`": lambda a, *_: space(a).linalg.inv(a),
    "`qr`": lambda a, *_: space(a).linalg.qr(a),
    "`eigh`": lambda _, a, __: space(a).linalg.eigh(a),
    "`eigvalsh`": lambda _, a, __: space(a).linalg.eigvalsh(a),
    "`svd`": lambda a, *_: space(a).linalg.svd(a),
    "`svdvals`": lambda a, *_: space(a).linalg.svdvals(a),
}
"""Functions of a matrix, one that is positive definite, and three columns."""
LENGTHS = (10, 50, 200, 500)
PAGE = Path(__file__).parents[2] / "docs" / "arrays.md"
BETWEEN = "Functions of scikit-learn and SciPy that need no linear algebra, of samples × features:"


def samples(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return positive numbers, and labels."""
    generator = np.random.default_rng(0)
    return np.abs(generator.normal(size=shape)) + 0.5, generator.integers(0, 2, shape[0])


def measure(function: Call, *arrays: NDArray[Any]) -> tuple[float, float]:
    """Return the seconds of a processor on NumPy and on rp.Array, the shortest of several that alternate."""
    wrapped = [rp.asarray(x.copy()) for x in arrays]
    timers = [
        timeit.Timer(lambda args=args: function(*args), timer=time.process_time) for args in (arrays, wrapped)
    ]
    first = min(timers[0].repeat(2, 1))
    number = max(int(LEAST / first), 1)
    rounds = [[timer.timeit(number) for timer in timers] for _ in range(ROUNDS)]
    plain, ours = map(min, zip(*rounds, strict=True))
    return plain / number, ours / number


def ratio(function: Call, *arrays: NDArray[Any]) -> float:
    """Return the time on rp.Array over that on NumPy."""
    plain, ours = measure(function, *arrays)
    return ours / plain


def rows_of_operations() -> Iterator[str]:
    """Yield the rows of the table of operators, products and sums."""
    generator = np.random.default_rng(0)
    yield f"| | {' | '.join(f'{size:,}' for size in SIZES)} |"
    yield f"|---|{'---:|' * len(SIZES)}"
    for name, function in OPERATORS.items():
        ratios = [ratio(function, *generator.normal(size=(2, size))) for size in SIZES]
        yield f"| {name} | {' | '.join(f'{each:.1f}' for each in ratios)} |"
    yield ""
    yield "| | |"
    yield "|---|---:|"
    for name, (call, *shapes) in OTHERS.items():
        yield f"| {name} | {ratio(call, *(np.abs(generator.normal(size=shape)) for shape in shapes)):.0f} |"


def rows_of_functions() -> Iterator[str]:
    """Yield the rows of the table of functions, two to a row, and their medians."""
    warnings.simplefilter("ignore")
    yield "| function | 1,797 × 64 | 20,000 × 30 | function | 1,797 × 64 | 20,000 × 30 |"
    yield "|---|---:|---:|---|---:|---:|"
    with sklearn.config_context(array_api_dispatch=True):
        ratios = {name: [ratio(call, *samples(shape)) for shape in SHAPES] for name, call in CALLS.items()}
    medians = [statistics.median(column) for column in zip(*ratios.values(), strict=True)]
    ratios[f"median of {len(ratios)}"] = medians
    cells = [f"{name} | {small:.1f} | {large:.1f}" for name, (small, large) in ratios.items()]
    for pair in zip(cells[::2], cells[1::2], strict=True):
        yield f"| {' | '.join(pair)} |"


def rows_of_linear_algebra() -> Iterator[str]:
    """Yield the rows of the table of linear algebra: milliseconds, and times LAPACK's."""
    yield f"| n | {' | '.join(map(str, LENGTHS))} | NumPy (LAPACK), {LENGTHS[-1]} |"
    yield f"|---|{'---:|' * (len(LENGTHS) + 1)}"
    generator = np.random.default_rng(0)
    for name, function in LINEAR.items():
        cells = []
        for n in LENGTHS:
            a, b = generator.normal(size=(n, n)), generator.normal(size=(n, 3))
            plain, ours = measure(function, a, np.tril(a) @ np.tril(a).T + n * np.eye(n), b)
            cells.append(f"{in_digits(ours * 1e3)} ({ours / plain:.0f} ×)")
        yield f"| {name} | {' | '.join(cells)} | {in_digits(plain * 1e3)} |"


def in_digits(number: float) -> str:
    """Return a number with two digits, or all before the point."""
    return f"{number:,.0f}" if number >= 10 else f"{number:#.2g}"


def main() -> None:
    """Print the tables, or write them to the page."""
    tables = {
        "costs": "\n".join([*rows_of_operations(), "", BETWEEN, "", *rows_of_functions(), ""]),
        "linear algebra": "\n".join(rows_of_linear_algebra()),
    }
    for name, text in tables.items():
        if "--write" in sys.argv:
            write_part(PAGE, name, text)
        else:
            print(text)


if __name__ == "__main__":
    main()
