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


@pytest.mark.parametrize(
    ("pixels", "longest_of_one_slice", "longest"),
    [((False, False), 2**13, 2**33), ((True, False), 2**25, 2**35), ((False, True), 2**25, 2**35)],
)
def test_a_budget_has_53_bits_with_those_of_the_sum(pixels, longest_of_one_slice, longest):
    counts = {2**power + more for power in range(1, 36) for more in (-1, 0, 1)}
    for terms in (count for count in counts if count <= longest):
        budget = bit_budget(terms, *pixels)
        assert budget.a + budget.b + (terms - 1).bit_length() == 53
        assert budget.slices == (1 if terms <= longest_of_one_slice else 2)
    refusal = rf"^a sum over {longest + 1} terms leaves \d of 53 bits for each factor, fewer than 10: use .*$"
    with pytest.raises(ConfigError, match=refusal):
        bit_budget(longest + 1, *pixels)
