"""Adapters that take all sites at once: sound ones pass, each broken one is told how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel, Moments, Request, Site, Statistics
from adapters.base import Adapter
from adapters.checks import CHECKS, check_adapter
from adapters.engine import joint_steps
from adapters.errors import StateError
from adapters.evidence import Evidence
from adapters.joint import AnySite, JointAdapter
from adapters.number import Number
from tests.nets import Dense, images, seeded


@dataclass(frozen=True)
class Sound(JointAdapter[Any]):
    """A running average, to be broken in one way at a time."""

    batched = True

    def init(self, site: Site) -> Any:
        return site.trained

    def foresee(self, site: AnySite, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(state.mean, state.var)

    def learn(self, site: AnySite, state: Any, moments: Moments) -> Any:
        return state.toward(moments.pooled(), 0.1)


class Nothing(NamedTuple):
    pass


class Counted(NamedTuple):
    mean: Tensor
    var: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Stateless(Sound):
    """The trained statistics, without an axis for streams, and no state."""

    def init(self, site: Site) -> Any:
        return Nothing()

    def foresee(self, site: AnySite, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(site.mean, site.var)

    def learn(self, site: AnySite, state: Any, moments: Moments) -> Any:
        return state


@dataclass(frozen=True)
class Shared(Sound):
    """The trained statistics, without an axis for streams, whatever it remembers."""

    def foresee(self, site: AnySite, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(site.mean, site.var)


@dataclass(frozen=True)
class NoAxis(Sound):
    def init(self, site: Site) -> Any:
        return Counted(*site.trained, torch.tensor(0.0))


@dataclass(frozen=True)
class ChannelsFirst(Sound):
    def init(self, site: Site) -> Any:
        return Counted(*site.trained, torch.zeros(site.channels, 3))


@dataclass(frozen=True)
class ReadsPixels(Sound):
    def learn(self, site: AnySite, state: Any, moments: Moments) -> Any:
        return state.toward(moments.pooled(unbiased=True), 0.1)


@dataclass(frozen=True)
class ReadsEps(Sound):
    def foresee(self, site: Any, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(state.mean, state.var + site.eps)


@dataclass(frozen=True)
class AveragesAllSites(Sound):
    def foresee(self, site: AnySite, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(state.mean, state.var.mean(-1, keepdim=True).expand_as(state.var))


@dataclass(frozen=True)
class OwnHalf(Sound):
    """Normalizes every image half with its own statistics."""

    def own_weight(self, evidence: Evidence | None) -> Number:
        return 0.5

    def refine(self, site: Site, statistics: Statistics, weight: Number, moments: Moments) -> Statistics:
        rows = statistics.expand_to(moments.mean)
        return rows.toward(Statistics(moments.mean, moments.var), 0.5)


@dataclass(frozen=True)
class ReadsFirstAxis(Sound):
    """Sound for one stream at one site only, and does not promise more."""

    batched = False

    def foresee(self, site: AnySite, state: Any, evidence: Evidence | None) -> Statistics:
        return Statistics(state.mean, state.var.mean(0, keepdim=True).expand_as(state.var))


@pytest.mark.parametrize("adapter", [Sound(), Stateless(), Shared(), OwnHalf()], ids=repr)
def test_sound_ones_pass(adapter: Adapter[Any]) -> None:
    check_adapter(adapter)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (NoAxis(), r"one entry per channel, or one at every site.*\[\(\)\]"),
        (ChannelsFirst(), r"not \[\(1, 3\), \(2, 3\), \(5, 3\)\] at sites of \[1, 2, 5\] channels: change init"),
        (ReadsPixels(), "learn differs for sites side by side.*do not read moments.pixels"),
        (ReadsEps(), "'JointSite' object has no attribute 'eps': read its mean, var, precision, spread"),
        (AveragesAllSites(), "foresee differs for sites side by side.*adapters.joint.averages"),
    ],
    ids=repr,
)
def test_broken_ones_are_told_how_to_mend_it(adapter: Adapter[Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        CHECKS["joint"](adapter)


@pytest.mark.parametrize("adapter", [NoAxis(), ChannelsFirst()], ids=repr)
def test_a_model_refuses_states_that_cannot_lie_side_by_side(adapter: Adapter[Any]) -> None:
    with pytest.raises(StateError, match="is a JointAdapter: the last axis"):
        AdaptiveModel(seeded(Dense), adapter)(images(1))


@pytest.mark.parametrize("adapter", [Stateless(), Shared()], ids=repr)
def test_statistics_that_streams_share_are_used_for_each_however_many_there_are(
    adapter: Adapter[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_steps, "CHUNK_NUMBERS", 1)
    model, source = AdaptiveModel(seeded(Dense), adapter), seeded(Dense).eval()
    for answer, image in zip(model.predict([Request(images(1, k), str(k)) for k in range(3)]), range(3), strict=True):
        torch.testing.assert_close(answer.logits, source(images(1, image)), rtol=1e-4, atol=1e-4)


def test_one_that_does_not_promise_leading_axes_steps_site_by_site() -> None:
    model = AdaptiveModel(seeded(Dense), ReadsFirstAxis())
    together = model.predict([Request(images(1, k), str(k)) for k in range(3)])
    for k, answer in enumerate(together):
        alone = AdaptiveModel(seeded(Dense), ReadsFirstAxis()).predict([Request(images(1, k))])[0]
        torch.testing.assert_close(answer.logits, alone.logits, rtol=1e-5, atol=1e-5)
