"""James-Stein shrinkage: a slow loop from the formula, the battery, and when it adapts and when it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters import Moments, ParameterError, Site
from adapters.checks import check_adapter
from adapters.normalization.james_stein import JamesStein
from adapters.sites import Sites
from tests.adapters.test_loops import SLOW, World, worlds
from tests.nets import Dense, Twice, seeded
from tests.sample_streams import ERRORS, SORTED, Stream, send

VARIANTS: list[dict[str, Any]] = [
    {},
    {"independent_images": 8.0, "horizon": 3},
    {"prior_images": 0, "horizon": 1},
    {"adapted_depth": 0.0},
]


@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_james_stein_passes_the_battery(params: dict[str, Any]) -> None:
    check_adapter(JamesStein(**params))


@SLOW
@given(worlds, st.sampled_from([1.0, 3.0]), st.sampled_from([0, 4]))
def test_statistics_are_those_of_a_loop_over_all_images_so_far(world: World, independent: float, prior: int) -> None:
    adapter = JamesStein(independent_images=independent, prior_images=prior)
    site, shown = world.site, []
    known = [*site.mean.tolist(), *site.var.tolist()]
    for x, (used, state) in zip(world.requests, world.steps(adapter), strict=True):
        shown += [[channel.double() for channel in image] for image in x]
        n, channels = len(shown), site.channels
        means = [[float(image[c].mean()) for image in shown] for c in range(channels)]
        mean = [sum(of) / n for of in means]
        within = [sum(float(image[c].var(correction=0)) for image in shown) / n for c in range(channels)]
        between = [sum((one - mean[c]) ** 2 for one in of) / n for c, of in enumerate(means)]
        trained, scale = site.mean.tolist(), (site.var + site.eps).tolist()
        shift = sum((mean[c] - trained[c]) ** 2 / scale[c] for c in range(channels)) / channels
        spread = sum(between[c] / scale[c] for c in range(channels)) / channels
        chance = (n * spread + prior * shift) / max(1, n - 1 + prior)
        weight = 1 - min(1.0, chance / independent / max(shift, 1e-12))
        learned = [m + weight * (mean[c] - m) for c, m in enumerate(trained)]
        learned += [v + weight * (within[c] + between[c] - v) for c, v in enumerate(site.var.tolist())]
        # A single image meets what was learned before it.
        assert torch.cat(used).tolist() == pytest.approx(known if len(x) == 1 else learned, rel=1e-6, abs=1e-6)
        known = learned
        assert (state.averages[0].tolist(), float(state.images)) == (pytest.approx(mean, rel=1e-6, abs=1e-6), n)


def test_averages_forget_what_lies_beyond_the_horizon() -> None:
    site = Site("bn", torch.zeros(1), torch.ones(1), torch.ones(1), torch.zeros(1), 0.0)
    adapter, old, new = JamesStein(horizon=10), Moments(torch.full((5, 1), 9.0), torch.ones(5, 1), 4), torch.zeros(5, 1)
    state = adapter.init(site)
    for _ in range(4):
        state = adapter.step(site, state, old)[1]
    for _ in range(40):
        state = adapter.step(site, state, Moments(new, torch.ones(5, 1), 4))[1]
    assert float(state.images) == 10
    assert abs(float(state.averages[0])) < 1e-6
    assert abs(float(state.averages[2])) < 1e-6


@pytest.mark.parametrize("images", [1, 4])
def test_a_new_stream_starts_from_the_trained_statistics(images: int) -> None:
    site = Site("bn", torch.zeros(3), torch.ones(3), torch.ones(3), torch.zeros(3), 1e-5)
    far = Moments(5 + 0.1 * torch.randn(images, 3), torch.ones(images, 3), 16)
    statistics, _ = JamesStein(prior_images=10**6).step(site, JamesStein().init(site), far)
    torch.testing.assert_close(statistics.mean, site.mean, rtol=0, atol=1e-4)
    one = JamesStein().step(site, JamesStein().init(site), Moments(far.mean[:1], far.var[:1], 16))[0]
    torch.testing.assert_close(one.mean, site.mean, rtol=0, atol=1e-5)


def test_deep_sites_keep_the_trained_statistics() -> None:
    site = Site("bn", torch.zeros(1), torch.ones(1), torch.ones(1), torch.zeros(1), 1e-5, depth=0.9)
    adapter, far = JamesStein(prior_images=0), Moments(torch.full((8, 1), 5.0), torch.ones(8, 1), 16)
    assert adapter.step(site, adapter.init(site), far)[0] == site.trained
    deeper = JamesStein(prior_images=0, adapted_depth=0.9)
    assert float(deeper.step(site, deeper.init(site), far)[0].mean) > 4.9


def test_sites_know_their_depth_among_those_that_are_reached() -> None:
    sites = Sites(seeded(Dense))
    assert [site.depth for site in sites] == [0.0, 1 / 3, 2 / 3, 1.0]
    sites.keep({0, 2, 3})
    assert [site.depth for site in sites] == [0.0, 0.5, 1.0]
    twice = Sites(seeded(Twice))
    twice.position("bn", 2)
    assert {site.name: site.depth for site in twice} == {"bn": 0.0, "last": 1.0, "bn#2": 0.0}


@pytest.mark.parametrize("params", [{"independent_images": 0.5}, {"horizon": 0}, {"prior_images": -1}], ids=str)
def test_impossible_hyperparameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        JamesStein(**params)


@pytest.mark.parametrize("size", [1, 10])
def test_one_class_after_another_costs_nothing_on_clean_images_and_gains_on_noise(size: int) -> None:
    streams = [
        Stream(name, (of,), SORTED, (size,))
        for name in ("source", "james_stein", "adabn")
        for of in ("clean", "gaussian_noise")
    ]
    send(set(streams))
    clean, noise = (
        {stream.name: ERRORS[stream][of] for stream in streams if of in stream.shown}
        for of in ("clean", "gaussian_noise")
    )
    assert clean["james_stein"] <= clean["source"] + 1 < clean["adabn"]
    assert noise["james_stein"] <= noise["source"] - 10
