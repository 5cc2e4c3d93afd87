"""assert_parity finds nothing in functions of SciPy and scikit-learn that work with every library."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
import sklearn
from scipy import cluster, integrate, special, stats
from sklearn.metrics import max_error, mean_absolute_error, mean_squared_error, pairwise
from xpnet.parity import assert_parity

sklearn.set_config(array_api_dispatch=True)
x = np.random.default_rng(0).normal(size=(6, 4))
y, u, v = np.abs(x) + 0.1, x[:, 0].copy(), x[:, 1].copy()
FUNCTIONS = [
    ((x,), [special.logsumexp, special.softmax, special.log_softmax, stats.zscore, stats.skew]),
    ((y,), [stats.kurtosis, stats.gmean, stats.sem, cluster.vq.whiten, integrate.trapezoid]),
    ((y,), [special.expit, special.entr]),
    ((y, x), [pairwise.rbf_kernel, pairwise.paired_euclidean_distances]),
    ((u, v), [mean_squared_error, mean_absolute_error, max_error]),
]
options = {"rtol": 1e-9, "atol": 1e-12, "data_dependent_shapes": True}
options["backends"] = ["numpy", "array-api-strict:cpu", "torch", "jax"]
for arguments, functions in FUNCTIONS:
    for function in functions:
        assert_parity(function, *arguments, reference=function, **options)
        print(function.__name__)
"""


@pytest.mark.slow
@pytest.mark.needs("sklearn", "array-api-strict", "torch", "jax")
def test_seventeen_functions_of_scipy_and_scikit_learn_pass():
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}  # read when SciPy is imported
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (result.stderr, len(result.stdout.split())) == ("", 17)
