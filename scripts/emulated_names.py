"""Compare every name of CuPy on the emulated CUDA device with NumPy: the table of docs/emulated-cupy.md.

``python scripts/emulated_names.py [names]`` calls each function of ``MODULES`` with arrays of ``DTYPES`` and
``SIZES``, on the device and in NumPy; with names it prints how these fare, without writing. A call is right
if dtype apart both results agree, or both raise; it is refused if the error says what is not emulated.
``EXPLAINED`` has the differences that are CuPy's own. Random numbers agree in mean and deviation.

Exit codes: 0 no number is wrong and each failure has a reason; 1 not so; 2 there can be no device.
"""

import importlib
import inspect
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import checkout
import numpy as np
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
Call = Callable[[Any, Any, Any], Any]
TWO = [
    "arctan2",
    "atan2",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "copysign",
    "dot",
    "inner",
    "kron",
    "outer",
    "vdot",
    "maximum",
    "minimum",
    "power",
    "pow",
    "append",
    "array_equal",
    "array_equiv",
    "isin",
    "in1d",
    "intersect1d",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "allclose",
    "isclose",
    "vecdot",
    "may_share_memory",
    "shares_memory",
    "convolve",
    "correlate",
    "cov",
    "corrcoef",
]
CALLS: dict[str, Call] = {
    "apply_along_axis": lambda m, x, _: m.apply_along_axis(lambda row: row.sum(), 0, x),
    "apply_over_axes": lambda m, x, _: m.apply_over_axes(m.sum, x, [0]),
    "arange": lambda m, x, _: m.arange(x.size),
    "argsort": lambda m, x, _: x[m.argsort(x)],
    "unique_values": lambda m, x, _: m.sort(m.unique_values(x)),
    "left_shift": lambda m, x, y: m.left_shift(x, abs(y)),
    "bitwise_left_shift": lambda m, x, y: m.bitwise_left_shift(x, abs(y)),
    "poly": lambda m, x, _: m.poly(x[:9]),
    "argpartition": lambda m, x, _: x[m.argpartition(x, x.size // 2)][x.size // 2],
    "array_split": lambda m, x, _: m.array_split(x, 3),
    "average": lambda m, x, y: m.average(x, weights=m.abs(y) + 1),
    "bincount": lambda m, x, _: m.bincount(m.abs(x).astype(int) % 9),
    "broadcast_to": lambda m, x, _: m.broadcast_to(x, (3, x.size)),
    "choose": lambda m, x, y: m.choose((m.abs(x).astype(int) % 2), [x, y]),
    "clip": lambda m, x, _: m.clip(x, -1, 1),
    "compress": lambda m, x, y: m.compress(y != 0, x),
    "concat": lambda m, x, y: m.concat([x, y]),
    "concatenate": lambda m, x, y: m.concatenate([x, y]),
    "copyto": lambda m, x, y: _changed(x, lambda z: m.copyto(z, y)),
    "cross": lambda m, x, y: m.cross(x[:3], y[:3]),
    "delete": lambda m, x, _: m.delete(x, 0),
    "diag_indices": lambda m, x, _: m.diag_indices(x.size % 9 + 1),
    "diag_indices_from": lambda m, x, _: m.diag_indices_from(_square(x)),
    "digitize": lambda m, x, _: m.digitize(x, m.arange(-3.0, 3.0)),
    "einsum": lambda m, x, y: m.einsum("i,i->i", x, y),
    "expand_dims": lambda m, x, _: m.expand_dims(x, 0),
    "extract": lambda m, x, y: m.extract(y != 0, x),
    "eye": lambda m, x, _: m.eye(x.size % 9, dtype=x.dtype),
    "fill_diagonal": lambda m, x, _: _changed(_square(x), lambda z: m.fill_diagonal(z, 1)),
    "full": lambda m, x, _: m.full(x.shape, 3, dtype=x.dtype),
    "full_like": lambda m, x, _: m.full_like(x, 3),
    "histogram": lambda m, x, _: m.histogram(x, bins=4),
    "histogram2d": lambda m, x, y: m.histogram2d(x, y, bins=3),
    "histogramdd": lambda m, x, y: m.histogramdd((x, y), bins=3),
    "identity": lambda m, x, _: m.identity(x.size % 9, dtype=x.dtype),
    "indices": lambda m, x, _: m.indices((x.size % 9, 2)),
    "interp": lambda m, x, _: m.interp(x, m.asarray([-1.0, 0.0, 2.0]), m.asarray([5.0, 6.0, 3.0])),
    "ix_": lambda m, x, y: m.ix_(x != 0, y != 0),
    "lexsort": lambda m, x, y: m.lexsort(m.stack([x, y])),
    "linspace": lambda m, x, _: m.linspace(0, 1, x.size),
    "logspace": lambda m, x, _: m.logspace(0, 1, x.size),
    "mask_indices": lambda m, x, _: m.mask_indices(x.size % 9 + 1, m.triu),
    "moveaxis": lambda m, x, _: m.moveaxis(_square(x), 0, 1),
    "packbits": lambda m, x, _: m.packbits(x),
    "pad": lambda m, x, _: m.pad(x, 2),
    "partition": lambda m, x, _: m.partition(x, x.size // 2)[x.size // 2],
    "percentile": lambda m, x, _: m.percentile(x, 30),
    "piecewise": lambda m, x, _: m.piecewise(x, [x != 0], [1, 0]),
    "place": lambda m, x, y: _changed(x, lambda z: m.place(z, y != 0, y)),
    "polyadd": lambda m, x, y: m.polyadd(x[:9], y[:9]),
    "polyfit": lambda m, x, y: m.polyfit(x, y, 1),
    "polymul": lambda m, x, y: m.polymul(x[:9], y[:9]),
    "polysub": lambda m, x, y: m.polysub(x[:9], y[:9]),
    "polyval": lambda m, x, y: m.polyval(x[:3], y),
    "put": lambda m, x, y: _changed(x, lambda z: m.put(z, m.arange(x.size)[::2], y[::2])),
    "put_along_axis": lambda m, x, y: _changed(
        x, lambda z: m.put_along_axis(z, m.arange(x.size)[::-1], y, 0)
    ),
    "putmask": lambda m, x, y: _changed(x, lambda z: m.putmask(z, y != 0, y)),
    "quantile": lambda m, x, _: m.quantile(x, 0.3),
    "ravel_multi_index": lambda m, x, y: m.ravel_multi_index(
        (m.abs(x).astype(int) % 3, m.abs(y).astype(int) % 3), (3, 3)
    ),
    "repeat": lambda m, x, _: m.repeat(x, 2),
    "reshape": lambda m, x, _: m.reshape(x, (-1, 1)),
    "resize": lambda m, x, _: m.resize(x, (3, 4)),
    "roll": lambda m, x, _: m.roll(x, 2),
    "rollaxis": lambda m, x, _: m.rollaxis(_square(x), 1),
    "roots": lambda m, x, _: m.abs(m.roots(x[:3])),
    "searchsorted": lambda m, x, y: m.searchsorted(m.sort(x), y),
    "select": lambda m, x, y: m.select([x != 0], [y], 3),
    "split": lambda m, x, _: m.split(x, 1),
    "stack": lambda m, x, y: m.stack([x, y]),
    "swapaxes": lambda m, x, _: m.swapaxes(_square(x), 0, 1),
    "take": lambda m, x, _: m.take(x, m.arange(x.size)[::2]),
    "take_along_axis": lambda m, x, _: m.take_along_axis(x, m.arange(x.size)[::-1], 0),
    "tensordot": lambda m, x, y: m.tensordot(x, y, axes=1),
    "tile": lambda m, x, _: m.tile(x, 2),
    "tri": lambda m, x, _: m.tri(x.size % 9),
    "tril_indices": lambda m, x, _: m.tril_indices(x.size % 9),
    "triu_indices": lambda m, x, _: m.triu_indices(x.size % 9),
    "unpackbits": lambda m, x, _: m.unpackbits(m.abs(x).astype("uint8")),
    "unravel_index": lambda m, x, _: m.unravel_index(m.arange(x.size), (x.size, 1)),
    "vander": lambda m, x, _: m.vander(x[:9], 3),
    "where": lambda m, x, y: m.where(x != 0, x, y),
    "astype": lambda m, x, _: m.astype(x, x.real.dtype),
    "zeros": lambda m, x, _: m.zeros(x.shape, dtype=x.dtype),
    "ones": lambda m, x, _: m.ones(x.shape, dtype=x.dtype),
    "empty": lambda m, x, _: m.empty(x.shape, dtype=x.dtype).shape,
    "empty_like": lambda m, x, _: m.empty_like(x).shape,
    **{
        name: lambda m, x, _, name=name: getattr(m, name)(x.size % 60)
        for name in ("bartlett", "blackman", "hamming", "hanning", "fftfreq", "rfftfreq")
    },
    "kaiser": lambda m, x, _: m.kaiser(x.size % 60, 5.0),
    **{
        name: lambda m, x, _, name=name: getattr(m, name)(_square(x))
        for name in (
            *("diagonal", "fliplr", "flipud", "rot90", "trace", "transpose", "tril", "triu", "hsplit1"),
            *("matrix_transpose", "permute_dims1", "tril_indices_from", "triu_indices_from", "unstack"),
            *("fft2", "fftn", "ifft2", "ifftn", "irfft2", "irfftn", "rfft2", "rfftn"),
        )
    },
    "permute_dims": lambda m, x, _: m.permute_dims(_square(x), (1, 0)),
    **{name: lambda m, x, _, name=name: getattr(m, name)(_square(x), 1) for name in ("hsplit", "vsplit")},
    "dsplit": lambda m, x, _: m.dsplit(m.reshape(x, (-1, 1, 1)), 1),
    "matmul": lambda m, x, y: m.matmul(_square(x), _square(y)),
    "cholesky": lambda m, x, _: m.cholesky(_positive(x)),
    "cond": lambda m, x, _: m.cond(_positive(x)),
    "det": lambda m, x, _: m.det(_positive(x)),
    "eig": lambda m, x, _: _sorted(m.eig(_positive(x))[0]),
    "eigh": lambda m, x, _: m.eigh(_positive(x))[0],
    "eigvals": lambda m, x, _: _sorted(m.eigvals(_positive(x))),
    "eigvalsh": lambda m, x, _: m.eigvalsh(_positive(x)),
    "inv": lambda m, x, _: m.inv(_positive(x)),
    "lstsq": lambda m, x, _: m.lstsq(_positive(x), _positive(x)[0], rcond=None)[0],
    "matrix_power": lambda m, x, _: m.matrix_power(_positive(x), 3),
    "matrix_rank": lambda m, x, _: m.matrix_rank(_positive(x)),
    "norm": lambda m, x, _: m.norm(x),
    "pinv": lambda m, x, _: m.pinv(_positive(x)),
    "qr": lambda m, x, _: abs(m.qr(_positive(x))[1]),
    "slogdet": lambda m, x, _: tuple(m.slogdet(_positive(x))),
    "solve": lambda m, x, _: m.solve(_positive(x), _positive(x)[0]),
    "svd": lambda m, x, _: m.svd(_positive(x))[1],
    "tensorinv": lambda m, x, _: m.tensorinv(_positive(x), ind=1),
    "tensorsolve": lambda m, x, _: m.tensorsolve(_positive(x), _positive(x)[0]),
}
"""The calls with other arguments than one array, or than the two of ``TWO`` and of ufuncs."""
RANDOM: dict[str, tuple[Any, ...]] = {
    "beta": (2.0, 3.0),
    "binomial": (9, 0.3),
    "chisquare": (3.0,),
    "f": (5.0, 9.0),
    "gamma": (2.0, 1.5),
    "geometric": (0.3,),
    "hypergeometric": (9, 7, 5),
    "logseries": (0.6,),
    "negative_binomial": (4, 0.4),
    "noncentral_chisquare": (3.0, 1.0),
    "noncentral_f": (5.0, 12.0, 1.0),
    "pareto": (6.0,),
    "poisson": (3.0,),
    "power": (2.0,),
    "standard_gamma": (2.0,),
    "standard_t": (9.0,),
    "triangular": (-1.0, 0.5, 2.0),
    "vonmises": (0.5, 2.0),
    "wald": (1.0, 3.0),
    "weibull": (2.0,),
    "zipf": (5.0,),
    "randint": (0, 9),
    "random_integers": (0, 9),
    "exponential": (1.5,),
    **dict.fromkeys(("gumbel", "laplace", "logistic", "lognormal", "normal", "uniform"), ()),
    **dict.fromkeys(("rayleigh", "random", "random_sample", "ranf", "sample", "standard_exponential"), ()),
    **dict.fromkeys(("standard_normal", "choice"), ()),
    "choice": (9,),
}
"""The parameters of distributions that have mean and deviation."""
EXPLAINED = {
    "reciprocal": "of 0 in integers, which has no defined value",
    **dict.fromkeys(
        ("bartlett", "blackman", "hamming", "hanning", "kaiser"), "has a step that is rounded to float32"
    ),
    **dict.fromkeys(("nanstd", "nanvar"), "of no element is 0, not NaN"),
    **dict.fromkeys(("cumprod", "cumulative_prod", "nancumprod"), "of complex numbers overflows otherwise"),
    "vecdot": "of bool is int8, as `cupy.conj` makes it",
}
SKIPPED = re.compile(
    r"(array|asarray|asanyarray|ascontiguous|asfortran)?(array2string|array_repr|array_str)|base_repr|binary_repr|disp|"
    r"format_.*|from(DL|_dl).*|from(buffer|file|function|iter|string)|genfromtxt|get_.*|is_available|load|loadtxt|"
    r"memoize|fuse|print.*|safe_eval|save.*|set_.*|show_config|who|.*_memo|reset_states|seed|default_rng|bytes|"
    r"standard_cauchy|shuffle|byte_bounds|require|.*Result|[fi]info|asnumpy|can_cast|common_type|.*type.*|isdtype|"
    r"isfortran|isscalar|issubclass_|iterable|broadcast_shapes|clear_memo|(?:clear_memo)|sctype2char|make_aligned.*"
)
"""Names that compute no numbers: of types, text, files and settings."""


def _changed(x: Any, change: Callable[[Any], Any]) -> Any:
    copied = x.copy()
    change(copied)
    return copied


def _square(x: Any) -> Any:
    """Return a square matrix of the first elements, of 7 rows at most."""
    rows = min(7, int(x.size**0.5))
    return x[: rows * rows].reshape(rows, rows)


def _positive(x: Any) -> Any:
    """Return a Hermitian, positive definite matrix; its entries are floats unless complex."""
    rows = min(7, int(x.size**0.5))
    a = x[: rows * rows].reshape(rows, rows)
    a = a.astype(float) if a.dtype.kind in "bi" else a
    identity = a * 0
    identity.reshape(-1)[:: rows + 1] = 9
    return a @ a.conj().T + identity


def _sorted(x: Any) -> Any:
    return np.sort_complex(np.asarray(x.get() if hasattr(x, "get") else x))


def make_arrays(dtype: str, size: int) -> tuple[Any, Any]:
    """Return two arrays of NumPy, whose values are the same in each run."""
    generator = np.random.default_rng(size)

    def make() -> Any:
        x = generator.normal(0, 2, size)
        if dtype == "complex128":
            return x + 1j * generator.normal(0, 2, size)
        return (
            generator.integers(-9, 9, size)
            if dtype == "int64"
            else (x > 0 if dtype == "bool" else x.astype(dtype))
        )

    return make(), make()


def find_call(name: str, function: Any) -> Call:
    """Return how a function is called."""
    if name in CALLS:
        return CALLS[name]
    count = getattr(function, "nin", 2 if name in TWO else 1)
    return lambda m, x, y: getattr(m, name)(*(x, y)[:count])


def list_names(module: Any) -> list[str]:
    """Return the names of the functions of a module."""
    names = [name for name in dir(module) if not name.startswith("_")]
    return [
        name
        for name in names
        if callable(getattr(module, name)) and not inspect.isclass(getattr(module, name))
    ]


def flatten(value: Any) -> Iterator[Any]:
    """Yield the arrays of a result as NumPy's."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from flatten(each)
    elif value is not None:
        yield np.asarray(value.get() if hasattr(value, "get") else value)


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
        is_own = isinstance(
            ours, TypeError | ValueError | NotImplementedError | IndexError | AttributeError | ArithmeticError
        )
        return "right" if isinstance(theirs, Exception) else "CuPy's error" if is_own else "fails"
    if isinstance(theirs, Exception):
        return "beyond NumPy"
    return "right" if agree(ours, theirs) else "wrong"


def compare(path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield how each call of a function fares, and with which arguments."""
    module, host = importlib.import_module(path), importlib.import_module(MODULES[path])
    if not hasattr(host, name):
        return
    cupy = importlib.import_module("cupy")
    call = find_call(name, getattr(module, name))
    for dtype in DTYPES:
        for size in SIZES:
            x, y = make_arrays(dtype, size)
            ours = run(call, module, cupy.asarray(x), cupy.asarray(y))
            theirs = run(call, host, x, y)
            text = f": {str(ours).splitlines()[:1]}" if isinstance(ours, Exception) else ""
            yield judge(theirs, ours), f"{dtype}, size {size}{text}"


def compare_random(name: str) -> Iterator[tuple[str, str]]:
    """Yield whether samples of a distribution have the mean and the deviation of NumPy's."""
    size, words = 20000, RANDOM[name]
    samples = []
    for path in ("numpy.random", "cupy.random"):
        module = importlib.import_module(path)
        module.seed(1)
        sample = run(lambda m: getattr(m, name)(*words, size=size), module)
        if isinstance(sample, Exception):
            yield "fails", str(sample)
            return
        samples.append(sample[0].astype(float))
    theirs, ours = samples
    close = abs(ours.mean() - theirs.mean()) < 8 * theirs.std() / size**0.5
    yield "right" if close and 0.8 < ours.std() / theirs.std() < 1.25 else "wrong", "mean and deviation"


def main(words: list[str]) -> int:
    """Compare, print or write the table, and return the exit code."""
    try:
        emulation.install()
    except XPNetError as error:
        print(f"emulated_names: {error}", file=sys.stderr)
        return 2
    rows, bad = [], []
    for path in MODULES:
        verdicts: dict[str, Counter[str]] = defaultdict(Counter)
        for name in list_names(importlib.import_module(path)):
            if SKIPPED.fullmatch(name) or (words and name not in words):
                continue
            if path.endswith("random") and name not in RANDOM:
                continue
            print(path, name, file=sys.stderr)
            for verdict, arguments in (
                compare_random(name) if path.endswith("random") else compare(path, name)
            ):
                is_explained = verdict == "wrong" and name in EXPLAINED
                verdicts[name]["explained" if is_explained else verdict] += 1
                if verdict in {"wrong", "fails"} and not is_explained:
                    bad.append(f"{path}.{name}: {verdict}, {arguments}")
                elif words:
                    print(f"{path}.{name}: {verdict}, {arguments}")
        refused = sorted(name for name, counts in verdicts.items() if counts["refused"])
        total = sum(verdicts.values(), Counter())
        rows.append(
            [
                f"`{path}`",
                len(verdicts),
                sum(total.values()),
                total["right"],
                total["CuPy's error"],
                total["beyond NumPy"],
                total["explained"],
                total["wrong"] + total["fails"],
                ", ".join(refused),
            ]
        )
    notes = [f"CuPy differs: `{name}` {reason}." for name, reason in EXPLAINED.items()]
    columns = [
        "",
        "functions",
        "calls",
        "right",
        "CuPy refuses",
        "beyond NumPy",
        "CuPy differs",
        "wrong",
        "not emulated",
    ]
    table = "\n".join([markdown(columns, [[*map(str, row)] for row in rows]), "", *notes])
    print(table, *bad, sep="\n")
    if not words and PAGE.exists():
        write_part(PAGE, "names", table)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
