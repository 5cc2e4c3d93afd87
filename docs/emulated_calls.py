"""How ``emulated_names.py`` calls the names of CuPy, and which names it leaves out."""

import io
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[Any, Any, Any], Any]
"""A call of a name of a module, with two of its arrays: module, x, y."""
TWO = [
    *(
        "arctan2",
        "atan2",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "copysign",
        "maximum",
        "minimum",
        "power",
    ),
    *("pow", "dot", "inner", "kron", "outer", "vdot", "vecdot", "convolve", "correlate", "cov", "corrcoef"),
    *(
        "append",
        "array_equal",
        "array_equiv",
        "allclose",
        "isclose",
        "isin",
        "in1d",
        "intersect1d",
        "setdiff1d",
    ),
    *("setxor1d", "union1d", "may_share_memory", "shares_memory", "common_type", "result_type"),
]
"""Functions of two arrays, beside the ufuncs of two."""


def _combine(a: Any, b: Any) -> Any:
    return a * b + b


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
    a = _square(x)
    a = a.astype(float) if a.dtype.kind in "bi" else a
    identity = a * 0
    identity.reshape(-1)[:: len(a) + 1] = 9
    return a @ a.conj().T + identity


def _sorted(x: Any) -> Any:
    return np.sort_complex(np.asarray(x.get() if hasattr(x, "get") else x))


def _written(write: Callable[[Any], Any]) -> Any:
    """Return what a function writes into a file, its bytes."""
    file = io.BytesIO()
    write(file)
    return np.frombuffer(file.getvalue(), np.uint8)


def _read_file(m: Any, x: Any) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        file.write(x.tobytes())
        file.flush()
        return m.fromfile(file.name, dtype=x.dtype)


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
    "choose": lambda m, x, y: m.choose(m.abs(x).astype(int) % 2, m.stack([x, y])),
    "column_stack": lambda m, x, y: m.column_stack((x, y)),
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
    "take_along_axis": lambda m, x, _: m.take_along_axis(x, m.arange(x.size)[::-1], axis=0),
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
            *("diagonal", "fliplr", "flipud", "rot90", "trace", "transpose", "tril", "triu"),
            *("matrix_transpose", "tril_indices_from", "triu_indices_from", "unstack"),
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
    "broadcast": lambda m, x, y: m.broadcast(x, y).shape,
    "broadcast_shapes": lambda m, x, _: m.broadcast_shapes(x.shape, (3, 1)),
    "byte_bounds": lambda m, x, _: m.byte_bounds(x)[1] - m.byte_bounds(x)[0],
    "c_": lambda m, x, y: m.c_[x, y],
    "can_cast": lambda m, x, _: m.can_cast(x.dtype, "float32"),
    "finfo": lambda m, x, _: float(m.finfo(x.dtype).eps),
    "frombuffer": lambda m, x, _: m.frombuffer(x.tobytes(), dtype=x.dtype),
    "fromfile": lambda m, x, _: _read_file(m, x),
    "fromfunction": lambda m, x, _: m.fromfunction(lambda i: 2 * i, x.shape),
    "fromiter": lambda m, x, _: m.fromiter(range(x.size), float),
    "fromstring": lambda m, *_: m.fromstring("1 2 3", sep=" "),
    "fuse": lambda m, x, y: m.fuse(_combine)(x, y),
    "genfromtxt": lambda m, *_: m.genfromtxt(io.StringIO("1 2\n3 4")),
    "iinfo": lambda m, x, _: m.iinfo(x.dtype).max,
    "fromDlpack": lambda m, x, _: m.fromDlpack(x.toDlpack()),
    "load": lambda m, x, _: m.load(io.BytesIO(_written(lambda file: m.save(file, x)).tobytes())),
    "loadtxt": lambda m, *_: m.loadtxt(io.StringIO("1 2\n3 4")),
    "mgrid": lambda m, x, _: m.mgrid[0 : x.size % 9, 0:3],
    "min_scalar_type": lambda m, x, _: str(m.min_scalar_type(x)),
    "ogrid": lambda m, x, _: m.ogrid[0 : x.size % 9, 0:3],
    "poly1d": lambda m, x, y: m.poly1d(x[:4])(y),
    "r_": lambda m, x, y: m.r_[x, y],
    "save": lambda m, x, _: _written(lambda file: m.save(file, x)),
    "savetxt": lambda m, x, _: _written(lambda file: m.savetxt(file, x)),
    "savez": lambda m, x, _: _written(lambda file: m.savez(file, x)),
    "savez_compressed": lambda m, x, _: _written(lambda file: m.savez_compressed(file, x)),
    "vectorize": lambda m, x, y: m.vectorize(_combine)(x, y),
}
"""Calls with other arguments than one array, or than the two of ``TWO`` and of ufuncs."""
HOST: dict[str, Call] = {
    "alltrue": lambda m, x, _: m.all(x),
    "asfarray": lambda _, x, __: x.real.astype(float),  # as in NumPy 1
    "asnumpy": lambda _, x, __: x,
    "byte_bounds": lambda _, x, __: x.nbytes,
    "cumproduct": lambda m, x, _: m.cumprod(x),
    "fuse": lambda _, x, y: _combine(x, y),
    "in1d": lambda m, x, y: m.isin(x, y),
    "msort": lambda m, x, _: m.sort(x, axis=0),
    "product": lambda m, x, _: m.prod(x),
    "round_": lambda m, x, _: m.round(x),
    "sometrue": lambda m, x, _: m.any(x),
    "trapz": lambda m, x, _: m.trapezoid(x),
    "fromDlpack": lambda _, x, __: x,
}
"""What NumPy computes in place of a name that it does not have."""
RANDOM: dict[str, tuple[Any, ...]] = {
    "beta": (2.0, 3.0),
    "binomial": (9, 0.3),
    "chisquare": (3.0,),
    "choice": (9,),
    "dirichlet": ((1.0, 2.0),),
    "exponential": (1.5,),
    "f": (5.0, 9.0),
    "gamma": (2.0, 1.5),
    "geometric": (0.3,),
    "hypergeometric": (9, 7, 5),
    "logseries": (0.6,),
    "multinomial": (9, (0.2, 0.8)),
    "multivariate_normal": ((1.0, 2.0), ((2.0, 0.5), (0.5, 1.0))),
    "negative_binomial": (4, 0.4),
    "noncentral_chisquare": (3.0, 1.0),
    "noncentral_f": (5.0, 12.0, 1.0),
    "pareto": (6.0,),
    "poisson": (3.0,),
    "power": (2.0,),
    "randint": (0, 9),
    "random_integers": (0, 9),
    "standard_gamma": (2.0,),
    "standard_t": (9.0,),
    "triangular": (-1.0, 0.5, 2.0),
    "vonmises": (0.5, 2.0),
    "wald": (1.0, 3.0),
    "weibull": (2.0,),
    "zipf": (5.0,),
    **dict.fromkeys(("gumbel", "laplace", "logistic", "lognormal", "normal", "rayleigh", "uniform"), ()),
    **dict.fromkeys(
        ("random", "random_sample", "ranf", "sample", "standard_exponential", "standard_normal"), ()
    ),
}
"""The parameters of distributions that have mean and deviation."""
RANDOM_CALLS: dict[str, Callable[[Any, int], Any]] = {
    "bytes": lambda m, size: np.frombuffer(m.bytes(size), np.uint8),
    "default_rng": lambda m, size: m.default_rng(1).random(size),
    "permutation": lambda m, size: m.permutation(size),
    "rand": lambda m, size: m.rand(size),
    "randn": lambda m, size: m.randn(size),
    "shuffle": lambda m, size: _changed(m.randint(0, 9, size), m.shuffle),
    "standard_cauchy": lambda m, size: abs(m.standard_cauchy(size)) < 1,  # which has no mean itself
    **{
        name: lambda m, size, name=name, words=words: getattr(m, name)(*words, size=size)
        for name, words in RANDOM.items()
    },
}
"""Calls of random functions, for samples of a size."""
EXPLAINED = {
    "reciprocal": "of 0 in integers, which has no defined value",
    **dict.fromkeys(
        ("bartlett", "blackman", "hamming", "hanning", "kaiser"), "has a step that is rounded to float32"
    ),
    **dict.fromkeys(("nanstd", "nanvar"), "of no element is 0, not NaN"),
    **dict.fromkeys(
        ("cumprod", "cumproduct", "cumulative_prod", "nancumprod"), "of complex numbers overflows otherwise"
    ),
    "vecdot": "of bool is int8, as `cupy.conj` makes it",
}
"""What CuPy computes otherwise than NumPy, on a card too."""
LEFT_OUT = {
    "set up CuPy or describe it": (
        "clear_memo get_array_module get_array_wrap get_default_memory_pool get_default_pinned_memory_pool "
        "is_available memoize show_config"
    ),
    "name what other functions return": "UniqueAllResult UniqueCountsResult UniqueInverseResult",
    "set the state of generators": "get_random_state reset_states seed set_random_state",
    "print numbers, or set how": (
        "base_repr binary_repr disp format_float_positional format_float_scientific get_printoptions "
        "printoptions set_printoptions set_string_function who"
    ),
    "tell of types": (
        "find_common_type isdtype issctype issubclass_ issubdtype issubsctype make_aligned_dtype mintypecode "
        "obj2sctype promote_types safe_eval sctype2char typename"
    ),
}
"""Names that compute no array and no number, with the reason."""
