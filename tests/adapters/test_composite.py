"""The normal form of a strategy, in which keys of states hold it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from adapters import (
    AdaBN,
    Adapter,
    AdaptiveModel,
    AlphaBN,
    Cofa,
    CombinationError,
    Composite,
    Key,
    Lame,
    Moments,
    PluginError,
    Request,
    Site,
    Strategy,
    Tent,
    as_composite,
    kind_of,
    name_of,
    params_of,
    strategy,
)
from adapters.checks import check_adapter


@dataclass(frozen=True)
class Unrelated:
    """The functions of an adapter, a learner and a corrector, without their base classes."""

    def init(self, *_: object) -> tuple[()]:
        return ()

    def step(self, *_: object) -> None: ...

    def learn(self, *_: object) -> None: ...

    def correct(self, *_: object) -> None: ...


@pytest.mark.parametrize("part", [AdaBN(), AlphaBN(), strategy("adabn", {"momentum": 0.5})], ids=repr)
def test_an_adapter_and_its_composite_are_one_strategy(part: AdaBN) -> None:
    composite = Composite(part)
    assert Key("a", part) == Key("a", composite)
    assert hash(Key("a", part)) == hash(Key("a", composite))
    assert Key("a", part).strategy == composite
    assert Key("a", part).adapter == part  # which may be an equal one, met before
    assert (name_of(part), params_of(part)) == (name_of(composite), params_of(composite))


def test_a_stream_goes_on_whether_its_adapter_is_named_alone_or_as_a_composite() -> None:
    model = AdaptiveModel(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "source")
    forms: list[Strategy] = [AdaBN(), Composite(AdaBN()), AdaBN()]
    answers = [model.predict([Request(torch.rand(2, 3, 4, 4), "a", form)])[0] for form in forms]
    assert [answer.step for answer in answers] == [1, 2, 3]
    assert list(model.memories()) == [Key("a", AdaBN())]


def test_a_changed_key_holds_a_composite_too() -> None:
    changed = Key("a", AdaBN())._replace(strategy=AlphaBN())  # type: ignore[arg-type]
    assert changed == Key("a", AlphaBN())
    assert changed.adapter == AlphaBN()


def test_a_model_answers_with_the_strategy_it_is_given_later() -> None:
    model = AdaptiveModel(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "adabn")
    model.strategy = AlphaBN()
    model(torch.rand(2, 3, 4, 4))
    assert list(model.memories()) == [Key("default", AlphaBN())]


class Pair(NamedTuple):
    """Statistics of a plugin's own type."""

    mean: Tensor
    var: Tensor


@dataclass(frozen=True)
class Average(Adapter[Any]):
    """Normalizes with a moving average, as a pair of its own."""

    def init(self, site: Site) -> Pair:
        return Pair(site.mean.clone(), site.var.clone())

    def step(self, site: Site, state: Any, moments: Moments) -> Any:
        pair = Pair(*(old + 0.1 * (new - old) for old, new in zip(state, moments.pooled(), strict=True)))
        return pair, pair


@pytest.mark.parametrize("streams", ["a", "ab", "aa"])
def test_statistics_may_be_any_pair(streams: str) -> None:
    model = AdaptiveModel(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), Average())
    answers = model.predict([Request(torch.rand(2, 3, 4, 4), stream) for stream in streams])
    assert all(answer.updated for answer in answers)
    check_adapter(Average())


def test_keys_always_hold_a_composite() -> None:
    for name in ("source", "tent", "lame", "adabn+tent+lame"):
        assert isinstance(Key("a", strategy(name)).strategy, Composite)
        assert Key("a", strategy(name)).strategy == as_composite(strategy(name))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((Unrelated(),), r"is not a valid adapter: it must subclass adapters\.Adapter"),
        ((AdaBN(), Unrelated()), r"is not a valid learner: it must subclass adapters\.Learner"),
        ((AdaBN(), None, (Unrelated(),)), r"is not a valid corrector: it must subclass adapters\.Corrector"),
        ((Tent(),), r"is not a valid adapter: it is a learner: pass Composite\(AdaBN\(\), learner=Tent\("),
        ((Lame(),), r"is not a valid adapter: .* pass Composite\(Source\(\), correctors=\(Lame\(.*\),\)\)"),
        ((AdaBN(), Lame()), "is not a valid learner: it is a corrector"),
        ((AdaBN(), None, (Cofa(), Tent())), "is not a valid corrector: it is a learner"),
        ((AdaBN(), None, (AdaBN(),)), "is not a valid corrector: it is an adapter: pass it first"),
        ((AdaBN,), r"is not a valid adapter: it is a class: pass an instance, AdaBN\(\)"),
        ((AdaBN(), Tent), r"is not a valid learner: it is a class: pass an instance, Tent\(\)"),
        (("adabn",), r"is not a valid adapter: it is a name: pass adapters.strategy\('adabn'\)"),
        ((None,), r"None is not a valid adapter: it must subclass adapters\.Adapter"),
        ((AdaBN(), None, Lame()), r"must be a tuple, such as \(Lame\(\),\), not Lame"),
        ((AdaBN(), None, [Lame()]), r"must be a tuple, such as \(Lame\(\),\), not \[Lame"),
    ],
    ids=str,
)
def test_a_part_of_another_kind_is_refused(parts: tuple[object, ...], words: str) -> None:
    with pytest.raises(CombinationError, match=words):
        Composite(*parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [Lame(), Tent(), AdaBN, "adabn"], ids=str)
def test_a_request_with_what_is_no_strategy_is_refused_and_moves_no_state(wrong: Any) -> None:
    model = AdaptiveModel(nn.BatchNorm2d(3))
    requests = [Request(torch.rand(2, 3, 4, 4)), Request(torch.rand(2, 3, 4, 4), strategy=wrong)]
    with pytest.raises(CombinationError, match=r"is not a valid adapter: it is a .*: pass "):
        model.predict(requests)
    assert len(model.memories()) == 0


def test_a_model_refuses_an_adapter_without_the_base_class() -> None:
    with pytest.raises(CombinationError, match="it must subclass adapters"):
        AdaptiveModel(nn.BatchNorm2d(3), Unrelated())(torch.rand(2, 3, 4, 4))  # type: ignore[arg-type]


def test_the_kind_of_a_class_is_that_of_its_base() -> None:
    assert [kind_of(cls) for cls in (AdaBN, Tent, Lame)] == ["adapter", "learner", "corrector"]
    for other in (Unrelated, AdaBN(), len):
        with pytest.raises(PluginError, match="subclasses Adapter or Learner or Corrector"):
            kind_of(other)  # type: ignore[arg-type]


def test_a_copy_of_a_composite_is_equal_and_hashes_alike() -> None:
    composite = as_composite(strategy("unmix_tns+tent+lame", {"lame.affinity": "knn"}))
    for copied in (copy.copy(composite), copy.deepcopy(composite), pickle.loads(pickle.dumps(composite))):  # noqa: S301
        assert copied == composite
        assert hash(copied) == hash(composite)
    assert [field.name for field in fields(composite)] == ["adapter", "learner", "correctors"]


def test_a_composite_from_another_process_hashes_as_one_made_here() -> None:
    """Its hyperparameters hold text, whose hash is another in every process."""
    program = (
        "import pickle, sys; from adapters import strategy; "
        "sys.stdout.buffer.write(pickle.dumps(strategy('adabn+lame', {'affinity': 'knn'})))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    here = strategy("adabn+lame", {"affinity": "knn"})
    assert {here: 1}[pickle.loads(output)] == 1  # noqa: S301
