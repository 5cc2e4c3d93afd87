"""Budgets of bits, and signs of zeros; test_vectors.py and test_public_functions.py hold the products."""

import numpy as np
import pytest
from networks import reproducible

from xpnet.arithmetic.reproducible import bit_budget
from xpnet.backends.resolve import make
from xpnet.errors import ConfigError


def test_a_product_that_is_zero_has_no_sign_even_if_a_librarys_sums_begin_with_negative_zero(monkeypatch):
    ops = reproducible(make("numpy", "cpu"))
    monkeypatch.setattr(ops.xp, "matmul", lambda a, b: -np.matmul(a, b))
    assert not np.signbit(ops.matmul(np.zeros((3, 2)), np.zeros((2, 4)))).any()


@pytest.mark.parametrize(("pixels", "longest"), [(False, 2**33), (True, 2**35)])
def test_a_sum_over_so_many_terms_that_few_bits_are_left_is_refused(pixels, longest):
    assert bit_budget(longest, a_integer=False, b_integer=pixels).slices == 2
    refusal = rf"^a sum over {longest + 1} terms leaves 9 of 53 bits for each factor, fewer than 10: use .*$"
    with pytest.raises(ConfigError, match=refusal):
        bit_budget(longest + 1, a_integer=False, b_integer=pixels)
