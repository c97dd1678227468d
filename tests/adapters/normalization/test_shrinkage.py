"""Shrinkage: a slow loop from the formula, with evidence and with changes, and what a stream is after a change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adapters import AdaptiveModel, Evidence, Moments, Request, Shrinkage, Site, adapter, strategy
from adapters.evidence import new_evidence
from adapters.joint import JointSite
from adapters.normalization.shrunk_averages import AveragesState
from tests.adapters.test_loops import SLOW, World, worlds
from tests.nets import Tiny, images, seeded


class Loop:
    """The formula of one site, one channel and one number after another."""

    def __init__(self, site: Site, params: Shrinkage) -> None:
        self.params, self.channels = params, site.channels
        self.trained, self.trained_var = site.mean.tolist(), site.var.tolist()
        self.scale = (site.var + site.eps).tolist()
        self.mean, self.within = list(self.trained), list(self.trained_var)
        self.between, self.count, self.spread = [0.0] * self.channels, 0.0, site.spread
        self.contrast, self.level, self.contrast_spread = 0.0, 0.0, site.contrast_spread

    def average(self, squares: list[float]) -> float:
        shares: list[float] = [square / scale for square, scale in zip(squares, self.scale, strict=True)]
        return sum(shares) / self.channels

    def step(self, x: Tensor, independence: float | None, mixture: float) -> list[tuple[list[float], list[float]]]:
        """Mean and variance of each image."""
        n, all_channels = len(x), range(self.channels)
        means = [[float(image[c].mean()) for image in x] for c in all_channels]
        mean = [sum(of) / n for of in means]
        within = [sum(float(image[c].var(correction=0)) for image in x) / n for c in all_channels]
        moved = [(mean[c] - self.mean[c]) ** 2 for c in all_channels]
        met = self._statistics(independence, mixture)
        share = n / self._count(n, moved, within)
        squares = 0.0
        for image in x:
            variance = self.average([float(channel.var(correction=0)) for channel in image])
            old_level, self.level = self.level, math.log(max(variance, 1e-12))
            squares += min((self.level - old_level) ** 2 / 2, 4 * self.contrast_spread)
        self.contrast += min(1.0, n / max(32, self._usual_count(n))) * (squares / n - self.contrast)
        self.count = n / share
        for c in all_channels:
            spread = sum((one - mean[c]) ** 2 for one in means[c]) / n
            self.between[c] = (1 - share) * self.between[c] + share * spread + share * (1 - share) * moved[c]
            self.mean[c] += share * (mean[c] - self.mean[c])
            self.within[c] += share * (within[c] - self.within[c])
        if n > 1:
            met = self._statistics(independence, mixture)
        return [self._drawn(image, met, mixture) for image in x]

    def _drawn(
        self, image: Tensor, met: tuple[list[float], list[float]], weight: float
    ) -> tuple[list[float], list[float]]:
        own = [float(channel.mean()) for channel in image], [float(channel.var(correction=0)) for channel in image]
        distance = self.average([(mine - theirs) ** 2 for mine, theirs in zip(own[0], met[0], strict=True)])
        share = 0.0 if math.isinf(self.spread) else weight * max(0.0, 1.0 - self.spread / max(distance, 1e-12))
        return self._toward(met[0], own[0], share), self._toward(met[1], own[1], share)

    def _statistics(self, independence: float | None, mixture: float) -> tuple[list[float], list[float]]:
        weight = self._weight(independence) * (1 - mixture * (1 - (independence or 0.0)))
        total = [within + between for within, between in zip(self.within, self.between, strict=True)]
        return self._toward(self.trained, self.mean, weight), self._toward(self.trained_var, total, weight)

    def _usual_count(self, n: int) -> float:
        return min(self.count, max(0, self.params.horizon - n)) + n

    def _count(self, n: int, moved: list[float], within: list[float]) -> float:
        usual = self._usual_count(n)
        excess = self.average(moved) / max((self.params.alarm + 3 / n) * self.average(self.between), 1e-12)
        ratio = math.log(max(self.average(within), 1e-12) / max(self.average(self.within), 1e-12))
        surprise = max(1.0, excess, ratio**2 / self.params.alarm / math.log(4) ** 2)
        return max(usual / surprise**2, min(usual, 2 * n))

    def _weight(self, independence: float | None) -> float:
        shift = self.average([(mean - trained) ** 2 for mean, trained in zip(self.mean, self.trained, strict=True)])
        prior = self.params.prior_images
        chance = (self.count * self.average(self.between) + prior * shift) / max(1, self.count - 1 + prior)
        independent = self.params.independent_images + 2 * self.count * (independence or 0.0)
        return 1 - min(1.0, chance / max(independent * shift, 1e-12))

    @staticmethod
    def _toward(start: list[float], target: list[float], weight: float) -> list[float]:
        return [a + weight * (b - a) for a, b in zip(start, target, strict=True)]


@SLOW
@given(
    worlds,
    st.sampled_from([None, 0.0, 0.4, 1.0]),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from([0, 4]),
    st.sampled_from([math.inf, 2.0, 0.1, 0.001]),
    st.sampled_from([0.0, 1.0]),
)
def test_statistics_are_those_of_a_loop(
    world: World, independence: float | None, alarm: float, prior: int, spread: float, mixture: float
) -> None:
    params = Shrinkage(alarm=alarm, prior_images=prior, horizon=6)
    site = replace(world.site, spread=spread, contrast_spread=0.1 * spread)
    loop, state = Loop(site, params), params.init(site)
    evidence = None
    if independence is not None:
        numbers = (torch.tensor([number], dtype=torch.float64) for number in (independence, mixture))
        evidence = new_evidence()._replace(**dict(zip(("independence", "mixture"), numbers, strict=True)))
    for x in world.requests:
        moments = Moments(x.mean(2), x.var(2, correction=0), x.shape[2], evidence)
        statistics, state = params.step(site, state, moments)
        rows = [row.tolist() for row in statistics.expand_to(moments.mean)]
        for place, (mean, var) in enumerate(loop.step(x, independence, mixture if evidence else 0.0)):
            assert rows[0][place] == pytest.approx(mean, rel=1e-6, abs=1e-6)
            assert rows[1][place] == pytest.approx(var, rel=1e-6, abs=1e-6)
        assert float(state.images) == pytest.approx(loop.count, rel=1e-6)
        assert state.contrast.flatten().tolist() == pytest.approx([loop.contrast, loop.level], rel=1e-6, abs=1e-9)


def _shown(adapter: Shrinkage, means: list[float], images: int = 4) -> tuple[float, float]:
    """The running mean and the images behind it after requests around each of the means, of spread 0.1."""
    site = Site("bn", torch.zeros(8), torch.ones(8), torch.ones(8), torch.zeros(8), 0.0)
    generator, state = torch.Generator().manual_seed(0), adapter.init(site)
    for mean in means:
        seen = mean + 0.1 * torch.randn(images, 8, generator=generator)
        _, state = adapter.step(site, state, Moments(seen, torch.ones(images, 8), 64))
    return float(state.averages[0].mean()), float(state.images)


@pytest.mark.parametrize("images", [1, 4, 16])
def test_averages_follow_a_change_within_a_few_requests(images: int) -> None:
    mean, count = _shown(Shrinkage(), [0.0] * 100 + [3.0] * 4, images)
    assert mean > 2.2
    assert count < 10 * images
    steady, usual = _shown(Shrinkage(alarm=1e6), [0.0] * 100 + [3.0] * 4, images)
    assert steady < 1.0
    assert usual >= 100


def test_averages_of_a_steady_stream_look_back_on_the_horizon() -> None:
    for size in (1, 4):
        mean, count = _shown(Shrinkage(), [0.0] * 400, size)
        assert abs(mean) < 0.05
        assert count > 100


@pytest.mark.parametrize(("mixture", "left"), [(0.0, 1.9), (1.0, 0.02)])
def test_an_image_of_a_mixture_is_normalized_with_its_own_statistics(mixture: float, left: float) -> None:
    """Half of the images lie at -2 and half at 2, with a content that spreads them by 0.1."""
    site = Site("bn", torch.zeros(8), torch.ones(8), torch.ones(8), torch.zeros(8), 0.0, spread=0.01)
    noise = torch.randn(64, 8, generator=torch.Generator().manual_seed(2))
    means = torch.tensor([-2.0, 2.0] * 32)[:, None] + 0.1 * noise
    evidence = new_evidence()._replace(mixture=torch.tensor([mixture]))
    statistics, _ = Shrinkage().step(site, Shrinkage().init(site), Moments(means, torch.ones_like(means), 64, evidence))
    offset = float((statistics.expand_to(means)[0] - means).square().mean().sqrt())
    assert offset == pytest.approx(left, abs=0.15 if not mixture else 0.02)


def test_domains_count_as_mixed_where_content_does_not_explain_how_images_differ() -> None:
    sites = [
        Site(f"bn{k}", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), 0.0, contrast_spread=spread)
        for k, spread in enumerate((0.1, 0.1, 0.1, 0.1, 0.1, math.inf))
    ]
    joint, adapter = JointSite.of(sites), Shrinkage()
    for ratios, before, expected in (
        ([9.0, 9.0, 0.3, 0.3, 0.3, 9.0], 0.0, 0.0),  # less than half of the layers that have a spread
        ([9.0, 0.6, 0.5, 0.3, 0.3, 0.0], 0.0, 1.0),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.0], 0.0, 0.0),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.0], 1.0, 1.0),  # it goes on until contrast differs by less than one domain's
        ([0.1, 0.1, 0.3, 0.3, 0.3, 0.0], 1.0, 1.0),
        ([0.1, 0.1, 0.1, 0.3, 0.3, 9.0], 1.0, 0.0),
    ):
        state = AveragesState(torch.zeros(1, 3, 12), torch.ones(1, 6), 0.1 * torch.tensor([[ratios, ratios[::-1]]]))
        assert float(adapter.find_mixture(joint, state, torch.tensor([[before]]))) == expected, ratios


def test_a_mixture_is_found_by_a_model_and_told_from_one_domain() -> None:
    model = AdaptiveModel(seeded(Tiny), "shrinkage")
    for k in range(12):
        domains = (torch.arange(8) % 4)[:, None, None, None]
        mixed = (
            images(8, k) * torch.tensor([0.2, 1.0, 2.0, 0.5])[domains] + torch.tensor([-3.0, 0.0, 3.0, 6.0])[domains]
        )
        model.predict([Request(mixed, "mixed"), Request(images(8, k), "one domain")])
    found = {key.stream: model.explain(key, memory) for key, memory in model.memories().items()}
    for stream, is_mixed in (("mixed", True), ("one domain", False)):
        explanation = found[stream]
        assert explanation.evidence is not None
        assert explanation.leaning is not None
        assert bool(explanation.evidence.mixture) == is_mixed
        assert (explanation.leaning.request > 0.0) == is_mixed
        assert ("as where domains are mixed" in explanation.in_words()) == is_mixed
        assert sum(explanation.leaning[:3]) == pytest.approx(1.0)


def _contrasts(levels: Tensor, images: int) -> list[float]:
    """The contrast of a stream after each request, of images whose logarithms of variance are these."""
    site = Site("bn", torch.zeros(8), torch.ones(8), torch.ones(8), torch.zeros(8), 0.0, contrast_spread=1.0)
    adapter, state, found = Shrinkage(), Shrinkage().init(site), list[float]()
    for part in torch.split(levels, images):
        _, state = adapter.step(site, state, Moments(torch.zeros(len(part), 8), part.exp()[:, None].expand(-1, 8), 64))
        found.append(float(state.contrast[0]))
    return found


@pytest.mark.parametrize("images", [1, 16])
def test_a_change_of_domain_is_no_mixture(images: int) -> None:
    """Two domains whose logarithms of variance differ by 2: in no order these have a variance of 1."""
    first, last = torch.zeros(800), torch.full((800,), 2.0)
    assert max(_contrasts(torch.cat([first, last]), images)) < 0.1
    order = torch.randperm(1600, generator=torch.Generator().manual_seed(1))
    assert _contrasts(torch.cat([first, last])[order], images)[-1] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("images", [1, 16])
def test_a_black_frame_is_no_mixture(images: int) -> None:
    levels = torch.zeros(800)
    levels[300::200] = -30.0
    assert max(_contrasts(levels, images)) < 0.5 * Shrinkage().mixture


def test_more_independent_images_draw_a_stream_further_from_training() -> None:
    site = Site("bn", torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(4), 0.0)
    images = Moments(0.5 + 0.5 * torch.randn(32, 4, generator=torch.Generator().manual_seed(1)), torch.ones(32, 4), 64)
    found = []
    for independence in (0.0, 0.1, 1.0):
        evidence: Evidence = new_evidence()._replace(independence=torch.tensor([independence]))
        statistics, _ = Shrinkage().step(site, Shrinkage().init(site), images._replace(evidence=evidence))
        found.append(float(statistics.mean.mean()))
    assert found[0] < found[1] < found[2] < 0.6


def test_a_queue_across_periods_of_evidence_is_answered_as_one_by_one() -> None:
    auto, waiting = strategy("auto"), [images(n, 40 + n) for n in (20, 1, 12, 30, 1, 40, 2)]
    batched, single = AdaptiveModel(seeded(Tiny), auto), AdaptiveModel(seeded(Tiny), auto)
    answers = batched.predict([Request(part, "a", update=k != 4) for k, part in enumerate(waiting)])
    for k, (part, answer) in enumerate(zip(waiting, answers, strict=True)):
        (expected,) = single.predict([Request(part, "a", update=k != 4)])
        torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-4, atol=1e-4)
        assert answer.step == expected.step
    (found,), (memory,) = batched.memories().values(), single.memories().values()
    torch.testing.assert_close(found.row, memory.row, rtol=1e-4, atol=1e-4)
    assert found.images == memory.images == 105


def test_evidence_outlives_lessons_that_move_the_statistics() -> None:
    with_lessons, without = (AdaptiveModel(seeded(Tiny), strategy(name)) for name in ("shrinkage+rotta", "shrinkage"))
    for model in (with_lessons, without):
        for k in range(3):
            model(images(16, 60 + k))
    head = sum(field.numel() for field in with_lessons._layout(with_lessons.adapter).split_head(torch.zeros(10_000)))
    (lessons,), (none,) = with_lessons.memories().values(), without.memories().values()
    assert lessons.row[6:8].tolist() == none.row[6:8].tolist() == [48.0, 16.0]
    assert head > 300
    assert adapter("shrinkage").reads_evidence
