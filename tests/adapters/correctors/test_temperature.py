"""Temperature scaling against the formula, at every temperature."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.base import Nothing
from adapters.correctors.temperature import Temperature
from adapters.errors import ParameterError

LOGITS = st.lists(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-20, 20, width=32), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)
TEMPERATURES = st.floats(0.01, 100) | st.floats(min_value=0.0, exclude_min=True, allow_infinity=False)
QUICK = settings(max_examples=100, deadline=None, derandomize=True)
EMPTY = torch.zeros(1, 0)


@QUICK
@given(LOGITS, TEMPERATURES)
def test_the_predicted_class_never_changes(rows: list[list[float]], temperature: float) -> None:
    logits = torch.tensor(rows)
    probabilities, _ = Temperature(temperature).correct(Nothing(), EMPTY, logits)
    largest = probabilities.gather(1, logits.argmax(-1, keepdim=True))
    assert torch.equal(largest, probabilities.amax(-1, keepdim=True))
    assert bool(probabilities.isfinite().all())


@QUICK
@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=6), st.floats(0.05, 50))
def test_a_loop_in_double_precision(row: list[float], temperature: float) -> None:
    weights = [math.exp((z - max(row)) / temperature) for z in row]
    probabilities, _ = Temperature(temperature).correct(Nothing(), EMPTY, torch.tensor([row]))
    assert probabilities[0].tolist() == pytest.approx([w / math.fsum(weights) for w in weights], abs=1e-6)


def test_one_is_the_softmax_and_more_is_less_confident() -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    confidences = []
    for temperature in (0.5, 1.0, 2.0, 8.0):
        probabilities, state = Temperature(temperature).correct(Temperature(temperature).init(0, 5), EMPTY, logits)
        confidences.append(probabilities.amax(-1))
        assert state == Nothing()
        if temperature == 1.0:
            torch.testing.assert_close(probabilities, logits.softmax(-1))
    assert all(bool((sure > unsure).all()) for sure, unsure in pairwise(confidences))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan, "hot", True])
def test_a_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ParameterError, match="temperature must be a number"):
        Temperature(temperature)
