"""A strategy is made once for each set of hyperparameters, and never for another one that Python calls equal."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import AdaBN, ParameterError, UnknownStrategyError, UnMixTNS
from app.strategies import resolve


def test_the_same_wish_is_the_same_adapter() -> None:
    first = resolve("adabn", {"momentum": 0.25})
    assert resolve("adabn", {"momentum": 0.25}) is first
    assert first.strategy.adapter == AdaBN(momentum=0.25)
    assert (first.name, first.params["momentum"], first.params["own"]) == ("adabn", 0.25, True)


def test_different_wishes_are_different_adapters() -> None:
    wishes: list[dict[str, Any]] = [{}, {"momentum": 0.2}, {"reference_images": 8}, {"reference_images": None}]
    assert len({resolve("adabn", wish).strategy for wish in wishes}) == len(wishes)
    assert resolve("unmix_tns", {}).strategy.adapter == UnMixTNS()


@pytest.mark.parametrize(
    ("good", "bad"),
    [({"reference_images": 1}, {"reference_images": True}), ({"cumulative": True}, {"cumulative": 1})],
)
def test_values_that_python_calls_equal_are_still_checked(good: dict[str, Any], bad: dict[str, Any]) -> None:
    resolve("adabn", good)
    with pytest.raises(ParameterError):
        resolve("adabn", bad)


@pytest.mark.parametrize("value", [[1], {"a": 1}, [[]], "fast"])
def test_values_that_no_hyperparameter_has_are_refused_every_time(value: object) -> None:
    for _ in range(2):
        with pytest.raises(ParameterError, match="momentum"):
            resolve("adabn", {"momentum": value})


def test_unknown_names_are_refused_every_time() -> None:
    for _ in range(2):
        with pytest.raises(UnknownStrategyError):
            resolve("magic", {})
        with pytest.raises(ParameterError, match="speed"):
            resolve("adabn", {"speed": 1})
