"""Calls of rp.Array whose bits are compared: ``python array_calls.py`` prints the digest of all on NumPy."""

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


def _finite(x):
    xp = x.__array_namespace__()
    return xp.where(xp.isfinite(x) & (xp.abs(x) < 1e100), x, 1.0)


def _matrices(x):
    xp = x.__array_namespace__()
    return xp.reshape(_finite(x)[:1200], (40, 30)), xp.reshape(_finite(x)[1200:2400], (30, 40))


def _single(x):
    xp = x.__array_namespace__()
    return xp.astype(_finite(x), xp.float32)


def _ties(x):
    return x.__array_namespace__().floor(_finite(x)[4000:8000] * 3.0)


COMPOSITE = {
    **{
        f"{name} of float32": lambda xp, x, y, name=name: getattr(xp, name)(_single(x))
        for name in ("exp", "sin", "log1p", "tanh")
    },
    "float32 operators": lambda xp, x, y: [
        _single(x) / 3.0,
        _single(x) * _single(y),
        _single(x) + 0.1,
        _single(x) ** 2,
    ],
    "x / 3": lambda xp, x, y: [x / 3.0, 1.0 / x, xp.reshape(x[:4000], (40, 100)) / y[:100], x / y[7]],
    "x ** n": lambda xp, x, y: [x**2, x**-1.5, x**3, 2.0 ** xp.clip(x, -50, 50), abs(x) ** 0.5],
    "sums": lambda xp, x, y: [
        xp.sum(_finite(x)),
        xp.sum(_matrices(x)[0], axis=1),
        xp.mean(_matrices(x)[0], axis=0),
        xp.std(_finite(x)[:999]),
    ],
    "variances": lambda xp, x, y: [
        xp.var(_matrices(x)[0], axis=0, correction=1),
        xp.cumulative_sum(_finite(x)[:500]),
    ],
    "products": lambda xp, x, y: [
        xp.prod(x[4000:4050]),
        xp.prod(_matrices(x)[0] * 0.1, axis=0),
        xp.cumulative_prod(x[4000:4100]),
    ],
    "matmul": lambda xp, x, y: [
        xp.matmul(*_matrices(x)),
        xp.matmul(_matrices(x)[0], _finite(y)[:30]),
        xp.tensordot(_matrices(x)[0], _matrices(y)[1], axes=1),
    ],
    "matmul of huge and tiny": lambda xp, x, y: [
        xp.matmul(_matrices(x)[0] * 2.0**600, _matrices(y)[1] * 2.0**-700)
    ],
    "vecdot": lambda xp, x, y: [xp.vecdot(_matrices(x)[0], _matrices(y)[0])],
    "extrema": lambda xp, x, y: [
        xp.max(x[:4000]),
        xp.min(x),
        xp.max(xp.reshape(x[-500:], (50, 10)), axis=1),
        xp.max(x[-3:] * 0.0),
    ],
    "argmax": lambda xp, x, y: [
        xp.argmax(_ties(x)),
        xp.argmin(_ties(x)),
        xp.argmax(x[-500:]),
        xp.argmin(xp.reshape(_ties(x), (400, 10)), axis=1),
    ],
    "sort": lambda xp, x, y: [
        xp.sort(x),
        xp.sort(x, descending=True),
        xp.argsort(_ties(x)),
        xp.argsort(_ties(x), descending=True, stable=False),
    ],
    "unique": lambda xp, x, y: [
        *xp.unique_all(_ties(x)),
        xp.unique_values(x[-529:]),
        *xp.unique_counts(x[-529:]),
        *xp.unique_inverse(_ties(x)),
    ],
    "searchsorted": lambda xp, x, y: [
        xp.searchsorted(xp.sort(_ties(x)), _ties(y), side=side) for side in ("left", "right")
    ],
    "linspace": lambda xp, x, y: [
        xp.linspace(-1.0, 3.0, 1000),
        xp.arange(0.0, 7.0, 0.1),
        xp.linspace(0, 10, 7, dtype=xp.float32),
    ],
    "clip": lambda xp, x, y: [xp.clip(x, -1.0, 1.0), xp.clip(x, y, None), xp.where(x > y, x, 0)],
    "diff": lambda xp, x, y: [xp.diff(_finite(x)), xp.diff(_matrices(x)[0], axis=0, n=2)],
    "integers": lambda xp, x, y: [
        _integers(xp, x) // 7,
        _integers(xp, x) % -7,
        _integers(xp, x) << 2,
        abs(_integers(xp, x)) ** 3,
    ],
    "conversions": lambda xp, x, y: [
        xp.astype(x, getattr(xp, name)) for name in ("int8", "int32", "int64", "uint8", "bool", "float32")
    ],
    "integer sums": lambda xp, x, y: [
        xp.sum(_integers(xp, x)),
        xp.prod(_integers(xp, x)[:90]),
        _integers(xp, x) / 3,
        xp.mean(_integers(xp, x)),
    ],
}


def _integers(xp, x):
    return xp.astype(_ties(x), xp.int64)


CALLS = {
    **{name: lambda xp, x, y, name=name: [getattr(xp, name)(x)] for name in UNARY},
    **{name: lambda xp, x, y, name=name: [getattr(xp, name)(x, y)] for name in BINARY},
    **COMPOSITE,
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
    xp = a.__array_namespace__()
    return {name: digest(call(xp, a, b)) for name, call in CALLS.items()}


if __name__ == "__main__":
    from xpnet.backends.resolve import make

    print(hashlib.sha256(repr(digests(make("numpy", "cpu"))).encode()).hexdigest())
