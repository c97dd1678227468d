"""IABN: a slow loop from the formula, the battery, and what k does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adapters import Moments, ParameterError, Site, Statistics
from adapters.checks import check_adapter
from adapters.normalization.iabn import IABN
from tests.adapters.test_loops import SLOW, World

VARIANTS: list[dict[str, Any]] = [
    {},
    {"k": 0.0},
    {"momentum": 0.01, "reference_images": 64},
    {"momentum": 1.0, "reference_images": None},
]
worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 5),
    pixels=st.integers(1, 7),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)


@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_strategy_passes_the_battery(params: dict[str, Any]) -> None:
    check_adapter(IABN(**params))


@SLOW
@given(worlds, st.sampled_from([0.0, 0.5, 4.0]), st.sampled_from([0.05, 1.0]), st.sampled_from([None, 4]))
def test_loop(world: World, k: float, momentum: float, reference: int | None) -> None:
    adapter = IABN(k=k, momentum=momentum, reference_images=reference)
    means, variances = world.site.mean.tolist(), world.site.var.tolist()
    for x, (used, state) in zip(world.requests, world.steps(adapter), strict=True):
        rows = used.mean.expand(len(x), -1), used.var.expand(len(x), -1)
        for c, (mean, var) in enumerate(zip(means, variances, strict=True)):
            for i, image in enumerate(x):
                expected = _corrected(image[c], mean, var + world.site.eps, var, k)
                assert (float(rows[0][i, c]), float(rows[1][i, c])) == pytest.approx(expected, rel=1e-9, abs=1e-9)
            values = [float(v) for image in x for v in image[c]]
            if len(values) > 1:
                kept = (1 - momentum) ** (1.0 if reference is None else len(x) / reference)
                shown = _unbiased(values)
                means[c], variances[c] = (
                    kept * old + (1 - kept) * new for old, new in zip((mean, var), shown, strict=True)
                )
        assert state.mean.tolist() == pytest.approx(means, rel=1e-9, abs=1e-9)
        assert state.var.tolist() == pytest.approx(variances, rel=1e-9, abs=1e-9)


def _unbiased(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def _corrected(values: Tensor, mean: float, lifted: float, var: float, k: float) -> tuple[float, float]:
    """What normalizes an image's values: the stream's statistics and what exceeds k standard errors."""
    size = len(values)
    if size < 2:
        return mean, var
    own_mean, own_var = _unbiased([float(v) for v in values])
    shift = _soft(own_mean - mean, k * math.sqrt(lifted / size))
    growth = _soft(own_var - var, k * lifted * math.sqrt(2 / (size - 1)))
    return mean + shift, max(0.0, var + growth)


def _soft(difference: float, threshold: float) -> float:
    if abs(difference) <= threshold:
        return 0.0
    return difference - threshold if difference > 0 else difference + threshold


def _site() -> Site:
    a, b, c, d = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    return Site("s", a, b.square() + 0.1, c, d, 1e-5)


def _seen(pixels: int, images: int = 3) -> Moments:
    generator = torch.Generator().manual_seed(2)
    mean, var = torch.randn(images, 5, generator=generator), torch.rand(images, 5, generator=generator)
    return Moments(mean, var if pixels > 1 else 0 * var, pixels)


def test_without_a_threshold_each_image_is_normalized_with_its_own_statistics() -> None:
    site, seen = _site(), _seen(9)
    used, _ = IABN(k=0.0).step(site, site.trained, seen)
    torch.testing.assert_close(used.mean, seen.mean)
    torch.testing.assert_close(used.var, seen.var * 9 / 8)


def test_with_a_large_threshold_each_is_normalized_as_the_stream_is() -> None:
    site = _site()
    used, _ = IABN(k=1e6).step(site, site.trained, _seen(9))
    assert torch.equal(used.mean, site.mean.expand(3, -1))
    assert torch.equal(used.var, site.var.expand(3, -1))


def test_other_images_of_the_request_do_not_touch_an_answer() -> None:
    site, seen = _site(), _seen(4)
    together, _ = IABN().step(site, site.trained, seen)
    alone, _ = IABN().step(site, site.trained, Moments(seen.mean[1:2], seen.var[1:2], 4))
    assert torch.equal(together.mean[1:2], alone.mean)
    assert torch.equal(together.var[1:2], alone.var)


def test_one_value_per_image_is_normalized_with_the_streams_statistics() -> None:
    site = _site()
    state = Statistics(site.mean + 1, site.var + 2)
    used, after = IABN().step(site, state, _seen(1))
    assert used is state
    assert not torch.equal(after.mean, state.mean)
    assert IABN().step(site, state, _seen(1, images=1))[1] is state


@pytest.mark.parametrize("params", [{"k": -1.0}, {"momentum": 0.0}, {"momentum": 2.0}, {"reference_images": 0}])
def test_hyperparameters_out_of_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(params))):
        IABN(**params)
