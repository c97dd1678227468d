"""Rows that are finite, told from those that are not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.finite import all_finite, finite_rows

NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([3e38, -3e38, math.inf, -math.inf, math.nan]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=4))
def test_a_row_is_finite_where_all_its_numbers_are(rows: list[list[float]]) -> None:
    found = finite_rows(torch.tensor(rows))
    assert found == [all(map(math.isfinite, row)) for row in rows]
    assert all_finite(torch.zeros(0), torch.tensor([1]), *torch.tensor(rows)) == all(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_large_numbers_whose_sum_overflows_are_finite(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    assert finite_rows(torch.full((2, 2, 3), most, dtype=dtype)) == [True, True]
    assert all_finite(torch.full((2, 3), most, dtype=dtype))


def test_infinities_that_cancel_and_rows_of_nothing() -> None:
    assert finite_rows(torch.tensor([[math.inf, -math.inf], [1.0, 2.0]])) == [False, True]
    assert finite_rows(torch.empty(3, 0)) == [True] * 3
