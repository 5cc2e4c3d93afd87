"""Arrays, functions and random numbers with the same bits on NumPy, PyTorch, JAX, CuPy and others.

`asarray` wraps an array of any of these libraries, dpnp and array-api-strict. `namespace` has the functions
of the array-API standard for such arrays: code written against it runs on them unchanged (docs/arrays.md).

The functions of this module take plain arrays of one library on one device too, and return float64 arrays
there. No bit depends on the library, its version, the processor, the number of threads, or the other rows and
matrices that an array holds. Real numbers, integers and booleans of any dtype are first converted to float64:
exactly, but for integers beyond 2^53 and subnormal float32 numbers, which count as 0. Results have no
gradients, and no function that JAX compiles can call these. docs/arithmetic.md gives formulas, error bounds
and costs.

All functions raise `DataError` for plain arrays of anything but real numbers of one of these libraries, and
for arrays of several libraries or devices, and `BackendError` if the device does not compute in IEEE 754
float64.
"""

from xpnet.reproducible import functions
from xpnet.reproducible.array import Array, conversions
from xpnet.reproducible.draws import random
from xpnet.reproducible.functions import *  # noqa: F403
from xpnet.reproducible.standard import asarray, namespace
from xpnet.reproducible.statistics import corrcoef, cov, einsum, median, quantile

__all__ = [*functions.__all__, "Array", "asarray", "conversions", "namespace", "random"]  # noqa: PLE0604
__all__ += ["corrcoef", "cov", "einsum", "median", "quantile"]
