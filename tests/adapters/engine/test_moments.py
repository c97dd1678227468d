"""Measuring, normalizing, pooling and comparing: each is its formula. `test_moments_hard` has the hard inputs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import Moments, Site, Statistics
from adapters.engine.moments import Affine, BatchMoments, broadcast_over_positions, measure, normalize

SHAPES = [(3, 4), (3, 4, 5), (3, 4, 5, 6), (3, 4, 2, 5, 6), (1, 4, 1, 1), (2, 4, 1, 1, 1), (1, 1, 2, 1)]


def _site(channels: int, eps: float = 1e-5) -> Site:
    generator = torch.Generator().manual_seed(9)
    a, b, c, d = torch.randn(4, channels, generator=generator)
    return Site("s", a, b.square() + 0.1, c, d, eps)


def affine(site: Site) -> Affine:
    return Affine(site.weight, site.bias, site.eps)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _moments(x: Tensor) -> Moments:
    return measure(x).of(slice(None))


def _exact(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.double().reshape(*x.shape[:2], -1)
    return flat.mean(2), flat.var(2, correction=0)


def _normalized(x: Tensor, mean: Tensor, var: Tensor, site: Site) -> Tensor:
    """In double precision; mean and var are ``[n, C]`` or ``[C]``."""
    scale = site.weight.double() / (var.double() + site.eps).sqrt()
    return (x.double() - broadcast_over_positions(mean.double(), x)) * broadcast_over_positions(
        scale, x
    ) + broadcast_over_positions(site.bias.double(), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_measure_is_the_mean_and_biased_variance_of_each_image(shape: tuple[int, ...]) -> None:
    x = 2 + 3 * _draw(*shape)
    seen = _moments(x)
    mean, var = _exact(x)
    torch.testing.assert_close(seen.mean.double(), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(seen.var.double(), var, rtol=1e-5, atol=1e-6)
    assert (seen.pixels, seen.images) == (math.prod(shape[2:]), shape[0])


def test_moments_of_a_slice_are_those_of_its_images() -> None:
    x = _draw(5, 3, 4, 4)
    seen = measure(x)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5), slice(None)):
        torch.testing.assert_close(seen.of(part), _moments(x[part]), rtol=1e-6, atol=1e-6)
    both = torch.arange(12.0).view(2, 6)
    assert BatchMoments(both, 9).of(slice(1, 2)).mean.tolist() == [[6.0, 7.0, 8.0]]
    assert BatchMoments(both, 9).of(slice(1, 2)).var.tolist() == [[9.0, 10.0, 11.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_measure_leaves_its_input_alone_and_owns_its_output(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = _draw(*shape).to(dtype)
    before, seen = x.clone(), measure(x)
    kept = seen.values.clone()
    seen.values.fill_(7.0)
    assert torch.equal(x, before)
    seen = measure(x)
    x.fill_(8.0)  # what is written over the activation later does not reach its moments
    assert torch.equal(seen.values, kept)


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.double().transpose(0, 1).flatten(1)
    return flat.mean(1), flat.var(1, correction=0)


def test_a_map_of_one_position_has_no_variance_at_all() -> None:
    x = _draw(5, 3, 1, 1)
    seen = _moments(x)
    assert seen.pixels == 1
    assert torch.equal(seen.mean, x.flatten(1))
    assert not seen.var.any()
    site = _site(3)
    out = normalize(x, site.trained, affine(site))
    torch.testing.assert_close(out.double(), _normalized(x, site.mean, site.var, site), rtol=1e-5, atol=1e-5)


def test_memory_format_is_kept_and_changes_nothing() -> None:
    x, site = _draw(3, 8, 6, 6), _site(8)
    views = (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3))
    outs = [normalize(view, _moments(view).pooled(), affine(site)) for view in views]
    assert outs[0].is_contiguous()
    assert outs[1].is_contiguous(memory_format=torch.channels_last)
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_normalize_is_the_formula_for_one_row_and_for_one_per_image(
    shape: tuple[int, ...], rows: bool, in_place: bool
) -> None:
    x, site = _draw(*shape), _site(shape[1], eps=1e-3)
    size = shape[:2] if rows else shape[1:2]
    used = Statistics(_draw(*size, seed=1), _draw(*size, seed=2).square())
    before = x.clone()
    out = normalize(x, used, affine(site), in_place=in_place)
    torch.testing.assert_close(out.double(), _normalized(before, used.mean, used.var, site), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before) or in_place
    assert out.data_ptr() != x.data_ptr() or in_place


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 4, 5, 6), (1, 4, 5, 6), (2, 64, 40, 40)])
def test_normalize_keeps_channels_last(shape: tuple[int, ...], rows: bool) -> None:
    x, site = _draw(*shape).contiguous(memory_format=torch.channels_last), _site(shape[1])
    used = Statistics(*(part.expand(shape[:2]) for part in site.trained)) if rows else site.trained
    expected = normalize(x.contiguous(), used, affine(site))
    for in_place in (False, True):
        out = normalize(x.clone(memory_format=torch.preserve_format), used, affine(site), in_place=in_place)
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [True, False])
def test_large_activations_are_written_over_where_that_is_allowed(rows: bool, layout: torch.memory_format) -> None:
    """A new tensor of their size costs more than the arithmetic."""
    x, site = _draw(2, 64, 40, 40).contiguous(memory_format=layout), _site(64)
    used = Statistics(*(part.expand(2, 64) for part in site.trained)) if rows else site.trained
    assert normalize(x, used, affine(site), in_place=True).data_ptr() == x.data_ptr()
    assert normalize(x, used, affine(site), in_place=False).data_ptr() != x.data_ptr()


def test_a_call_without_affine_has_weight_one_and_bias_zero() -> None:
    x, site = _draw(3, 4, 5, 6), _site(4)
    plain = Site("plain", site.mean, site.var, torch.ones(4), torch.zeros(4), site.eps)
    for weight, bias in ((None, None), (None, site.bias), (site.weight, None)):
        out = normalize(x, site.trained, Affine(weight, bias, site.eps))
        like = Site("s", *site.trained, *(plain.weight, plain.bias), site.eps)
        exact = _normalized(x, site.mean, site.var, like)
        exact = exact * (1 if weight is None else broadcast_over_positions(weight.double(), x))
        exact = exact + (0 if bias is None else broadcast_over_positions(bias.double(), x))
        torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 9), st.sampled_from([0.0, 10.0, 1e3])
)
def test_pooled_moments_are_the_batch_statistics(seed: int, n: int, channels: int, pixels: int, offset: float) -> None:
    """The law of total variance: nothing about the request as a whole is lost in its images' moments."""
    x = offset + _draw(n, channels, pixels, seed=seed) + 2 * _draw(n, channels, 1, seed=seed + 1)
    pooled = _moments(x).pooled()
    mean, var = _pooled(x)
    torch.testing.assert_close(pooled.mean.double(), mean, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(pooled.var.double(), var, rtol=1e-4, atol=1e-6 * max(1.0, offset))
    if n * pixels > 1:
        unbiased = _moments(x).pooled(unbiased=True).var.double()
        expected = torch.var(x.double(), (0, 2), correction=1)
        torch.testing.assert_close(unbiased, expected, rtol=1e-4, atol=1e-6 * max(1.0, offset))


def test_pooled_moments_do_not_depend_on_the_cut_of_a_request() -> None:
    seen = Moments(_draw(6, 3), _draw(6, 3, seed=1).square(), 9)
    halves = [Moments(seen.mean[part], seen.var[part], 9).pooled() for part in (slice(0, 3), slice(3, 6))]
    whole = Moments(torch.stack([h.mean for h in halves]), torch.stack([h.var for h in halves]), 27).pooled()
    for a, b in zip(whole, seen.pooled(), strict=True):
        torch.testing.assert_close(a, b)
    assert (seen.images, seen.values) == (6, 54)


def test_statistics_move_toward_each_other_by_weight() -> None:
    a, b = Statistics(torch.zeros(2), torch.ones(2)), Statistics(torch.full((2,), 4.0), torch.full((2,), 3.0))
    assert a.toward(b, 0.25).mean.tolist() == [1.0, 1.0]
    assert a.toward(b, 0.25).var.tolist() == [1.5, 1.5]
    assert torch.equal(a.toward(b, 0.0).mean, a.mean)
    assert torch.equal(a.toward(b, 1.0).var, b.var)
