"""Print the table of docs/parity.md: which porting bugs assert_parity and array-api-extra's recipe find.

The bugs are those of tests/helpers/porting_bugs.py. The recipe is a test as array-api-extra has for its own
functions: on each library, compiled with JAX, also with read-only NumPy arrays and on other devices, where
warnings are errors. It needs array-api-extra, PyTorch, JAX and array-api-strict.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import numpy as np
from checkout import ROOT, need

from xpnet.backends.resolve import make
from xpnet.parity import assert_parity

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from porting_bugs import BUGS, STRICT, Bug

BACKENDS = ["numpy", STRICT, "torch", "jax"]
PLACES = [(STRICT, "cpu"), (STRICT, "device1"), ("torch", "cpu"), ("torch", "meta"), ("jax", "cpu")]


def rows() -> Iterator[str]:
    """Yield the rows of the table: bugs found in the same way, and how many both find."""
    need("array_api_extra", "array_api_strict", "torch", "jax", fix='pip install -e ".[test-all,torch]"')
    bugs: dict[tuple[str, str], list[str]] = {}
    for name, bug in BUGS.items():
        options = [f"{key}={getattr(value, '__name__', value)}" for key, value in bug.options.items()]
        found = f"with `{options[0]}`" if options else "yes"
        by_parity, by_recipe = found if parity_finds(bug) else "no", "yes" if recipe_finds(bug) else "no"
        bugs.setdefault((by_parity, by_recipe), []).append(name)
    for (by_parity, by_recipe), names in bugs.items():
        shown = f"{len(names)} more" if by_parity == by_recipe else "; ".join(names)
        yield f"| {shown} | {by_parity} | {by_recipe} |"


def parity_finds(bug: Bug) -> bool:
    """Tell whether assert_parity fails."""
    tier = {} if "raises" in bug.options else {"rtol": 1e-12}
    options = {"reference": bug.original, "backends": BACKENDS, **tier, **bug.options}
    try:
        assert_parity(bug.port, *bug.arguments, **options)
    except AssertionError:
        return True
    return False


def recipe_finds(bug: Bug) -> bool:
    """Tell whether the recipe fails anywhere."""
    backends = [make(*place) for place in PLACES]
    runs = [(np.asarray, np.asarray, nullcontext), (read_only, np.asarray, nullcontext)]
    runs += [(backend.from_host, backend.from_host, backend.scope) for backend in backends]
    for put, to_expected, scope in runs:
        try:
            with warnings.catch_warnings(action="error"), scope():
                run_recipe(bug, put, to_expected)
        except Exception:  # noqa: BLE001  each library raises its own errors
            return True
    return False


def read_only(array: Any) -> Any:
    """Return the array, to which nothing can be written any more."""
    array.flags.writeable = False
    return array


def run_recipe(bug: Bug, put: Callable[[Any], Any], to_expected: Callable[[Any], Any]) -> None:
    """Compare a port with the original on one library, by the helpers of array-api-extra."""
    from array_api_compat import array_namespace
    from array_api_extra import testing

    arrays, copies = [put(each.copy()) for each in bug.arguments], [each.copy() for each in bug.arguments]
    xp = array_namespace(arrays[0])
    extra = {"xp": xp} if "xp" in inspect.signature(bug.port).parameters else {}
    module: Any = ModuleType("tests")
    module.port = lambda *arrays: bug.port(*arrays, **extra)
    testing.lazy_xp_function(module.port)
    with testing.patch_lazy_xp_functions(SimpleNamespace(module=module), xp=xp):
        try:
            result = module.port(*arrays)
        except bug.options.get("raises", ()):
            return
    if "raises" in bug.options:
        raise AssertionError("did not raise")
    expected = bug.original(*copies)
    for position in bug.options.get("mutates", ()):
        result, expected = arrays[position], copies[position]
    testing.assert_close(result, to_expected(np.asarray(expected)), rtol=1e-12, xp=xp)


if __name__ == "__main__":
    print(*rows(), sep="\n")
