"""Export and restore: a stream goes on where it was, and what does not belong here is refused."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from adapters import STRATEGIES, AdaBN, AdaptiveModel, Request, RobustBN, StateError, UnknownStrategyError, UnMixTNS
from tests.nets import Dense, Head1d, Tiny, Twice, images, seeded

WRONG: list[Any] = [None, "states.pt", []]


def _saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("build", [Head1d, Dense, Twice])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_restored_model_goes_on_as_the_exported_one(name: str, build: type[nn.Module]) -> None:
    model, fresh = AdaptiveModel(seeded(build), name), AdaptiveModel(seeded(build), name)
    model.predict([Request(images(3)), Request(images(2, 1), "b"), Request(images(1, 2), 7, UnMixTNS(components=3))])
    fresh.load_state_dict(_saved_and_loaded(model.state_dict()))
    later = [Request(images(2, 3)), Request(images(1, 4), "b"), Request(images(1, 5), 7, UnMixTNS(components=3))]
    for ours, theirs in zip(fresh.predict(later), model.predict(later), strict=True):
        assert torch.equal(ours.logits, theirs.logits)
        assert (ours.step, ours.updated) == (theirs.step, theirs.updated)


def test_an_export_is_a_copy_and_a_restore_makes_one() -> None:
    model = AdaptiveModel(seeded(Tiny))
    model(images(4))
    state = model.state_dict()
    kept = copy.deepcopy(state)
    model(images(4, 1))
    assert torch.equal(state["streams"][0]["row"], kept["streams"][0]["row"])
    model.load_state_dict(state)
    state["streams"][0]["row"].zero_()
    assert torch.equal(model.state_dict()["streams"][0]["row"], kept["streams"][0]["row"])


def test_a_restore_replaces_all_streams() -> None:
    model = AdaptiveModel(seeded(Tiny))
    model(images(2), stream="a")
    state = model.state_dict()
    model(images(2), stream="b")
    model.load_state_dict(state)
    assert [entry["stream"] for entry in model.state_dict()["streams"]] == ["a"]


def test_an_export_names_strategy_and_all_hyperparameters() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn", momentum=0.5)
    model(images(2))
    model(images(2))
    entry = model.state_dict()["streams"][0]
    assert (entry["stream"], entry["strategy"], entry["steps"]) == ("default", "adabn", 2)
    assert AdaBN(**entry["params"]) == AdaBN(momentum=0.5)


def _with(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**state, "streams": [{**entry, **changes} for entry in state["streams"]]}


def test_an_invalid_state_is_refused_and_nothing_changes() -> None:
    model = AdaptiveModel(seeded(Tiny))
    model(images(2))
    state = model.state_dict()
    other = AdaptiveModel(seeded(Dense))
    other(images(2))
    part = AdaptiveModel(seeded(lambda: nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))))
    whole = AdaptiveModel(seeded(lambda: nn.Sequential(nn.BatchNorm2d(3))))
    renamed = AdaptiveModel(seeded(lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6))))
    renamed(images(2))
    wrong = StateError, "exported from a network with other BatchNorm layers"
    cases: list[tuple[AdaptiveModel, Any, type[Exception], str]] = [
        *((model, wrong, StateError, "expected a mapping, as state_dict") for wrong in WRONG),
        (model, {}, StateError, "expected a state of format 6, got None"),
        (model, {**state, "format": 1}, StateError, "expected a state of format 6, got 1"),
        (model, {"format": 4, "sites": []}, StateError, "expected a state of format 6"),
        (model, other.state_dict(), *wrong),
        (model, renamed.state_dict(), *wrong),  # as many numbers, but of another layer
        (part, whole.state_dict(), *wrong),
        (whole, part.state_dict(), *wrong),
        (model, _with(state, row=torch.zeros(5)), StateError, "the state has 5 numbers, but this strategy needs"),
        (model, _with(state, strategy="unmix_tns", params={}), StateError, "but this strategy needs"),
        (model, _with(state, strategy="gone"), UnknownStrategyError, "unknown strategy 'gone'"),
    ]
    for target, given, error, words in cases:
        before = target.state_dict()["streams"]
        with pytest.raises(error, match=words):
            target.load_state_dict(given)
        after = target.state_dict()["streams"]
        assert len(after) == len(before)
        for a, b in zip(after, before, strict=True):
            assert torch.equal(a["row"], b["row"])
            assert a["steps"] == b["steps"]


@dataclass(frozen=True)
class Unregistered(RobustBN):
    """A strategy without a name."""


def test_a_model_restores_its_own_adapter_without_a_registration() -> None:
    model = AdaptiveModel(nn.BatchNorm2d(3), Unregistered(momentum=0.2))
    x = torch.randn(4, 3, 5, 5)
    model(x)
    saved = model.state_dict()
    expected = model(x, update=False)
    model.reset()
    model.load_state_dict(saved)
    assert torch.equal(model(x, update=False), expected)


def test_a_state_with_values_that_are_not_finite_is_refused() -> None:
    model = AdaptiveModel(nn.BatchNorm2d(3), "adabn")
    model(torch.randn(4, 3, 5, 5))
    saved = model.state_dict()
    saved["streams"][0]["row"][1] = torch.nan
    with pytest.raises(StateError, match="'default' holds values that are not finite"):
        model.load_state_dict(saved)


def test_a_state_of_another_type_is_converted() -> None:
    model = AdaptiveModel(nn.BatchNorm2d(3), "adabn")
    model(torch.randn(4, 3, 5, 5))
    saved = model.state_dict()
    saved["streams"][0]["row"] = saved["streams"][0]["row"].double()
    model.load_state_dict(saved)
    assert model.state_dict()["streams"][0]["row"].dtype == torch.float32
