"""Explanations: weights are those that normalize, evidence is what the stream has, and words say both."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters import (
    AdaBN,
    AdaptiveModel,
    Averages,
    Cofa,
    Evidence,
    Explanation,
    Key,
    Lame,
    Leaning,
    Moments,
    Request,
    Shrinkage,
    Site,
    Tema,
    Temperature,
    adapter,
    names,
    strategy,
)
from adapters.evidence import new_evidence
from tests.nets import Tiny, images, seeded


def explained(name: str, requests: int = 5, images_each: int = 16, **params: Any) -> Explanation:
    model = AdaptiveModel(seeded(Tiny), strategy(name, params))
    for k in range(requests):
        model.predict([Request(images(images_each, k))])
    ((key, memory),) = model.memories().items()
    return model.explain(key, memory)


@pytest.mark.parametrize("name", names("adapter"))
def test_weights_sum_up_to_one_or_are_missing(name: str) -> None:
    found = explained(name)
    if (leaning := found.leaning) is not None:
        assert leaning.request + leaning.memory + leaning.trained == pytest.approx(1.0, abs=1e-5)
        assert min(leaning.request, leaning.memory, leaning.trained) >= 0
    assert (found.evidence is not None) == adapter(name).reads_evidence
    assert found.is_corrected is None
    assert found.images == 80


@pytest.mark.parametrize("name", names("adapter"))
def test_adapters_that_read_spreads_tell_whether_domains_are_mixed(name: str) -> None:
    assert explained(name).is_mixture is (False if adapter(name).reads_spread else None)


def test_a_mixture_is_told_in_numbers_and_words_once_the_evidence_of_it_is_published() -> None:
    model = AdaptiveModel(seeded(Tiny), "shrinkage")
    told: list[Explanation] = []
    for k in range(3):
        levels = torch.arange(16).remainder(3).sub(1).mul(6.0)[:, None, None, None]  # three domains in turn
        model.predict([Request(images(16, k) * (levels / 6).exp() + levels)])
        ((key, memory),) = model.memories().items()
        told.append(model.explain(key, memory))
    assert [explanation.is_mixture for explanation in told] == [False, True, True]
    words = "The contrast of images differs by more than their content explains"
    assert [words in explanation.in_words() for explanation in told] == [False, True, True]


def test_without_spreads_nothing_is_said_of_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.model.measure_spread", lambda *_: {})
    found = explained("shrinkage")
    assert found.is_mixture is None
    assert "mixed" not in found.in_words()


def test_source_leans_on_the_trained_statistics_and_bn_on_the_request() -> None:
    source, bn = explained("source").leaning, explained("bn").leaning
    assert source is not None
    assert bn is not None
    assert (source.trained, bn.request) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["adabn", "auto", "source", "unmix_tns+lame"])
def test_a_new_stream_has_an_explanation(name: str) -> None:
    model = AdaptiveModel(seeded(Tiny))
    found = model.explain(Key("new", strategy(name)), None)
    assert (found.images, found.alarm) == (0, None)
    if name != "unmix_tns+lame":
        assert found.leaning is not None
        assert found.leaning.memory == 0


@pytest.mark.parametrize(("requests", "images_each"), [(1, 1), (3, 2), (5, 16)])
@pytest.mark.parametrize("tested", [AdaBN(), AdaBN(reference_images=None), Tema()], ids=["images", "requests", "tema"])
def test_a_running_average_still_holds_a_share_of_the_trained_statistics_that_it_began_with(
    tested: AdaBN | Tema, requests: int, images_each: int
) -> None:
    site = Site("bn", torch.zeros(6), torch.full((6,), 1000.0), torch.ones(6), torch.zeros(6), 0.0)
    state = tested.init(site)
    for _ in range(requests):
        _, state = tested.step(site, state, Moments(torch.zeros(images_each, 6), torch.zeros(images_each, 6), 16))
    share = float(state.var[0]) / 1000.0
    assert tested.remaining(requests, requests * images_each) == pytest.approx(share, rel=1e-4, abs=1e-6)


def test_the_remaining_share_of_the_trained_statistics_counts_as_trained() -> None:
    found = explained("adabn", requests=1, images_each=1).leaning
    assert found is not None
    assert found.trained > 0.9
    later = explained("adabn", requests=20, images_each=32).leaning
    assert later is not None
    assert later.memory > 0.8


@pytest.mark.parametrize(("name", "params"), [("adabn", {"cumulative": True}), ("rotta", {})])
def test_an_average_of_unknown_weights_has_no_leaning(name: str, params: dict[str, Any]) -> None:
    model = AdaptiveModel(seeded(Tiny), strategy(name, params))
    model(images(3))
    ((key, memory),) = model.memories().items()
    assert model.explain(key, memory).leaning is None


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
    assert leaning.averages is not None
    assert leaning.averages == pytest.approx((9.0, 1.0 + 9.0 * (independence or 0.0), 200.0))


def test_a_new_site_leans_on_the_trained_statistics() -> None:
    shrinkage = adapter("shrinkage")
    site = Site("bn", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), 0.0)
    leaning = shrinkage.leaning(site, shrinkage.init(site), None)
    assert leaning is not None
    assert tuple(leaning) == (0.0, 0.0, 1.0, None)


def test_averages_that_never_let_go_have_no_alarm() -> None:
    found = explained("james_stein")
    assert found.alarm is None
    assert found.leaning is not None
    assert found.leaning.averages is not None
    assert found.leaning.averages.images == 80


@pytest.mark.parametrize("size", [1, 4, 16, 64])
def test_a_change_of_the_images_raises_the_alarm_and_a_steady_stream_does_not(size: int) -> None:
    model, generator = (
        AdaptiveModel(seeded(Tiny), Shrinkage(adapted_depth=1.0), bound=math.inf),
        torch.Generator().manual_seed(1),
    )

    def show(count: int, brightness: float) -> Explanation:
        for _ in range(0, count, size):
            model(brightness + torch.randn(size, 3, 8, 8, generator=generator))
        ((key, memory),) = model.memories().items()
        return model.explain(key, memory)

    steady, changed = show(max(96, 4 * size), 0.0), show(max(8, size), 20.0)
    assert steady.alarm is not None
    assert changed.alarm is not None
    assert not steady.alarm.is_raised
    assert changed.alarm.is_raised
    assert "100 % of the adapting layers have dropped" in changed.in_words()
    assert f"of its {changed.images} images" in changed.in_words()


@pytest.mark.parametrize("size", [1, 64])
def test_a_new_stream_raises_no_alarm_though_its_images_are_extreme(size: int) -> None:
    model = AdaptiveModel(seeded(Tiny), Shrinkage(adapted_depth=1.0), bound=30.0)
    for _ in range(2):
        model(10.0 + torch.randn(size, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    ((key, memory),) = model.memories().items()
    assert model.explain(key, memory).alarm == (0.0, False)


@pytest.mark.parametrize(("when", "expected"), [("always", True), ("never", False), ("correlated", False)])
def test_a_corrector_tells_whether_it_changes_answers(when: str, expected: bool) -> None:
    model = AdaptiveModel(seeded(Tiny), strategy("auto", {"lame.when": when}))
    model(images(3))
    ((key, memory),) = model.memories().items()
    found = model.explain(key, memory)
    assert found.is_corrected is expected
    assert [part.name for part in found.corrections] == ["lame"]
    assert Lame(when=when).is_active(Lame(when=when).init(4, 3)) is expected


def test_correctors_without_a_condition_are_active_where_they_change_something() -> None:
    assert Temperature(2.0).is_active(Temperature(2.0).init(0, 3))
    assert not Temperature(1.0).is_active(Temperature(1.0).init(0, 3))
    assert not Cofa().is_active(Cofa().init(0, 3))
    found = explained("cofa+temperature", temperature=2.0)
    assert found.in_words().endswith("Answers are corrected by cofa and temperature.")


def test_words_say_what_the_numbers_do() -> None:
    words = explained("auto", requests=1, images_each=3).in_words()
    assert "of the training data (" in words
    assert "average its 3 images, which count as 1 independent one: there are too few answers yet" in words
    assert "Answers are not corrected: lame corrects only while predictions repeat more often than by chance." in words
    later = explained("shrinkage").in_words()
    assert "average its 80 images, which count as" in later
    assert "the last 64 answers" in later
    assert (
        explained("source").in_words() == "The next image is normalized with statistics of the training data (100 %)."
    )
    assert explained("unmix_tns").in_words().startswith("The strategy does not say how far it leans on")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.0, 0.0, 1.0, 0.0), "too few answers yet"),
        ((300.0, 0.0, 90.0, 0.2), "too few classes (20 % of full class diversity) to tell content from appearance"),
        (
            (300.0, 0.4, 2.5, 0.99),
            "ne image in 2.5 shows something new (the last 300 answers have 99 % of full",
        ),
        (
            (64.0, 0.9, 1.1, 0.97),
            "early every image shows something new (the last 64 answers have 97 % of full",
        ),
    ],
)
def test_words_tell_kinds_of_evidence_apart(numbers: tuple[float, ...], words: str) -> None:
    evidence = Evidence(*(torch.tensor([number]) for number in (*numbers, 0.3, 0.0)))
    leaning = Leaning(0.01, 0.69, 0.3, Averages(140.4, 1.0, 200.0))
    assert words in Explanation(None, evidence, images=384).in_words()
    assert "average 140 of its 384 images, which count as 1 independent one: " in (
        found := Explanation(leaning, evidence, images=384).in_words()
    )
    assert words in found


def test_numbers_of_an_explanation_are_finite() -> None:
    found = explained("auto")
    assert found.leaning is not None
    assert all(math.isfinite(weight) for weight in found.leaning[:3])


@pytest.mark.parametrize("images", [math.nan, math.inf])
def test_numbers_of_a_plugin_that_are_not_finite_do_not_stop_the_words(images: float) -> None:
    leaning = Leaning(0.0, 0.5, 0.5, Averages(images, independent=images))
    assert "This stream's statistics average" in Explanation(leaning, images=4).in_words()
