"""Slow float64 loops written from the published formulas, against `step` in float64, over generated requests."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import AnyAdapter, Moments, Site, Statistics
from adapters import adapter as strategy

SLOW = settings(max_examples=15, deadline=None, derandomize=True)
Activations = list[list[list[float]]]  # image, channel, position


class World:
    """A site, and three requests of different sizes as plain activations."""

    def __init__(self, seed: int, channels: int, pixels: int, sizes: list[int]) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        parts = (normal(channels), normal(channels).square() + 0.1, normal(channels), normal(channels))
        self.site = Site("loop", *parts, 1e-5)
        self.channels = channels
        self.requests = [2 * normal(n, channels, pixels) + 3 * normal(1, channels, 1) for n in sizes]

    def steps(self, adapter: AnyAdapter) -> list[tuple[Statistics, Any]]:
        """What the adapter gives for each request in turn."""
        state, given = adapter.init(self.site), []
        for x in self.requests:
            seen = Moments(x.mean(2), x.var(2, correction=0), x.shape[2])
            used, state = adapter.step(self.site, state, seen)
            given.append((used, state))
        return given


worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 5),
    pixels=st.integers(2, 7),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)


def _batch(x: Tensor, channel: int, correction: int) -> tuple[float, float]:
    """Mean and variance over all images and positions of a channel."""
    values = [float(v) for image in x for v in image[channel]]
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / (len(values) - correction)


def _near(actual: Tensor, expected: list[float] | list[list[float]]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@SLOW
@given(worlds, st.booleans(), st.sampled_from([0.0, 0.1, 0.9, 1.0, None]))
def test_alpha_bn(world: World, unbiased: bool, weight: float | None) -> None:
    adapter = strategy("alpha_bn", {"source_weight": weight, "unbiased": unbiased})
    for x, (used, _) in zip(world.requests, world.steps(adapter), strict=True):
        a = 16 / (16 + len(x)) if weight is None else weight
        for c in range(world.channels):
            mean, var = _batch(x, c, int(unbiased))
            assert float(used.mean[c]) == pytest.approx(a * float(world.site.mean[c]) + (1 - a) * mean, abs=1e-9)
            assert float(used.var[c]) == pytest.approx(a * float(world.site.var[c]) + (1 - a) * var, abs=1e-9)


@SLOW
@given(worlds, st.sampled_from([0.0, 1.0, 16.0, 256.0]))
def test_prior_counts_the_source_as_that_many_images(world: World, prior: float) -> None:
    for x, (used, _) in zip(world.requests, world.steps(strategy("alpha_bn", {"prior": prior})), strict=True):
        n = len(x)
        for c in range(world.channels):
            expected = (prior * float(world.site.mean[c]) + n * _batch(x, c, 0)[0]) / (prior + n)
            assert float(used.mean[c]) == pytest.approx(expected, abs=1e-9)


@SLOW
@given(worlds)
def test_bn(world: World) -> None:
    for x, (used, _) in zip(world.requests, world.steps(strategy("bn")), strict=True):
        pairs = [_batch(x, c, 0) for c in range(world.channels)]
        _near(used.mean, [mean for mean, _ in pairs])
        _near(used.var, [var for _, var in pairs])


@SLOW
@given(worlds, st.booleans(), st.booleans(), st.sampled_from([None, 1, 16]))
def test_adabn_running(world: World, own: bool, unbiased: bool, reference: int | None) -> None:
    adapter = strategy("adabn", {"momentum": 0.2, "own": own, "unbiased": unbiased, "reference_images": reference})
    means, variances = world.site.mean.tolist(), world.site.var.tolist()
    for x, (used, state) in zip(world.requests, world.steps(adapter), strict=True):
        w = 0.2 if reference is None else 1 - 0.8 ** (len(x) / reference)
        before = list(means), list(variances)
        for c in range(world.channels):
            mean, var = _batch(x, c, int(unbiased))
            means[c] = (1 - w) * means[c] + w * mean
            variances[c] = (1 - w) * variances[c] + w * var
        after = means, variances
        _near(used.mean, (after if own else before)[0])
        _near(used.var, (after if own else before)[1])
        _near(state.mean, means)
        _near(state.var, variances)


@SLOW
@given(worlds)
def test_adabn_cumulative_is_the_statistics_of_all_images_seen(world: World) -> None:
    seen: list[Tensor] = []
    for x, (used, state) in zip(world.requests, world.steps(strategy("adabn", {"cumulative": True})), strict=True):
        seen.append(x)
        pairs = [_batch(torch.cat(seen), c, 0) for c in range(world.channels)]
        _near(used.mean, [mean for mean, _ in pairs])
        _near(used.var, [var for _, var in pairs])
        assert float(state.values) == sum(len(part) for part in seen) * x.shape[2]


@SLOW
@given(worlds, st.sampled_from([0.05, 0.5, 1.0]))
def test_robust_bn(world: World, momentum: float) -> None:
    means, variances = world.site.mean.tolist(), world.site.var.tolist()
    for x, (used, state) in zip(
        world.requests, world.steps(strategy("robust_bn", {"momentum": momentum})), strict=True
    ):
        for c in range(world.channels):
            mean, var = _batch(x, c, 0)
            means[c] = (1 - momentum) * means[c] + momentum * mean
            variances[c] = (1 - momentum) * variances[c] + momentum * var
        for part in (used, state):
            _near(part.mean, means)
            _near(part.var, variances)


def _cosine(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.hypot(*a) * math.hypot(*b))


def _shares(image: list[float], components: list[list[float]], temperature: float) -> list[float]:
    scores = [_cosine(image, component) / temperature for component in components]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


def _mixture(m: list[float], v: list[float], x: list[float], y: list[float], p: list[float]) -> tuple[float, float]:
    """Mean and variance that normalize one channel of one image, term by term as published.

    ``m``, ``v`` are the components' means and variances, ``x``, ``y`` the image's, ``p`` its shares; one per component.
    """
    k = len(m)
    mus = [(1 - share) * mean + share * own for share, mean, own in zip(p, m, x, strict=True)]
    sigmas = [(1 - share) * var + share * own for share, var, own in zip(p, v, y, strict=True)]
    mean = math.fsum(mus) / k
    return mean, math.fsum(sigmas) / k + math.fsum(mu**2 for mu in mus) / k - mean**2


@SLOW
@given(worlds, st.sampled_from([1, 2, 5, 16]), st.sampled_from(["centred", "random"]), st.sampled_from([None, 64]))
def test_unmix_tns(world: World, components: int, start: str, reference: int | None) -> None:
    params = {"components": components, "start": start, "reference_images": reference, "temperature": 0.2}
    adapter = strategy("unmix_tns", params)
    begun = adapter.init(world.site)
    m, v = begun.means.tolist(), begun.vars.tolist()  # [K][C]
    for x, (used, state) in zip(world.requests, world.steps(adapter), strict=True):
        n = len(x)
        own = [[_batch(x[i : i + 1], c, 0) for c in range(world.channels)] for i in range(n)]
        p = [_shares([mean for mean, _ in image], m, 0.2) for image in own]
        for i in range(n):
            for c in range(world.channels):
                mean, var = own[i][c]
                column = [row[c] for row in m], [row[c] for row in v]
                expected = _mixture(*column, [mean] * components, [var] * components, p[i])
                assert float(used.mean[i, c]) == pytest.approx(expected[0], abs=1e-8)
                assert float(used.var[i, c]) == pytest.approx(expected[1], abs=1e-8)
        w = 0.1 if reference is None else 1 - 0.9 ** (n / reference)
        for k in range(components):
            for c in range(world.channels):
                m_kc, v_kc = m[k][c], v[k][c]
                m[k][c] += w * math.fsum(p[i][k] * (own[i][c][0] - m_kc) for i in range(n)) / n
                v[k][c] += w * math.fsum(p[i][k] * (own[i][c][1] - v_kc) for i in range(n)) / n
        _near(state.means, m)
        _near(state.vars, v)


@SLOW
@given(worlds, st.integers(2, 32))
def test_a_centred_start_is_the_trained_statistics_exactly(world: World, components: int) -> None:
    begun = strategy("unmix_tns", {"components": components}).init(world.site)
    for c in range(world.channels):
        means, variances = begun.means[:, c].tolist(), begun.vars[:, c].tolist()
        mean = math.fsum(means) / components
        var = math.fsum(variances) / components + math.fsum((m - mean) ** 2 for m in means) / components
        assert mean == pytest.approx(float(world.site.mean[c]), abs=1e-6)
        assert var == pytest.approx(float(world.site.var[c]), rel=1e-5)


def test_a_random_start_has_the_published_spread() -> None:
    # m_k = mean + std sqrt(K / (2 (K - 1))) z_k: over many channels the deviation is known to a percent.
    site = Site("wide", torch.full((20_000,), 2.0), torch.full((20_000,), 9.0), torch.ones(1), torch.zeros(1), 1e-5)
    begun = strategy("unmix_tns", {"start": "random"}).init(site)
    deviation = float((begun.means - 2.0).square().mean().sqrt())
    assert deviation == pytest.approx(3.0 * math.sqrt(0.5 * 16 / 15), rel=0.01)
    assert float((begun.means.mean(0) - 2.0).std()) == pytest.approx(0.183 * 3.0, rel=0.02)
    assert bool((begun.vars == 4.5).all())


def test_starts_differ_by_site_and_seed_and_by_nothing_else() -> None:
    trained = (torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(4))
    one, two = Site("one", *trained, 1e-5), Site("two", *trained, 1e-5)
    first, second = strategy("unmix_tns"), strategy("unmix_tns", {"seed": 1})
    assert not torch.equal(first.init(one).means, first.init(two).means)
    assert not torch.equal(first.init(one).means, second.init(one).means)
    assert torch.equal(first.init(one).means, strategy("unmix_tns").init(one).means)
