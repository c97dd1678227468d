"""Strategies as people write them: what is read, what is written back, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation.errors import EvaluationError
from app.evaluation.specs import Scalar, Spec, check_specs, parse_specs


def texts(*words: str) -> list[str]:
    return [spec.text for spec in parse_specs(words)]


@pytest.mark.parametrize(
    "written",
    [
        "source,bn,adabn+lame:memory=64,when=correlated,unmix_tns",
        "source bn adabn+lame:memory=64 when=correlated unmix_tns",
        " source, bn,\nadabn+lame:memory=64, when=correlated,\tunmix_tns,",
        "source,bn,adabn+lame:when=correlated,memory=64,unmix_tns",
    ],
)
def test_a_word_with_an_equals_sign_belongs_to_the_strategy_before_it(written: str) -> None:
    assert parse_specs([written]) == [
        Spec("source"),
        Spec("bn"),
        Spec("adabn+lame", (("memory", 64), ("when", "correlated"))),
        Spec("unmix_tns"),
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("1e-3", 0.001),
        ("-2", -2),
        ("true", True),
        ("false", False),
        ("null", None),
        ("knn", "knn"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("[1]", "[1]"),
        ('"true"', "true"),
        ('"2"', "2"),
        ("a=b:c", "a=b:c"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_values_are_scalars_of_json_and_else_text(written: str, value: Scalar) -> None:
    (spec,) = parse_specs([f"adabn:lame.x={written}"])
    assert spec.params == {"lame.x": value}
    assert type(spec.params["lame.x"]) is type(value)


def test_repeated_strategies_are_parsed_once() -> None:
    assert texts("bn,source", "adabn:momentum=0.2", "source", "adabn:momentum=0.20") == [
        *("bn", "source", "adabn:momentum=0.2")
    ]
    with pytest.raises(EvaluationError, match="without a strategy before"):
        parse_specs(["bn", "momentum=0.2"])


def test_values_of_other_types_are_other_specs() -> None:
    assert texts("a:x=1,b,a:x=true,a:x=1.0") == ["a:x=1", "b", "a:x=true", "a:x=1.0"]


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.sampled_from(["true", "1.5", "null", '"x"', "a:b", "[]", "x=y"])
)
SPECS = st.builds(
    lambda name, params: Spec(name, tuple(sorted(params.items()))), WORDS, st.dictionaries(WORDS, VALUES, max_size=3)
)


@given(st.lists(SPECS, max_size=4, unique_by=lambda spec: spec.text))
def test_text_of_a_spec_round_trips(specs: list[Spec]) -> None:
    read = parse_specs([",".join(spec.text for spec in specs)]) if specs else []
    assert [(spec.strategy, repr(spec.hyperparameters)) for spec in read] == [
        (spec.strategy, repr(spec.hyperparameters)) for spec in specs
    ]


@pytest.mark.parametrize("written", ["", ",", "a:", ":x=1", "a:x", "a:=1", "a:x=", "a:x=1,x=2", "a:x=1,=2", "=1"])
def test_invalid_specs_are_refused(written: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        parse_specs([written])
    assert "momentum=0.2" in refused.value.hint


@pytest.mark.parametrize("written", ["magic", "adabn:speed=1", "adabn:momentum=fast", "adabn:momentum=-1"])
def test_unknown_strategies_are_refused_by_name(written: str) -> None:
    with pytest.raises(EvaluationError, match=f"'{written}' cannot be evaluated"):
        check_specs(parse_specs(["source", written]))


def test_known_strategies_pass() -> None:
    check_specs(parse_specs(["source,bn,adabn:momentum=0.2,reference_images=null,unmix_tns"]))
