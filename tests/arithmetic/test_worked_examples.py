"""The examples of docs/arithmetic.md: whole algorithms have the same bits on every library, and are right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backend_enum import NUMPY_FIRST

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "arithmetic.md").read_text("utf-8")
BLOCKS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if "import xpnet.reproducible" in block or "def examples" in block
]
DIGEST = "796d058fcc54e0c50d932fe5a4f10beaf0962e5ca9cd559e8225fe154b46f17d"


@pytest.fixture(scope="module")
def page():
    """The names that the page's functions have."""
    names = {}
    for block in BLOCKS:
        exec(block, names)  # noqa: S102
    return names


@pytest.mark.parametrize("backend", NUMPY_FIRST, indirect=True, ids=lambda case: case.value)
def test_every_library_gives_one_digest_which_the_page_shows(backend, page):
    results = page["examples"](backend.from_host(np.ones(1)))
    assert page["digest"](map(backend.to_host, results)) == DIGEST
    assert set(re.findall(r"\b[0-9a-f]{64}\b", PAGE)) == {DIGEST}


@pytest.mark.slow
def test_kernels_threads_and_the_c_library_do_not_matter():
    code = "\n".join([*BLOCKS, "print(digest(examples(np.ones(1))))"])
    environment = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "2"}
    environment |= {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, check=True
    )
    assert run.stdout.split()[-1].decode() == DIGEST


def test_the_examples_are_right(page):
    generator = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    x = np.concatenate([centre + 0.1 * generator.normal(size=(50, 2)) for centre in centres])
    means = page["kmeans"](x, 3, steps=10, seed=10)
    np.testing.assert_allclose(means[np.lexsort(np.round(means.T))], centres, atol=0.1)

    x = generator.normal(size=(200, 5)) * [5.0, 3.0, 1.0, 0.5, 0.1]
    expected = np.linalg.svd(x - x.mean(axis=0))[2][:2]
    components = page["principal_components"](x, 2, steps=100)
    np.testing.assert_allclose(np.abs(np.sum(components * expected, axis=1)), 1.0, atol=1e-12)

    queries, keys, values = generator.normal(size=(3, 2, 6, 4))
    scores = np.exp(queries @ keys.swapaxes(1, 2) / 2.0)
    expected = scores @ values / scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(page["attention"](queries, keys, values), expected, atol=1e-12)
