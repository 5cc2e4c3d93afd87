"""Calls of rp.Array whose bits are compared."""

import hashlib
import math

import numpy as np

import xpnet.reproducible as rp

COUNT = 4000
SPECIAL = [
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    1.0,
    -1.0,
    2.0,
    0.5,
    -0.5,
    5e-324,
    -1e-310,
    2.0**-1022,
    1.7e308,
]
SPECIAL += [709.7, 710.5, -745.2, 1e22, 2.0**20, -3.0, 3.0, 1e300, 1e-300]


def _numbers(seed):
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], COUNT)
    mixed = np.concatenate(
        [
            generator.normal(size=COUNT) * 2.0 ** generator.uniform(-60, 60, COUNT),
            generator.uniform(-2, 2, COUNT),
            signs * 2.0 ** generator.uniform(-1074, 1023.9, COUNT),
            generator.integers(-9, 9, COUNT) * 0.5,
        ]
    )
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    return np.concatenate([mixed, (a if seed else b).ravel()])


X, Y = _numbers(0), _numbers(1)
"""Numbers of all magnitudes, and all pairs of special values."""
UNARY = [
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "exp", "expm1"),
    *("floor", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_not"),
    *("negative", "positive", "reciprocal", "round", "sign", "signbit", "sin", "sinh", "sqrt"),
    *("square", "tan", "tanh", "trunc"),
]
BINARY = [
    *("add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal"),
    *("hypot", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor"),
    *("maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder", "subtract"),
]


def calls(xp, x, y):
    """The calls on two arrays, by their names."""

    def finite(x):
        return xp.where(xp.isfinite(x) & (xp.abs(x) < 1e100), x, 1.0)

    def matrices(x):
        return xp.reshape(finite(x)[:1200], (40, 30)), xp.reshape(finite(x)[1200:2400], (30, 40))

    def single(x):
        return xp.astype(finite(x), xp.float32)

    def ties_of(x):
        return xp.floor(finite(x)[4000:8000] * 3.0)

    (left, _), (other, right), ties = matrices(x), matrices(y), ties_of(x)
    integers = xp.astype(ties, xp.int64)
    return {
        **{name: lambda name=name: [getattr(xp, name)(x)] for name in UNARY},
        **{name: lambda name=name: [getattr(xp, name)(x, y)] for name in BINARY},
        **{
            f"{name} of float32": lambda name=name: getattr(xp, name)(single(x))
            for name in ("exp", "sin", "log1p", "tanh")
        },
        "float32 operators": lambda: [
            single(x) / 3.0,
            single(x) * single(y),
            single(x) + 0.1,
            single(x) ** 2,
        ],
        "x / 3": lambda: [x / 3.0, 1.0 / x, xp.reshape(x[:4000], (40, 100)) / y[:100], x / y[7]],
        "x ** n": lambda: [x**2, x**-1.5, x**3, 2.0 ** xp.clip(x, -50, 50), abs(x) ** 0.5],
        "sums": lambda: [
            xp.sum(finite(x)),
            xp.sum(left, axis=1),
            xp.mean(left, axis=0),
            xp.std(finite(x)[:999]),
        ],
        "variances": lambda: [xp.var(left, axis=0, correction=1), xp.cumulative_sum(finite(x)[:500])],
        "products": lambda: [
            xp.prod(x[4000:4050]),
            xp.prod(left * 0.1, axis=0),
            xp.cumulative_prod(x[4000:4100]),
        ],
        "matmul": lambda: [
            xp.matmul(*matrices(x)),
            xp.matmul(left, finite(y)[:30]),
            xp.tensordot(left, right, axes=1),
        ],
        "matmul of huge and tiny": lambda: [xp.matmul(left * 2.0**600, right * 2.0**-700)],
        "vecdot": lambda: [xp.vecdot(left, other)],
        "extrema": lambda: [
            xp.max(x[:4000]),
            xp.min(x),
            xp.max(xp.reshape(x[-500:], (50, 10)), axis=1),
            xp.max(x[-3:] * 0.0),
        ],
        "argmax": lambda: [
            xp.argmax(ties),
            xp.argmin(ties),
            xp.argmax(x[-500:]),
            xp.argmin(xp.reshape(ties, (400, 10)), axis=1),
        ],
        "sort": lambda: [
            xp.sort(x),
            xp.sort(x, descending=True),
            xp.argsort(ties),
            xp.argsort(ties, descending=True, stable=False),
        ],
        "unique": lambda: [
            *xp.unique_all(ties),
            xp.unique_values(x[-529:]),
            *xp.unique_counts(x[-529:]),
            *xp.unique_inverse(ties),
        ],
        "searchsorted": lambda: [
            xp.searchsorted(xp.sort(ties), ties_of(y), side=side) for side in ("left", "right")
        ],
        "linspace": lambda: [
            xp.linspace(-1.0, 3.0, 1000),
            xp.arange(0.0, 7.0, 0.1),
            xp.linspace(0, 10, 7, dtype=xp.float32),
        ],
        "clip": lambda: [xp.clip(x, -1.0, 1.0), xp.clip(x, y, None), xp.where(x > y, x, 0)],
        "diff": lambda: [xp.diff(finite(x)), xp.diff(left, axis=0, n=2)],
        "integers": lambda: [integers // 7, integers % -7, integers << 2, abs(integers) ** 3],
        "conversions": lambda: [
            xp.astype(x, getattr(xp, name)) for name in ("int8", "int32", "int64", "uint8", "bool", "float32")
        ],
        "integer sums": lambda: [xp.sum(integers), xp.prod(integers[:90]), integers / 3, xp.mean(integers)],
    }


def digest(results):
    """The SHA-256 of results, of which all NaN are one."""
    whole = hashlib.sha256()
    for result in results if isinstance(results, list) else [results]:
        host = np.asarray(result)
        host = np.where(np.isnan(host), np.nan, host).astype(host.dtype) if host.dtype.kind == "f" else host
        whole.update(f"{host.dtype.name}{host.shape}".encode() + np.ascontiguousarray(host).tobytes())
    return whole.hexdigest()


def digests(backend, x=X, y=Y):
    """The digest of each call on a library."""
    a, b = (rp.asarray(backend.from_host(values.copy())) for values in (x, y))
    return {name: digest(call()) for name, call in calls(a.__array_namespace__(), a, b).items()}
