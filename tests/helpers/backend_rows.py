"""Rows of a table of tests on NumPy, of which other libraries repeat few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from backend_enum import BackendCase

if TYPE_CHECKING:
    from collections.abc import Iterable


def on_numpy(argument: str, rows: Iterable, *, elsewhere: Iterable) -> pytest.MarkDecorator:
    """Parametrize a test by backend and row: NumPy takes all rows, other libraries those in `elsewhere`.

    tests/arithmetic/test_closed_world.py shows that every library computes the same with each operation that
    a network consists of. JAX, which compiles every operation for every shape, is slow.
    """
    parameters = [
        pytest.param(case, row, id=f"{case.value}-{row}", marks=[pytest.mark.slow] * ("jax" in case.value))
        for case in BackendCase
        for row in (rows if case is BackendCase.NUMPY else elsewhere)
    ]
    return pytest.mark.parametrize(("backend", argument), parameters, indirect=["backend"])
