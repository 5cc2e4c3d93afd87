"""The sine and the cosine as section 14 of the specification computes them, from Python's floats."""

import math
from decimal import Decimal, localcontext
from functools import cache, partial


@cache
def long_quarter():
    """π/2 to 1,200 digits, by the iteration of Gauss and Legendre."""
    with localcontext(prec=1210):
        a, b, t, p = Decimal(1), Decimal("0.5").sqrt(), Decimal("0.25"), 1
        for _ in range(11):
            a, b, before = (a + b) / 2, (a * b).sqrt(), a
            t, p = t - p * (before - a) ** 2, 2 * p
        return (a + b) ** 2 / (8 * t)


def sine_of_the_page(quarters, x):
    parts, rest = [], long_quarter()
    for end in (32, 65, 98):
        parts.append(math.floor(rest * 2**end) * 2.0**-end)
        rest -= Decimal(parts[-1])
    p1, p2, p3, p4 = *parts, float(rest)
    if abs(x) > 2.0**20:
        with localcontext(prec=1200):
            turns = Decimal(x) / long_quarter()
            k = turns.to_integral_value()
            rest = (turns - k) * long_quarter()
            r = float(rest)
            t = float(rest - Decimal(r))
    else:
        k = (x * (2 / math.pi) + 1.5 * 2.0**52) - 1.5 * 2.0**52
        a = x - k * p1
        b = a - k * p2
        c = b - k * p3
        e = ((a - b) - k * p2) + (((b - c) - k * p3) - k * p4)
        r = c + e
        t = (c - r) + e
    z = r * r
    h = z * 0.5
    w = 1.0 - h
    if (int(k) + quarters) % 2:
        q = z * (1 / math.factorial(16)) - 1 / math.factorial(14)
        for n in (12, 10, 8, 6, 4):
            q = q * z + (-1) ** (n // 2) / math.factorial(n)
        result = w + (((1.0 - w) - h) + (z * (z * q) - r * t))
    else:
        p = z * (1 / math.factorial(17)) - 1 / math.factorial(15)
        for n in (13, 11, 9, 7, 5, 3):
            p = p * z + (-1) ** (n // 2) / math.factorial(n)
        result = r + (r * (z * p) + t * w)
    return -result if (int(k) + quarters) % 4 >= 2 else result


FORMULAS = {"sin": partial(sine_of_the_page, 0), "cos": partial(sine_of_the_page, 1)}
