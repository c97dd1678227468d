"""Measuring and normalizing against double precision, where it is hard as well."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import Moments, Site, Statistics
from adapters.moments import Affine, measure, normalize, spread, wasserstein

SHAPES = [(3, 4), (3, 4, 5), (3, 4, 5, 6), (3, 4, 2, 5, 6), (1, 4, 1, 1), (2, 4, 1, 1, 1), (1, 1, 2, 1)]


def _site(channels: int, eps: float = 1e-5) -> Site:
    generator = torch.Generator().manual_seed(9)
    a, b, c, d = torch.randn(4, channels, generator=generator)
    return Site("s", a, b.square() + 0.1, c, d, eps)


def affine(site: Site) -> Affine:
    return Affine(site.weight, site.bias, site.eps)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _exact(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.double().reshape(*x.shape[:2], -1)
    return flat.mean(2), flat.var(2, correction=0)


def _normalized(x: Tensor, mean: Tensor, var: Tensor, site: Site) -> Tensor:
    """In double precision; mean and var are ``[n, C]`` or ``[C]``."""
    scale = site.weight.double() / (var.double() + site.eps).sqrt()
    return (x.double() - spread(mean.double(), x)) * spread(scale, x) + spread(site.bias.double(), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_measure_is_the_mean_and_biased_variance_of_each_image(shape: tuple[int, ...]) -> None:
    x = 2 + 3 * _draw(*shape)
    centred, seen = measure(x)
    mean, var = _exact(x)
    torch.testing.assert_close(seen.mean.double(), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(seen.var.double(), var, rtol=1e-5, atol=1e-6)
    assert (seen.pixels, seen.images) == (math.prod(shape[2:]), shape[0])
    torch.testing.assert_close(centred.double(), x.double() - spread(mean, x), rtol=1e-5, atol=1e-6)


def test_measure_leaves_its_input_alone_and_owns_its_output() -> None:
    for shape in SHAPES:
        x = _draw(*shape)
        before = x.clone()
        centred, seen = measure(x)
        centred.fill_(7.0)
        assert torch.equal(x, before)
        assert torch.equal(seen.mean, _exact(before)[0].float()) or seen.pixels > 1


def test_a_mean_of_a_thousand_deviations_costs_no_precision() -> None:
    # The difference of squares would lose everything here: 1e6 + 1 in float32 keeps four bits behind the point.
    x = 1e3 + _draw(4, 8, 16, 16)
    centred, seen = measure(x)
    _, var = _exact(x)
    torch.testing.assert_close(seen.var.double(), var, rtol=1e-5, atol=0.0)
    pooled = seen.pooled()
    torch.testing.assert_close(pooled.var.double(), _pooled(x)[1], rtol=1e-5, atol=0.0)
    site = _site(8)
    expected = _normalized(x, *_pooled(x), site)
    torch.testing.assert_close(normalize(centred, seen, pooled, affine(site)).double(), expected, rtol=1e-4, atol=3e-4)


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.double().transpose(0, 1).flatten(1)
    return flat.mean(1), flat.var(1, correction=0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_a_constant_image_has_no_variance(value: float) -> None:
    centred, seen = measure(torch.full((2, 3, 7, 7), value))
    assert float(seen.var.abs().max()) <= (1e-6 * abs(value)) ** 2
    site = _site(3)
    out = normalize(centred, seen, seen.pooled(), affine(site))
    assert bool(out.isfinite().all())
    torch.testing.assert_close(out, spread(site.bias, out).expand_as(out), rtol=0.0, atol=1e-3 * max(1.0, abs(value)))


def test_a_map_of_one_position_has_no_variance_at_all() -> None:
    x = _draw(5, 3, 1, 1)
    centred, seen = measure(x)
    assert seen.pixels == 1
    assert torch.equal(seen.mean, x.flatten(1))
    assert not seen.var.any()
    assert not centred.any()
    site = _site(3)
    out = normalize(centred, seen, site.trained, affine(site))
    torch.testing.assert_close(out.double(), _normalized(x, site.mean, site.var, site), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_single(dtype: torch.dtype) -> None:
    x = (200 + 300 * _draw(2, 3, 32, 32)).to(dtype)  # the sum of squares is far beyond float16
    centred, seen = measure(x)
    mean, var = _exact(x)
    assert (centred.dtype, seen.mean.dtype, seen.var.dtype) == (torch.float32,) * 3
    torch.testing.assert_close(seen.mean.double(), mean, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(seen.var.double(), var, rtol=1e-5, atol=1e-4)


def test_memory_format_is_kept_and_changes_nothing() -> None:
    x, site = _draw(3, 8, 6, 6), _site(8)
    outs = []
    for view in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        centred, seen = measure(view)
        outs.append(normalize(centred, seen, seen.pooled(), affine(site)))
    assert outs[1].is_contiguous(memory_format=torch.channels_last)
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_normalize_is_the_formula_for_one_row_and_for_one_per_image(shape: tuple[int, ...], rows: bool) -> None:
    x, site = _draw(*shape), _site(shape[1], eps=1e-3)
    size = shape[:2] if rows else shape[1:2]
    used = Statistics(_draw(*size, seed=1), _draw(*size, seed=2).square())
    centred, seen = measure(x)
    out = normalize(centred, seen, used, affine(site))
    assert out.data_ptr() == centred.data_ptr()
    torch.testing.assert_close(out.double(), _normalized(x, used.mean, used.var, site), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 9), st.sampled_from([0.0, 10.0, 1e3])
)
def test_pooled_moments_are_the_batch_statistics(seed: int, n: int, channels: int, pixels: int, offset: float) -> None:
    """The law of total variance: nothing about the request as a whole is lost in its images' moments."""
    x = offset + _draw(n, channels, pixels, seed=seed) + 2 * _draw(n, channels, 1, seed=seed + 1)
    pooled = measure(x)[1].pooled()
    var, mean = torch.var_mean(x.double(), (0, 2), correction=0)
    torch.testing.assert_close(pooled.mean.double(), mean, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(pooled.var.double(), var, rtol=1e-4, atol=1e-6 * max(1.0, offset))
    if n * pixels > 1:
        unbiased = measure(x)[1].pooled(unbiased=True).var.double()
        expected = torch.var(x.double(), (0, 2), correction=1)
        torch.testing.assert_close(unbiased, expected, rtol=1e-4, atol=1e-6 * max(1.0, offset))


def test_how_a_request_is_cut_does_not_matter_to_pooled_moments() -> None:
    seen = Moments(_draw(6, 3), _draw(6, 3, seed=1).square(), 9)
    halves = [Moments(seen.mean[part], seen.var[part], 9).pooled() for part in (slice(0, 3), slice(3, 6))]
    whole = Moments(torch.stack([h.mean for h in halves]), torch.stack([h.var for h in halves]), 27).pooled()
    for a, b in zip(whole, seen.pooled(), strict=True):
        torch.testing.assert_close(a, b)
    assert (seen.images, seen.values) == (6, 54)


def test_wasserstein_is_its_formula() -> None:
    site = _site(7, eps=1e-3)
    observed = Statistics(_draw(7, seed=3), _draw(7, seed=4).square())
    found = wasserstein(observed, site.mean, site.var, torch.tensor(site.eps))
    for c in range(7):
        m, v = float(observed.mean[c]), float(observed.var[c])
        ms, vs = float(site.mean[c]), float(site.var[c])
        expected = ((m - ms) ** 2 + (math.sqrt(v) - math.sqrt(vs)) ** 2) / (vs + 1e-3)
        assert float(found[c]) == pytest.approx(expected, rel=1e-4)
    assert not wasserstein(site.trained, site.mean, site.var, torch.tensor(site.eps)).any()


def test_statistics_move_toward_each_other_by_weight() -> None:
    a, b = Statistics(torch.zeros(2), torch.ones(2)), Statistics(torch.full((2,), 4.0), torch.full((2,), 3.0))
    assert a.toward(b, 0.25).mean.tolist() == [1.0, 1.0]
    assert a.toward(b, 0.25).var.tolist() == [1.5, 1.5]
    assert torch.equal(a.toward(b, 0.0).mean, a.mean)
    assert torch.equal(a.toward(b, 1.0).var, b.var)
