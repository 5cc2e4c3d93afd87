"""exp, log, roots, tanh, sigmoid, sin and cos, of the network and public: the same bits as of arrays."""

import math
import re
from decimal import Decimal, localcontext

import function_errors
import numpy as np
import pytest
import reference
from array_calls import SPECIAL
from checkout import ROOT
from function_bounds import BOUNDS
from networks import reproducible
from page_formulas import FORMULAS

import xpnet.reproducible as rp
from xpnet.arithmetic.elementary import LOWEST
from xpnet.backends.resolve import make
from xpnet.nn import functional as F

INF, NORMAL = math.inf, 2.0**-1022
END = -708.3964185322641  # the logarithm of 2^-1022
ULPS = {name: BOUNDS[name] for name in ("exp", "log", "sqrt", "tanh", "sin", "cos")} | {"sigmoid": 3.3}
RANGES = {"exp": (LOWEST, 709.0), "log": (NORMAL, INF), "sqrt": (NORMAL, INF), "tanh": (2.0**-20, 20.0)}
"""Of the network, which needs exponentials up to 0 and has no sines."""
PUBLIC = {name: getattr(rp, name) for name in ULPS}


@pytest.mark.parametrize("name", [name for name in ULPS if name != "sigmoid"])
def test_bits_are_those_of_arrays_of_the_pages_formula_and_of_the_network(name):
    x = np.concatenate([*(draw(300) for draw in function_errors.POINTS[name]), SPECIAL])
    with np.errstate(invalid="ignore"):
        values, arrays = PUBLIC[name](x), getattr(rp.namespace("numpy"), name)(rp.asarray(x))
    assert np.asarray(arrays).tobytes() == values.tobytes()
    x, values = x[: -len(SPECIAL)], values[: -len(SPECIAL)]
    if name not in FORMULAS:
        low, high = RANGES[name]
        inside = (x >= low) & (x <= high)
        x, values, ops = x[inside], values[inside], reproducible(make("numpy", "cpu"))
        of_network = F.ACTIVATIONS[name].forward(ops, x) if name == "tanh" else getattr(ops, name)(x)
        assert of_network.tobytes() == values.tobytes()
    if formula := FORMULAS.get(name) or getattr(reference, name, None):
        assert values.tolist() == [*map(formula, x.tolist())]


def test_errors_of_the_sigmoid_are_within_its_bound():
    assert rp.sigmoid(np.array([-INF, -800.0, END - 1e-10, INF, 800.0])).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    x = np.concatenate([np.linspace(*ends, 400) for ends in ((-2.8, -2.6), (-30.0, 800.0), (END, -600.0))])
    with localcontext(prec=50, Emin=-(10**6)):
        exact = [1 / (1 + (-Decimal(number)).exp()) for number in x]
        pairs = zip(map(Decimal, rp.sigmoid(x)), exact, strict=True)
        assert max(abs(y - true) / Decimal(math.ulp(true)) for y, true in pairs) <= ULPS["sigmoid"]


@pytest.mark.parametrize("page", ["reproducibility", "arithmetic"])
def test_pages_state_these_errors(page):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    rows = re.findall(r"^\| `?(\w+)`? \| ([\d.]+)(?: ulp \|| \| [^|]*\|$)", text, re.MULTILINE)
    assert {name: float(bound) for name, bound in rows} == ULPS
