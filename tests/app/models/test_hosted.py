"""A preprocessing that cannot be done is refused when it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.models.hosted import INTERPOLATIONS, Preprocessing

GOOD = Preprocessing(32, 40, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_possible_preprocessing_is_taken(interpolation: str) -> None:
    assert replace(GOOD, size=40, interpolation=interpolation).resize == 40


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": 41}, "size 41 and resize 40"),
        ({"size": 0}, "must be positive"),
        ({"interpolation": "hamming"}, "'hamming': expected one of bilinear"),
        ({"mean": (0.5, 0.5)}, "three numbers"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"std": (0.2, 0.0, 0.2)}, "positive deviations"),
        ({"std": (0.2, float("inf"), 0.2)}, "finite"),
    ],
)
def test_an_impossible_preprocessing_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(GOOD, **change)
