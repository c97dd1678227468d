"""The grammar of names: parts in order, what goes without saying, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
from torch import Tensor

from adapters import (
    STRATEGIES,
    AdaBN,
    AlphaBN,
    Cofa,
    CombinationError,
    Composite,
    Core,
    Corrector,
    Descent,
    DuplicateStrategyError,
    Lame,
    ParameterError,
    RobustBN,
    RoTTA,
    Shrinkage,
    Source,
    Temperature,
    Tent,
    UnknownStrategyError,
    UnMixTNS,
    adapter,
    name_of,
    parts_of,
    register,
    schema_of,
    strategy,
    whole,
)


@dataclass(frozen=True)
class Sharpen(Descent):
    """A learner of another package, for an adapter of a third one."""

    adapter: ClassVar[str] = "elsewhere"

    def loss(self, logits: Tensor) -> Tensor:
        return -logits.softmax(1).square().sum()


class Empty(NamedTuple):
    """Nothing."""


@dataclass(frozen=True)
class Final(Corrector[Empty]):
    """Another corrector after which there can be none."""

    last: ClassVar[bool] = True

    def init(self, features: int, classes: int) -> Empty:
        return Empty()

    def correct(self, state: Empty, features: Tensor, logits: Tensor) -> tuple[Tensor, Empty]:
        return logits.softmax(1), state


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(STRATEGIES)
    register("sharpen", Sharpen)
    register("final", Final)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


# Parts


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("adabn", AdaBN()),
        ("tent", Composite(STRATEGIES["bn"](), Tent())),
        ("core", Composite(AlphaBN(), Core())),
        ("rotta", Composite(RobustBN(), RoTTA())),
        ("lame", Composite(Source(), None, (Lame(),))),
        ("temperature", Composite(Source(), None, (Temperature(),))),
        ("unmix_tns+lame", Composite(UnMixTNS(), None, (Lame(),))),
        ("rotta+lame", Composite(RobustBN(), RoTTA(), (Lame(),))),
        ("cofa+tent+unmix_tns", Composite(UnMixTNS(), Tent(), (Cofa(),))),
        ("cofa+temperature", Composite(Source(), None, (Cofa(), Temperature()))),
        ("temperature+cofa", Composite(Source(), None, (Temperature(), Cofa()))),
    ],
)
def test_a_name_gives_its_parts(name: str, meant: Any) -> None:
    assert strategy(name) == meant


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("source", ["source"]),
        ("lame", ["source", "lame"]),
        ("lame+rotta", ["robust_bn", "rotta", "lame"]),
        ("lame+tent+adabn", ["adabn", "tent", "lame"]),
        ("temperature+adabn+cofa+lame", ["adabn", "temperature", "cofa", "lame"]),
        ("cofa+temperature+tent", ["bn", "tent", "cofa", "temperature"]),
    ],
)
def test_parts_have_one_order(name: str, parts: list[str]) -> None:
    assert parts_of(name) == parts


@pytest.mark.parametrize("name", ["unmix_tns tent lame", "unmix_tns + tent + lame", "unmix_tns+tent lame"])
def test_plus_signs_may_arrive_as_spaces(name: str) -> None:
    assert parts_of(name) == ["unmix_tns", "tent", "lame"]
    assert strategy(name, {"memory": 4}) == strategy("unmix_tns+tent+lame", {"memory": 4})


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("bn+tent", "tent"),
        ("tent+bn", "tent"),
        ("source+lame", "lame"),
        ("robust_bn+rotta+lame", "rotta+lame"),
        ("source+tent", "source+tent"),
        # The learner, not the corrector, says what goes without saying.
        ("source+tent+lame", "source+tent+lame"),
        ("lame+adabn", "adabn+lame"),
        ("cofa+adabn+lame", "adabn+cofa+lame"),
        ("cofa+temperature", "cofa+temperature"),
        ("temperature+cofa", "temperature+cofa"),
    ],
)
def test_one_strategy_has_one_name(name: str, canonical: str) -> None:
    assert name_of(strategy(name)) == canonical
    assert strategy(canonical) == strategy(name)


def test_the_adapter_is_left_out_only_by_its_class() -> None:
    tent = strategy("tent+unmix_tns", {"components": 4})
    assert name_of(tent) == "unmix_tns+tent"
    rotta = strategy("rotta", {"momentum": 0.5})
    assert name_of(rotta) == "rotta"
    assert whole(rotta).adapter == RobustBN(momentum=0.5)


def test_an_adapter_alone() -> None:
    assert adapter("adabn", {"momentum": 0.5}) == AdaBN(momentum=0.5)
    for name in ("tent", "adabn+lame"):
        with pytest.raises(CombinationError, match=rf"'{name.replace('+', '.')}' is not a single adapter: .*parts "):
            adapter(name)


# What is refused


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "magic",
            "unknown strategy 'magic': choose one of auto, source, bn, .*, temperature, or several joined by '\\+'",
        ),
        ("adabn+magic", "unknown strategy 'magic' in 'adabn\\+magic': choose one of auto, source"),
        ("adabn:momentum=0.2", r"joined by '\+'; hyperparameters go in params, such as {\"momentum\": 0.2}"),
        ("lame+adabn(momentum=0.2)", "hyperparameters go in params"),
        ("AdaBN", "unknown strategy 'AdaBN'"),
        ("adabn,lame", "unknown strategy 'adabn,lame': choose one of .* several joined by '\\+'"),
        ("", "strategy '' has an empty part: write one name, or several joined by '\\+', such as unmix_tns\\+lame"),
        ("+", "empty part"),
        ("adabn+", "strategy 'adabn\\+' has an empty part"),
        (" adabn", "strategy ' adabn' has an empty part"),
        ("adabn++lame", "empty part"),
    ],
)
def test_unknown_parts(name: str, says: str) -> None:
    for ask in (strategy, parts_of, schema_of, adapter):
        with pytest.raises(UnknownStrategyError, match=says):
            ask(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "adabn+bn",
            "'adabn+bn' cannot be combined: adabn and bn both normalize, and a strategy normalizes once: name one",
        ),
        ("tent+adabn+source", "adabn and source both normalize"),
        (
            "tent+rotta",
            "'tent+rotta' cannot be combined: tent and rotta both learn the same affine parameters: name one",
        ),
        ("cofa+cofa", "'cofa+cofa' cannot be combined: cofa appears twice; remove one"),
        ("adabn+adabn", "adabn appears twice"),
        ("cofa+temperature+cofa", "cofa appears twice"),
        ("lame+temperature", "lame gives probabilities, and temperature needs the network's scores"),
        ("lame+temperature", "write temperature+lame"),
        ("lame+cofa+adabn+temperature", "write adabn+cofa+temperature+lame"),
    ],
)
def test_parts_that_cannot_be_combined(name: str, says: str) -> None:
    for ask in (strategy, parts_of, schema_of):
        with pytest.raises(CombinationError) as caught:
            ask(name)
        assert says in str(caught.value)
    assert issubclass(CombinationError, ParameterError)


@pytest.mark.parametrize("wrong", [None, AdaBN(), AdaBN, ["adabn"]], ids=str)
def test_a_name_that_is_no_text_is_refused(wrong: Any) -> None:
    for ask in (strategy, parts_of, schema_of):
        with pytest.raises(UnknownStrategyError, match="name of a strategy must be text, such as 'adabn', not "):
            ask(wrong)


@pytest.mark.parametrize("wrong", [0.2, "momentum=0.2", ["momentum"], {1: 0.2}], ids=str)
def test_params_that_are_no_mapping_of_names_are_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match=r'params must be a mapping, such as \{"momentum": 0.2\}, not '):
        strategy("adabn", wrong)


def test_the_name_suggested_by_an_error_is_a_strategy() -> None:
    with pytest.raises(CombinationError) as caught:
        strategy("lame+tent+cofa")
    assert name_of(strategy(str(caught.value).rpartition("write ")[2])) == "tent+cofa+lame"


@pytest.mark.parametrize("second", [Cofa(), Lame(), Temperature()])
def test_composites_made_by_hand_follow_the_rules_too(second: Any) -> None:
    with pytest.raises(CombinationError, match=r"Lame gives .*: name \w+ before Lame|only once"):
        Composite(Source(), None, (Lame(), second))


def test_two_last_correctors_are_refused(registered: None) -> None:
    with pytest.raises(CombinationError, match="lame and final must both come last: name one of them"):
        strategy("lame+final")
    assert name_of(strategy("cofa+final")) == "cofa+final"


def test_a_learner_whose_adapter_is_not_installed(registered: None) -> None:
    with pytest.raises(UnknownStrategyError, match="sharpen needs 'elsewhere', which is not installed: choose an"):
        strategy("sharpen+lame")
    assert name_of(strategy("adabn+sharpen+lame")) == "adabn+sharpen+lame"


def test_a_combination_stands_for_its_parts_wherever_it_is_named() -> None:
    auto = strategy("auto")
    assert auto == strategy("shrinkage+lame") == Composite(Shrinkage(), correctors=(Lame(),))
    assert (name_of(auto), parts_of("auto")) == ("auto", ["shrinkage", "lame"])
    assert name_of(strategy("auto", {"lame.when": "never", "horizon": 50})) == "auto"
    assert name_of(strategy("auto+tent")) == "shrinkage+tent+lame"
    assert parts_of("cofa+auto") == ["shrinkage", "cofa", "lame"]
    assert schema_of("auto") == schema_of("shrinkage+lame")
    with pytest.raises(CombinationError, match="both normalize"):
        strategy("adabn+auto")
    with pytest.raises(CombinationError, match="not a single adapter"):
        adapter("auto")
    with pytest.raises(DuplicateStrategyError, match=r"'auto' is shrinkage\+lame: choose another name"):
        register("auto", AdaBN)
