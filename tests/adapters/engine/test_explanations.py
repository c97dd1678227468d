"""Explanations: weights are those that normalize, evidence is what the stream has, and words say both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel, Explanation, Lame, Moments, Request, Site, adapter, names, strategy
from adapters.evidence import new_evidence
from tests.nets import Tiny, images, seeded


def explained(name: str, requests: int = 5, images_each: int = 16) -> Explanation:
    model = AdaptiveModel(seeded(Tiny), strategy(name))
    for k in range(requests):
        model.predict([Request(images(images_each, k))])
    ((key, memory),) = model.memories().items()
    return model.explain(key, memory)


@pytest.mark.parametrize("name", names("adapter"))
def test_weights_sum_up_to_one_or_are_missing(name: str) -> None:
    found = explained(name)
    if found.leaning is not None:
        assert sum(found.leaning) == pytest.approx(1.0, abs=1e-5)
        assert min(found.leaning) >= 0
    assert (found.evidence is not None) == adapter(name).reads_evidence
    assert found.is_corrected is None


def test_source_leans_on_the_trained_statistics_and_bn_on_the_request() -> None:
    source, bn = explained("source").leaning, explained("bn").leaning
    assert source is not None
    assert bn is not None
    assert (source.trained, bn.request) == (1.0, 1.0)


@pytest.mark.parametrize("independence", [None, 0.0, 0.7])
def test_the_weight_of_the_trained_statistics_is_that_of_the_step(independence: float | None) -> None:
    shrinkage = adapter("shrinkage")
    site = Site("bn", torch.zeros(6), torch.ones(6), torch.ones(6), torch.zeros(6), 0.0)
    evidence = None
    if independence is not None:
        evidence = new_evidence()._replace(independence=torch.tensor([independence]))
    seen: Tensor = 1.0 + 0.5 * torch.randn(9, 6, generator=torch.Generator().manual_seed(4))
    statistics, state = shrinkage.step(site, shrinkage.init(site), Moments(seen, torch.ones(9, 6), 16, evidence))
    leaning = shrinkage.leaning(site, state, evidence)
    assert leaning is not None
    assert 0 < leaning.trained < 1
    torch.testing.assert_close(statistics.mean, (1 - leaning.trained) * state.averages[0], rtol=1e-5, atol=1e-5)
    assert leaning.request == 0.0


def test_a_new_site_leans_on_the_trained_statistics() -> None:
    shrinkage = adapter("shrinkage")
    site = Site("bn", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), 0.0)
    assert shrinkage.leaning(site, shrinkage.init(site), None) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("when", "expected"), [("always", True), ("never", None), ("correlated", False)])
def test_a_corrector_tells_whether_it_changes_answers(when: str, expected: bool | None) -> None:
    model = AdaptiveModel(seeded(Tiny), strategy("auto", {"lame.when": when}))
    model(images(3))
    ((key, memory),) = model.memories().items()
    assert model.explain(key, memory).is_corrected in (expected, bool(expected))
    assert Lame(when=when).is_active(Lame(when=when).init(4, 3)) is bool(expected)


def test_words_say_what_the_numbers_do() -> None:
    words = explained("auto", requests=1).in_words()
    assert "trained statistics" in words
    assert "too few answers yet" in words
    assert "answers are" in words
    later = explained("shrinkage").in_words()
    assert "the last 64 answers show a class diversity of" in later
    assert explained("unmix_tns").in_words() == "the strategy does not say what its answers lean on"
