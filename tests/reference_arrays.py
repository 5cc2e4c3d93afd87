"""The functions of docs/arrays-specification.md in Python's floats, written from that page alone."""

import math
from decimal import Decimal, localcontext
from functools import cache, partial

import numpy as np
import reference
from reference import EXP_64_BY_LN2, EXP_H, EXP_L, LOG_H, TO_WHOLE
from reference_images import PI as ALL_OF_PI

NORMAL = 2.0**-1022
sqrt = reference.sqrt.pyfunc


def pair(number):
    return float(number), float(number - Decimal(float(number)))


with localcontext(prec=70):
    LN2 = Decimal(2).ln()
    L2 = float.fromhex("0x1.9ef35793c7p-41")
    L3 = float(LN2 - Decimal(LOG_H) - Decimal(L2))
    LN2_PAIR, PER_LN2, PER_LN10 = pair(LN2), pair(1 / LN2), pair(1 / Decimal(10).ln())
    HALF_PI, PI = pair(ALL_OF_PI / 2), pair(ALL_OF_PI)


@cache
def power(i):
    with localcontext(prec=70):
        return pair((LN2 * i / 64).exp())


@cache
def log_of(k):
    with localcontext(prec=70):
        c = round(512 * 128 / k) / 512
        return c, *pair(-Decimal(c).ln())


@cache
def arctan_of(i):
    with localcontext(prec=70):
        x = Decimal(i) / 32
        for _ in range(5):
            x = x / (1 + (1 + x * x).sqrt())
        total, term, n = x, x, 1
        while abs(term) > Decimal("1e-68"):
            term, n = -term * x * x, n + 2
            total += term / n
        return pair(total * 32)


def whole(x):
    return (x + TO_WHOLE) - TO_WHOLE


def two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def fast_two_sum(a, b):
    s = a + b
    return s, b - (s - a)


def split(a):
    t = a * (2.0**27 + 1)
    h = t - (t - a)
    return h, a - h


def two_product(a, b):
    p = a * b
    (ah, al), (bh, bl) = split(a), split(b)
    return p, (((ah * bh - p) + ah * bl) + al * bh) + al * bl


def divide(a, a_low, b, b_low):
    q = a / b
    p, e = two_product(q, b)
    return q, ((((a - p) - e) + a_low) - q * b_low) / b


def root(x, low):
    if x == 0:
        return 0.0, 0.0
    y = sqrt(x)
    p, e = two_product(y, y)
    return fast_two_sum(y, (((x - p) - e) + low) / (y + y))


def log_pair(x):
    m, e = math.frexp(x)
    m, e = m * 2, float(e - 1)
    m, e = (m / 2, e + 1) if m > math.sqrt(2.0) else (m, e)
    c, g, g_low = log_of(int(whole(m * 128.0)))
    mh, ml = split(m)
    r, r_low = two_sum(mh * c - 1.0, ml * c)
    q = r * (-1 / 10) + 1 / 9
    for n in range(8, 2, -1):
        q = q * r + (-1.0) ** (n + 1) / n
    p, p_low = two_product(r, r * -0.5)
    s, a = two_sum(e * LOG_H, g)
    s, b = two_sum(s, r)
    s, d = two_sum(s, p)
    g = (g_low + e * L2) + (r_low - r * r_low)
    return fast_two_sum(s, ((r * r) * r) * q + (((a + b) + d) + (g + (p_low + e * L3))))


def log1p_pair(x, low=0.0):
    s, t = two_sum(1.0, x)
    d = (t + low) / s
    h, low = log_pair(s)
    h, e = two_sum(h, d)
    return fast_two_sum(h, (low - (0.5 * d) * d) + e)


def log_to_base(factor, x):
    h, low = log_pair(x)
    p, e = two_product(h, factor[0])
    return p + (e + (low * factor[0] + h * factor[1]))


def log1p(x):
    return x if abs(x) < 2.0**-54 else sum(log1p_pair(x))


def reduced(x):
    k = whole(x * EXP_64_BY_LN2)
    j = math.floor(k / 64)
    return j, int(k - 64 * j), *two_sum(x - k * EXP_H, -(k * EXP_L))


def rest(r):
    return (r * r) * (((((r * (1 / 720) + 1 / 120) * r + 1 / 24) * r + 1 / 6) * r) + 0.5)


def exp_pair(x, low=0.0):
    j, i, r, r_low = reduced(x)
    r, r_low = fast_two_sum(r, r_low + low)
    t, t_low = power(i)
    with np.errstate(over="ignore"):
        return np.ldexp(t + (t * (r + (rest(r) + r_low)) + t_low), j)


def expm1_pair(x):
    j, i, r, r_low = reduced(x)
    t, t_low = power(i)
    s, a = two_sum(t * 2.0**j, -1.0)
    p, p_low = two_product(t, r)
    s, b = two_sum(s, p * 2.0**j)
    return fast_two_sum(s, (a + b) + (p_low + (t * (rest(r) + r_low) + t_low)) * 2.0**j)


def expm1(x):
    if abs(x) < 2.0**-54:
        return x
    return sum(expm1_pair(x)) if abs(x) < 44 else -1.0 if x < 0 else exp_pair(x)


def half_exp(a):
    h, low = two_sum(a, -LN2_PAIR[0])
    return exp_pair(h, low - LN2_PAIR[1])


def odd(compute):
    return lambda x: x if abs(x) < 2.0**-28 else math.copysign(compute(abs(x)), x)


@odd
def sinh(a):
    if a >= 40:
        return half_exp(a)
    u, u_low = expm1_pair(a)
    d, t = two_sum(u, 1.0)
    v, v_low = divide(u, u_low, d, t + u_low)
    s, t = two_sum(u, v)
    return 0.5 * (s + ((t + u_low) + v_low))


def cosh(x):
    if abs(x) >= 40:
        return half_exp(abs(x))
    e = exp_pair(abs(x))
    return 0.5 * (e + 1 / e)


def log_of_double(a):
    h, low = log_pair(a)
    s, t = two_sum(h, LN2_PAIR[0])
    return s + (t + (low + LN2_PAIR[1]))


@odd
def asinh(a):
    if a > 2.0**28:
        return log_of_double(a)
    p, e = two_product(a, a)
    s, t = two_sum(p, 1.0)
    h, low = root(*fast_two_sum(s, t + e))
    d, t = two_sum(h, 1.0)
    q, q_low = divide(p, e, d, t + low)
    s, t = two_sum(a, q)
    return sum(log1p_pair(s, t + q_low))


def acosh(x):
    if x > 2.0**28:
        return log_of_double(x)
    t = x - 1.0
    p, e = two_product(t, t)
    s, g = two_sum(t + t, p)
    h, low = root(*fast_two_sum(s, g + e))
    s, g = two_sum(h, t)
    return sum(log1p_pair(*fast_two_sum(s, g + low)))


@odd
def atanh(a):
    d, t = two_sum(1.0, -a)
    return 0.5 * sum(log1p_pair(*divide(a + a, 0.0, d, t)))


def hypot(x, y):
    a, b = max(abs(x), abs(y)), min(abs(x), abs(y))
    factor = 2.0**-600 if a > 2.0**400 else 2.0**600 if a < 2.0**-400 else 1.0
    a, b = a * factor, b * factor
    b = 0.0 if b < a * 2.0**-60 else b
    (p, e), (q, g) = two_product(a, a), two_product(b, b)
    s, t = two_sum(p, q)
    return sum(root(*fast_two_sum(s, t + (e + g)))) / factor


def logaddexp(x, y):
    a, b = max(x, y), min(x, y)
    d, d_low = two_sum(a, -b)
    w = exp_pair(-d, -d_low) if d < 745 else 0.0
    h, low = (w, 0.0) if w < 2.0**-54 else log1p_pair(w)
    s, t = two_sum(a, h)
    return s + (t + low)


def pow_(x, y):
    b = abs(x)
    if y == 0:
        return 1.0
    if y in (1.0, 2.0, -1.0):
        result = {1.0: b, 2.0: b * b, -1.0: 1 / b}[y]
    else:
        y = max(min(y, 2.0**70), -(2.0**70))
        h, low = log_pair(b)
        p, e = two_product(h, y)
        p, e = fast_two_sum(p, e + low * y)
        result = exp_pair(p, e)
    return -result if x < 0 and y % 2 == 1 else result


def angle(x, y):
    (x, x_low), (y, y_low) = x, y
    is_left, x, x_low = x < 0, abs(x), -x_low if x < 0 else x_low
    is_steep = y > x
    n, n_low, d, d_low = (x, x_low, y, y_low) if is_steep else (y, y_low, x, x_low)
    factor = 2.0**-600 if d > 2.0**500 else 2.0**600 if d < 2.0**-400 else 1.0
    n, n_low, d, d_low = n * factor, n_low * factor, d * factor, d_low * factor
    i = whole(n / d * 32.0)
    c, (dh, dl), (nh, nl) = i / 32, split(d), split(n)
    u, a = two_sum(n, -(c * dh))
    u, b = two_sum(u, -(c * dl))
    v, e = two_sum(d, c * nh)
    v, f = two_sum(v, c * nl)
    t, t_low = divide(u, (a + b) + (n_low - c * d_low), v, (e + f) + (d_low + c * n_low))
    z = t * t
    q = z * (1 / 17) - 1 / 15
    for k in (13, 11, 9, 7, 5, 3):
        q = q * z + (-1.0) ** ((k - 1) // 2) / k
    first, second = arctan_of(int(i))
    h, s = two_sum(first, t)
    low = s + (second + (t_low + t * (z * q)))
    for is_beyond, (w, w_low) in ((is_steep, HALF_PI), (is_left, PI)):
        if is_beyond:
            s, t = two_sum(-h, w)
            h, low = s, t + (w_low - low)
    return h + low


def side(x):
    p, e = two_product(x, x)
    h, low = two_sum(1.0, -p)
    return root(*fast_two_sum(h, low - e))


atan = odd(lambda a: angle((1.0, 0.0), (a, 0.0)))
asin = odd(lambda a: angle(side(a), (a, 0.0)))


def acos(x):
    return angle((x, 0.0), side(x))


def atan2(y, x):
    x = math.copysign(1.0, x) if x == y == 0 else x
    return math.copysign(angle((x, 0.0), (abs(y), 0.0)), y)


def as_in_c(name, formula):
    """Return a function with the values of C where arguments or results are special, or results 0."""
    of_c = getattr(np, "power" if name == "pow" else name if name[0] != "a" else f"arc{name[1:]}")

    def function(*args):
        with np.errstate(all="ignore"):
            expected = float(of_c(*args))
        if all(map(math.isfinite, args)) and expected and math.isfinite(expected):
            result = formula(*args)
            return result if abs(result) >= NORMAL or args == (result,) else math.copysign(0.0, result)
        return expected

    return function


NAMES = "acos acosh asin asinh atan atan2 atanh cosh expm1 hypot log10 log1p log2 logaddexp sinh"
log2, log10 = partial(log_to_base, PER_LN2), partial(log_to_base, PER_LN10)
REFERENCE = {name: as_in_c(name, globals()[name]) for name in NAMES.split()} | {"pow": as_in_c("pow", pow_)}
