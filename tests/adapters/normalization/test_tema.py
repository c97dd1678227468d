"""TEMA: the published table, what lies between its sizes, a slow loop, the battery."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters import Moments, ParameterError, Site, Statistics
from adapters.checks import check_adapter
from adapters.normalization.tema import SIZES, Tema
from tests.adapters.test_loops import SLOW, World

VARIANTS: list[dict[str, Any]] = [
    {},
    {"sizes": "imagenet"},
    {"small": 0.3, "medium": 0.1, "large": 0.5, "unbiased": True},
]
PUBLISHED = {
    "cifar": {1: 0.01, 2: 0.01, 4: 0.1, 16: 0.1, 64: 1.0, 200: 1.0},
    "imagenet": {1: 0.01, 2: 0.01, 4: 0.01, 16: 0.1, 64: 0.1, 200: 1.0},
}
worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 3),
    pixels=st.integers(1, 4),
    sizes=st.lists(st.sampled_from([1, 2, 3, 5, 16, 20, 64, 70]), min_size=1, max_size=3),
)


@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_strategy_passes_the_battery(params: dict[str, Any]) -> None:
    check_adapter(Tema(**params))
    assert Tema(**params).linear


@pytest.mark.parametrize("sizes", SIZES)
def test_the_published_table(sizes: str) -> None:
    adapter = Tema(sizes=sizes)
    assert {n: adapter.momentum(n) for n in PUBLISHED[sizes]} == PUBLISHED[sizes]


@pytest.mark.parametrize("sizes", SIZES)
def test_between_the_sizes_of_the_table_the_weight_grows_without_a_jump(sizes: str) -> None:
    adapter, steepest = Tema(sizes=sizes), math.log2(10)  # tenfold from 2 to 4 images
    for n in range(1, 300):
        growth = adapter.momentum(n + 1) / adapter.momentum(n)
        assert 1.0 <= growth < 1.0001 * ((n + 1) / n) ** steepest


def test_half_way_in_logarithms_is_the_geometric_mean() -> None:
    assert Tema().momentum(32) == pytest.approx(math.sqrt(0.1 * 1.0))
    assert Tema(small=0.04, medium=0.25, sizes="imagenet").momentum(8) == pytest.approx(math.sqrt(0.04 * 0.25))


def _slow(images: int) -> float:
    """The weight of a request, for small images."""
    known = [1, 2, 4, 16, 64, 200]
    low = max(n for n in known if n <= images)
    high = min(n for n in known if n >= images)
    p, q = PUBLISHED["cifar"][low], PUBLISHED["cifar"][high]
    return p if low == high else math.exp(math.log(p) + math.log(q / p) * math.log(images / low) / math.log(high / low))


@SLOW
@given(worlds, st.booleans())
def test_loop(world: World, unbiased: bool) -> None:
    means, variances = world.site.mean.tolist(), world.site.var.tolist()
    for x, (used, state) in zip(world.requests, world.steps(Tema(unbiased=unbiased)), strict=True):
        pace, values = _slow(len(x)), len(x) * x.shape[2]
        for c in range(world.channels) if values > 1 else ():
            shown = [float(v) for image in x for v in image[c]]
            mean = math.fsum(shown) / values
            var = math.fsum((v - mean) ** 2 for v in shown) / (values - int(unbiased))
            means[c] = (1 - pace) * means[c] + pace * mean
            variances[c] = (1 - pace) * variances[c] + pace * var
        for found in (used, state):
            assert found.mean.tolist() == pytest.approx(means, rel=1e-9, abs=1e-9)
            assert found.var.tolist() == pytest.approx(variances, rel=1e-9, abs=1e-9)


def test_a_large_request_is_normalized_by_itself_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    seen = Moments(torch.randn(64, 3, generator=generator), torch.rand(64, 3, generator=generator), 4)
    ones, zeros = torch.ones(3), torch.zeros(3)
    used, after = Tema().step(Site("s", zeros, ones, ones, zeros, 1e-5), Statistics(zeros + 7, ones), seen)
    assert torch.equal(used.mean, seen.pooled().mean)
    torch.testing.assert_close(after.mean, seen.pooled().mean)


@pytest.mark.parametrize("params", [{"small": 0.0}, {"medium": 1.1}, {"large": -1.0}, {"sizes": "mnist"}])
def test_hyperparameters_out_of_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(params))):
        Tema(**params)
