"""How the hyperparameters of a strategy's parts are addressed, and that names and parameters lead there and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adapters import (
    STRATEGIES,
    AdaBN,
    AdapterError,
    CombinationError,
    Composite,
    Descent,
    Lame,
    ParameterError,
    RobustBN,
    RoTTA,
    Tent,
    kind_of,
    name_of,
    names,
    params_of,
    parts_of,
    schema,
    schema_of,
    strategy,
    whole,
)

COMPOSITES = [
    "tent",
    "core",
    "rotta",
    "lame",
    "cofa",
    "temperature",
    "adabn+lame",
    "unmix_tns+cofa",
    "iabn+temperature+cofa",
    "alpha_bn+cofa+temperature+lame",
    "unmix_tns+tent",
    "source+tent",
    "adabn+rotta",
    "tema+core",
    "tent+lame",
    "rotta+temperature+lame",
    "unmix_tns+tent+temperature+cofa+lame",
]
"""Names as `name_of` writes them."""


@dataclass(frozen=True)
class Unregistered(Descent):
    """A learner without a name."""

    adapter: ClassVar[str] = "bn"

    def loss(self, logits: Tensor) -> Tensor:
        return -logits.softmax(1).square().sum()


def test_parameters_by_part_and_bare() -> None:
    both = strategy("adabn+lame", {"lame.memory": 16, "momentum": 0.25})
    assert both == Composite(AdaBN(momentum=0.25), None, (Lame(memory=16),))
    assert both == strategy("lame+adabn", {"memory": 16, "adabn.momentum": 0.25})
    assert strategy("adabn", {"adabn.momentum": 0.25}) == AdaBN(momentum=0.25)
    # Of a part that goes without saying, too.
    assert strategy("rotta", {"momentum": 0.5, "capacity": 8}) == Composite(RobustBN(0.5), RoTTA(capacity=8))
    assert strategy("rotta", {"robust_bn.momentum": 0.5}) == Composite(RobustBN(0.5), RoTTA())


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        (
            "unmix_tns+temperature",
            {"temperature": 2.0},
            "parameter 'temperature' is ambiguous in strategy 'unmix_tns+temperature': write unmix_tns.temperature or "
            "temperature.temperature",
        ),
        ("unmix_tns+rotta", {"seed": 1}, "write unmix_tns.seed or rotta.seed"),
        (
            "adabn+lame",
            {"lame.memory": 1, "memory": 2},
            "parameter lame.memory of strategy 'adabn+lame' appears twice: remove",
        ),
        ("adabn", {"adabn.momentum": 0.1, "momentum": 0.2}, "adabn.momentum of strategy 'adabn' appears twice"),
        ("adabn+cofa", {"speed": 1}, "strategy 'adabn+cofa' has no parameter 'speed': it takes adabn.momentum, adabn."),
        ("adabn+cofa", {"tent.lr": 1}, "has no parameter 'tent.lr': it takes adabn.momentum"),
        ("adabn+cofa", {"adabn.lr": 1}, "has no parameter 'adabn.lr'"),
        ("adabn+lame", {"z": 1, "a": 1}, "has no parameter 'a', 'z': it takes adabn.momentum"),
        ("cofa", {"speed": 1}, "strategy 'cofa' has no parameter 'speed': it takes none"),
        ("adabn", {"speed": 1}, "strategy 'adabn' has no parameter 'speed': it takes momentum, reference_images"),
        ("lame", {".memory": 1}, "has no parameter '.memory'"),
        ("lame", {"lame.": 1}, "has no parameter 'lame.'"),
        ("lame", {"a.lame.memory": 1}, "has no parameter 'a.lame.memory'"),
        ("lame", {"": 1}, "has no parameter ''"),
        ("adabn+lame", {"memory": -1}, "lame: memory must be an integer (at least 0 and at most 4096), not -1"),
        ("adabn+lame", {"momentum": 2}, "adabn: momentum must be a number (above 0 and at most 1), not 2"),
        ("adabn+lame", {"lame.when": "seldom"}, "lame: when must be one of "),
        ("adabn+lame", {"lame.memory": [1]}, "lame: memory must be an integer"),
        ("adabn", {"momentum": 2}, "momentum must be a number (above 0 and at most 1), not 2"),
    ],
)
def test_parameters_that_are_refused(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        strategy(name, params)
    assert says in str(caught.value)
    assert not isinstance(caught.value, CombinationError)


def test_a_message_stays_short_whatever_was_sent() -> None:
    with pytest.raises(ParameterError) as caught:
        strategy("adabn+lame", {"x" * 100_000: 1})
    assert "it takes adabn.momentum" in str(caught.value)[:200]


# There and back


@pytest.mark.parametrize("name", [*STRATEGIES, *COMPOSITES])
def test_names_and_parameters_round_trip(name: str) -> None:
    made = strategy(name)
    assert name_of(made) == name
    assert strategy(name, params_of(made)) == made
    assert list(schema_of(name)["properties"]) == list(params_of(made))
    assert {key: rules["default"] for key, rules in schema_of(name)["properties"].items()} == params_of(made)
    assert [type(part) for part in whole(made)] == [STRATEGIES[part] for part in parts_of(name)]


def test_the_schema_of_an_adapter_is_that_of_its_class_and_of_others_by_part() -> None:
    assert schema_of("adabn") == schema(AdaBN)
    found = schema_of("tent+lame")
    assert (found["type"], found["additionalProperties"]) == ("object", False)
    assert found["properties"] == {
        **{f"tent.{key}": rules for key, rules in schema(Tent)["properties"].items()},
        **{f"lame.{key}": rules for key, rules in schema(Lame)["properties"].items()},
    }


def test_parameters_of_what_is_not_registered_go_by_its_class() -> None:
    odd = Composite(AdaBN(), Unregistered())
    assert name_of(odd) == "adabn+Unregistered"
    assert params_of(odd)["Unregistered.lr"] == Unregistered().lr


def varied(part: Any) -> st.SearchStrategy[Any]:
    """The part with some of its numbers moved within their range."""
    changes: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(part):
        rules, value = field.metadata, field.default
        if isinstance(value, bool):
            changes[field.name] = st.booleans()
        elif isinstance(value, int | float):
            low = rules.get("minimum", rules.get("exclusiveMinimum", 0.0))
            high = rules.get("maximum", low + 5)
            inner = (low + (high - low) * share for share in (0.25, 0.5))
            changes[field.name] = st.sampled_from([value, *(type(value)(one) or value for one in inner)])
        elif "enum" in rules:
            changes[field.name] = st.sampled_from(rules["enum"])
    return st.fixed_dictionaries(changes).map(lambda chosen: replace(part, **chosen))


@st.composite
def combinations(draw: st.DrawFn) -> tuple[list[str], Any]:
    """Parts in any order that is allowed, and the strategy that they make with hyperparameters of any value."""
    adapters = draw(st.lists(st.sampled_from(names("adapter")), max_size=1))
    learners = draw(st.lists(st.sampled_from(names("learner")), max_size=1))
    correctors = draw(st.lists(st.sampled_from(names("corrector")), unique=True))
    correctors.sort(key=lambda part: part == "lame")
    chosen = adapters + learners + correctors
    if not chosen:
        chosen = adapters = ["adabn"]
    said = list(draw(st.permutations(adapters + learners)))
    for place, part in enumerate(correctors):
        # Anywhere behind the corrector before it.
        least = said.index(correctors[place - 1]) + 1 if place else 0
        said.insert(draw(st.integers(least, len(said))), part)
    first = STRATEGIES[(learners + correctors)[0]] if learners + correctors else None
    made = [STRATEGIES[(adapters or [first.adapter])[0]]() if first else STRATEGIES[adapters[0]]()]
    parts = [draw(varied(part)) for part in made + [STRATEGIES[name]() for name in learners + correctors]]
    tail = parts[1 + len(learners) :]
    return said, parts[0] if len(parts) == 1 else Composite(parts[0], parts[1] if learners else None, tuple(tail))


@given(combinations(), st.sampled_from(["+", " ", " + "]))
def test_any_combination_round_trips(drawn: tuple[list[str], Any], sign: str) -> None:
    said, meant = drawn
    assert strategy(name_of(meant), params_of(meant)) == meant
    assert strategy(sign.join(said), params_of(meant)) == meant
    assert hash(strategy(name_of(meant), params_of(meant))) == hash(meant)
    kinds = [kind_of(type(part)) for part in whole(meant)]
    assert kinds == sorted(kinds, key=["adapter", "learner", "corrector"].index)
    assert [type(part) for part in whole(meant)] == [STRATEGIES[part] for part in parts_of(name_of(meant))]


@given(combinations(), st.data())
def test_bare_parameters_are_taken_wherever_only_one_part_has_them(
    drawn: tuple[list[str], Any], data: st.DataObject
) -> None:
    _, meant = drawn
    everything = [(part, key, value) for part in whole(meant) for key, value in asdict(part).items()]
    keys = [key for _, key, _ in everything]
    clear = {key: value for _, key, value in everything if keys.count(key) == 1}
    long = {key: value for key, value in params_of(meant).items() if key.rpartition(".")[2] not in clear}
    assert strategy(name_of(meant), {**clear, **long}) == meant
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        with pytest.raises(ParameterError, match="is ambiguous in strategy"):
            strategy(name_of(meant), {data.draw(st.sampled_from(twice)): 1})


@given(
    st.text(alphabet="abn+ lmet_.", max_size=12) | st.text(max_size=20),
    st.dictionaries(st.text(max_size=8), st.none() | st.integers(), max_size=2),
)
def test_any_text_raises_adapter_errors_alone(name: str, params: dict[str, Any]) -> None:
    try:
        made = strategy(name, params)
    except AdapterError:
        return
    assert strategy(name_of(made), params_of(made)) == made


def test_making_strategies_draws_nothing() -> None:
    before = torch.get_rng_state()
    for name in (*STRATEGIES, *COMPOSITES):
        strategy(name)
    assert torch.equal(before, torch.get_rng_state())
