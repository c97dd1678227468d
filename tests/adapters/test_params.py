"""Hyperparameters: what is checked, what the messages say, what the schema tells clients."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from adapters import STRATEGIES, ParameterError, check, param, schema, strategy


@dataclass(frozen=True)
class Sample:
    """One field of every kind."""

    share: float = param(0.5, "A share.", low=0.0, high=1.0)
    speed: float = param(1.0, "Above zero.", above=0.0)
    count: int = param(3, "A count.", low=1, high=9)
    maybe: int | None = param(None, "A count or nothing.", low=1)
    mode: str = param("a", "A mode.", choices=("a", "b"))
    on: bool = param(False, "A switch.")

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    "params",
    [
        {"share": 0.0},
        {"share": 1.0},
        {"share": 1},
        {"speed": 1e-9},
        {"count": 1},
        {"count": 9},
        {"maybe": None},
        {"maybe": 7},
        {"mode": "b"},
        {"on": True},
    ],
)
def test_valid_values_are_accepted(params: dict[str, Any]) -> None:
    assert getattr(Sample(**params), next(iter(params))) == next(iter(params.values()))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"share": 1.1}, r"share must be a number \(at least 0 and at most 1\), not 1.1"),
        ({"share": -0.1}, "share must be a number .* not -0.1"),
        ({"share": math.nan}, "share must be a number .* not nan"),
        ({"share": "0.5"}, "share must be a number .* not '0.5'"),
        ({"share": True}, "share must be a number .* not True"),
        ({"share": None}, "share must be a number .* not None"),
        ({"speed": 0.0}, r"speed must be a number \(above 0\), not 0.0"),
        ({"speed": math.inf}, "speed must be a number .* not inf"),
        ({"speed": 10**400}, "speed must be a number"),
        ({"count": 0}, r"count must be an integer \(at least 1 and at most 9\), not 0"),
        ({"count": 10}, "count must be an integer"),
        ({"count": 2.0}, "count must be an integer .* not 2.0"),
        ({"count": True}, "count must be an integer .* not True"),
        ({"maybe": 0}, "maybe must be an integer or null .* not 0"),
        ({"maybe": 10**400}, "maybe must be an integer or null"),
        ({"mode": "c"}, "mode must be one of a, b, not 'c'"),
        ({"mode": 1}, "mode must be a string, not 1"),
        ({"on": 1}, "on must be a boolean, not 1"),
        ({"on": []}, r"on must be a boolean, not \[\]"),
    ],
)
def test_invalid_values_are_refused_with_the_expected_type_and_range(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Sample(**params)


def test_the_schema_says_all_that_is_checked() -> None:
    found = schema(Sample)
    assert found["additionalProperties"] is False
    assert found["properties"]["share"] == {
        "type": "number",
        "description": "A share.",
        "minimum": 0.0,
        "maximum": 1.0,
        "default": 0.5,
    }
    assert found["properties"]["speed"]["exclusiveMinimum"] == 0.0
    assert found["properties"]["maybe"]["type"] == ["integer", "null"]
    assert found["properties"]["maybe"]["default"] is None
    assert found["properties"]["mode"]["enum"] == ["a", "b"]
    assert found["properties"]["on"] == {"type": "boolean", "description": "A switch.", "default": False}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_takes_the_defaults_that_its_schema_states(name: str) -> None:
    properties = json.loads(json.dumps(schema(STRATEGIES[name])))["properties"]
    defaults = {field: described["default"] for field, described in properties.items()}
    assert strategy(name, defaults) == strategy(name)
    assert all(described["description"] for described in properties.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_bound_of_every_strategy_is_enforced(name: str) -> None:
    for field, rules in schema(STRATEGIES[name])["properties"].items():
        beyond = [
            *([rules["minimum"] - 1] if "minimum" in rules else []),
            *([rules["maximum"] + 1] if "maximum" in rules else []),
            *([rules["exclusiveMinimum"]] if "exclusiveMinimum" in rules else []),
            *(["no such choice"] if "enum" in rules else []),
            {"neither": "number nor word"},
        ]
        for value in beyond:
            with pytest.raises(ParameterError, match=field):
                strategy(name, {field: value})


def test_alpha_bn_takes_a_weight_or_a_prior() -> None:
    with pytest.raises(ParameterError, match="set source_weight or prior, not both"):
        strategy("alpha_bn", {"source_weight": 0.5, "prior": 16.0})
