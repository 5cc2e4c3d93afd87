"""Calls of rp.Array whose bits are compared: ``python array_calls.py`` prints the digest of all on NumPy."""

import hashlib
import math

import numpy as np

import xpnet.reproducible as rp

COUNT = 4000
SPECIAL = [0.0, math.inf, math.nan, 1.0, 2.0, 0.5, 5e-324, 1e-310, 2.0**-1022, 1.7e308, 745.2, 1e22]
SPECIAL += [709.7, *(-x for x in SPECIAL)]


def _numbers(seed):
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], COUNT)
    a = np.meshgrid(SPECIAL, SPECIAL)[seed].ravel()
    normal = np.ldexp(generator.normal(size=COUNT), generator.integers(-60, 61, COUNT))
    ties = generator.integers(-9, 9, COUNT) * 0.5
    wide = np.ldexp(signs * generator.uniform(1, 2, COUNT), generator.integers(-1074, 1024, COUNT))
    return np.concatenate([normal, ties, wide, generator.uniform(-2, 2, COUNT), a])


X, Y = _numbers(0), _numbers(1)
"""Numbers of all magnitudes, and all pairs of special values."""
FUNCTIONS = {
    1: """abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log log10
    log1p log2 logical_not negative positive reciprocal round sign signbit sin sinh sqrt square tan tanh
    trunc""",
    2: """add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal logaddexp
    logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder subtract""",
}
"""Elementwise functions, by the number of their arguments."""


def _results(xp, x, y):
    tame, of_y = (xp.where(xp.isfinite(each) & (xp.abs(each) < 1e100), each, 1.0) for each in (x, y))
    left, other = xp.reshape(tame[:1200], (40, 30)), xp.reshape(of_y[:1200], (40, 30))
    right, special = xp.reshape(of_y[1200:2400], (30, 40)), x[-500:]
    single, ties = xp.astype(tame, xp.float32), xp.floor(tame[2000:6000] * 3.0)
    integers, bits = xp.astype(ties, xp.int64), ("int8", "int32", "int64", "uint8", "bool", "float32")
    for count, names in FUNCTIONS.items():
        for name in names.split():
            yield name, [getattr(xp, name)(*(x, y)[:count])]
    yield "float32 functions", [function(single) for function in (xp.exp, xp.sin, xp.log1p, xp.tanh)]
    yield "float32 operators", [single / 3.0, single * xp.astype(of_y, xp.float32), single + 0.1]
    yield "quotients", [1.0 / x, xp.reshape(x[:4000], (40, 100)) / y[:100]]
    yield "x ** n", [x**3, 2.0 ** xp.clip(x, -50, 50), abs(x) ** 0.5]
    yield "sums", [xp.sum(tame), xp.sum(left, axis=1), xp.mean(left, axis=0), xp.std(tame[:999])]
    yield "variances", [xp.var(left, axis=0, correction=1), xp.cumulative_sum(tame[:500])]
    yield "products", [xp.prod(x[:50]), xp.prod(left * 0.1, axis=0), xp.cumulative_prod(x[4000:4100])]
    yield "matmul", [left @ right, left @ of_y[:30], xp.tensordot(left, right, axes=1)]
    yield "matmul of huge and tiny", [xp.matmul(left * 2.0**600, right * 2.0**-700), xp.vecdot(left, other)]
    yield "maxima", [xp.max(x[:4000]), xp.max(xp.reshape(special, (50, 10)), axis=1), xp.max(x[-3:] * 0.0)]
    yield "argmax", [xp.argmax(ties), xp.argmax(special), xp.argmin(xp.reshape(ties, (400, 10)), axis=1)]
    yield "sort", [xp.sort(x), xp.sort(x, descending=True), xp.argsort(ties), xp.min(x)]
    yield "argsort", [xp.argsort(ties, descending=True, stable=False)]
    yield "unique", [*xp.unique_all(ties), xp.unique_values(special), *xp.unique_inverse(ties)]
    yield "searchsorted", [xp.searchsorted(xp.sort(ties), of_y, side=side) for side in ("left", "right")]
    yield "linspace", [xp.linspace(-1.0, 3.0, 1000), xp.arange(0.0, 7.0, 0.1)]
    yield "clip", [xp.clip(x, -1.0, 1.0), xp.clip(x, y, None), xp.where(x > y, x, 0)]
    yield "diff", [xp.diff(tame), xp.diff(left, axis=0, n=2)]
    yield "integers", [integers // 7, integers % -7, integers << 2, abs(integers) ** 3, integers / 3]
    yield "conversions", [xp.astype(x, getattr(xp, name)) for name in bits]
    yield "integer sums", [xp.sum(integers), xp.prod(integers[:90]), xp.mean(integers)]


def digest(results):
    whole = hashlib.sha256()
    for result in results:
        host = np.asarray(result)
        host = np.where(np.isnan(host), np.nan, host).astype(host.dtype) if host.dtype.kind == "f" else host
        whole.update(f"{host.dtype.name}{host.shape}".encode() + np.ascontiguousarray(host).tobytes())
    return whole.hexdigest()


def digests(backend, x=X, y=Y):
    a, b = (rp.asarray(backend.from_host(values.copy())) for values in (x, y))
    return {name: digest(results) for name, results in _results(a.__array_namespace__(), a, b)}
