"""Moments of what is hard to measure, against double precision.

With U the unit roundoff of float32, d the exact deviation of an image's channel and m its mean:

- a mean is within ``4 U (|m| + d)``: float32 holds it no better than ``U |m|``;
- a variance is within ``8 U`` of itself, and what the rounding of m adds, ``(4 U |m|)^2``.

Of images with channels innermost, torch's one operation for both sums adds up value after value:

- the mean of a small image, alone in its batch, is then within ``(4 + sqrt(pixels)) U (|m| + d)``: with a mean of a
  thousand deviations it is off by a thousandth of one;
- variances are within ``(32 + 3 sqrt(pixels)) U``;
- if values are few (half precision, constants), roundings do not even out: ``pixels / 2`` takes the place of the root.

In one pass, as compiled:

- variances are within ``(32 + 8 r) U``, with r ``1 + ((x_0 - m) / d)^2``: how far the origin x_0 is from the mean. For
  an ordinary value r is about 2, and it is never above ``1 + pixels``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import Statistics
from adapters.checks.requirements import equal
from adapters.engine.moments import Affine, _in_one_pass, _large, broadcast_over_positions, measure, normalize
from tests.adapters.engine.test_moments import _exact

U = 2.0**-24
SHAPES = [(3, 4), (2, 3, 1, 1), (2, 3, 5), (2, 3, 7, 7), (2, 8, 16, 16), (1, 4, 2, 5, 6), (1, 2, 5000), (3, 2, 1, 2)]
SHAPES += [(1, 3, 4, 4), (1, 5, 32, 32), (1, 2, 33, 32)]
LARGE = [(2, 64, 24, 24), (1, 16, 56, 56), (1, 3, 128, 112)]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


class Exact(NamedTuple):
    """Of an activation, each ``[n, C]`` in double precision."""

    mean: Tensor
    var: Tensor
    origin: Tensor  # 1 + the squared distance of the first value from the mean, in deviations


def exact(x: Tensor) -> Exact:
    mean, var = _exact(x)
    first = x.double().reshape(*x.shape[:2], -1)[:, :, 0]
    distance = (first - mean).square()
    return Exact(mean, var, 1 + torch.where(var > 0, distance / var.clamp_min(1e-300), 0.0))


def near(
    both: Tensor, x: Tensor, roundoffs: Tensor | float, *, mean_roundoffs: float = 4, onepass: bool = False
) -> None:
    """The moments ``both`` are those of ``x``, the variances within so many units of roundoff."""
    known, (mean, var) = exact(x), both.double().chunk(2, 1)
    assert both.dtype == torch.float32
    deviation = known.var.sqrt()
    away = known.origin.sqrt() if onepass else 1.0
    slack = mean_roundoffs * U * (known.mean.abs() + away * deviation)
    assert bool(((mean - known.mean).abs() <= slack).all())
    from_mean = 0.0 if onepass else slack.square()
    assert bool(((var - known.var).abs() <= roundoffs * U * known.var + from_mean).all())
    assert bool((var >= 0).all())


def measured_near(x: Tensor) -> None:
    pixels = math.prod(x.shape[2:])
    if x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        near(measure(x).values, x, 8)
    else:
        own_mean = x.shape[0] == 1 and pixels <= 1024
        spread_out = x.dtype == torch.float32
        roundoffs = 32 + (3 * math.sqrt(pixels) if spread_out else pixels / 2)
        near(measure(x).values, x, roundoffs, mean_roundoffs=4 + (math.sqrt(pixels) if own_mean else 0))


def draw(shape: tuple[int, ...], seed: int, ratio: float, size: float = 1.0) -> Tensor:
    """Values of deviation ``size``, every channel with a mean of up to ``ratio`` deviations."""
    generator = torch.Generator().manual_seed(seed)
    offset = ratio * (2 * torch.rand(shape[1], generator=generator) - 1)
    offset[0] = ratio
    return size * (broadcast_over_positions(offset, torch.empty(shape)) + torch.randn(shape, generator=generator))


def laid_out(x: Tensor, layout: str) -> Tensor:
    return x.contiguous(memory_format=FORMATS[layout]) if x.dim() == 4 else x


sizes = st.sampled_from([1e-4, 1.0, 1e4])
ratios = st.sampled_from([0.0, 1.0, 30.0, 1e3])
seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@QUICK
@given(seeds, ratios, sizes)
def test_a_mean_of_a_thousand_deviations_costs_no_precision(
    shape: tuple[int, ...], layout: str, seed: int, ratio: float, size: float
) -> None:
    x = laid_out(draw(shape, seed, ratio, size), layout)
    measured_near(x)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", LARGE)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seeds, ratios, sizes)
def test_a_large_mean_costs_no_precision_on_large_maps(
    shape: tuple[int, ...], layout: str, seed: int, ratio: float, size: float
) -> None:
    x = laid_out(draw(shape, seed, ratio, size), layout)
    measured_near(x)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 4 and shape[2] > 1])
@QUICK
@given(seeds, ratios)
def test_measurement_of_large_maps_is_right_for_small_ones(shape: tuple[int, ...], seed: int, ratio: float) -> None:
    x = laid_out(draw(shape, seed, ratio), "channels_last")
    near(_large(x), x, 32 + 3 * math.sqrt(x[0, 0].numel()))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [shape for shape in [*SHAPES, LARGE[0]] if math.prod(shape[2:]) > 1])
@QUICK
@given(seeds, ratios, sizes)
def test_a_large_mean_costs_no_precision_in_one_pass(
    shape: tuple[int, ...], layout: str, seed: int, ratio: float, size: float
) -> None:
    x = laid_out(draw(shape, seed, ratio, size), layout)
    near(_in_one_pass(x), x, 32 + 8 * exact(x).origin, onepass=True)


@QUICK
@given(seeds, st.sampled_from([0.0, 1e3]), st.sampled_from([-1e3, 1.0, 1e3]))
def test_one_pass_from_a_value_far_from_all_others(seed: int, ratio: float, first: float) -> None:
    x = draw((2, 3, 32, 32), seed, ratio)
    x[:, :, 0, 0] = first  # r is up to 1 + pixels: the worst that there is
    known = exact(x)
    assert float(known.origin.max()) <= 1 + 32 * 32
    near(_in_one_pass(x), x, 32 + 8 * known.origin, onepass=True)
    # Where one square is nearly all of the sum, the rounding of each addition to it shows: up to two units more.
    near(measure(x).values, x, 8 + known.origin / 512)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [*SHAPES, LARGE[0]])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([0.0, 1.0, 1e3]), st.sampled_from([1.0, 30.0]))
def test_half_precision_is_measured_in_single(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int, ratio: float, size: float
) -> None:
    """Sums of squares reach 1e9 times what float16 can hold, and sums of bfloat16 would stall after 256 values."""
    x = laid_out(draw(shape, seed, ratio, size).to(dtype), layout)
    assert bool(x.isfinite().all())
    measured_near(x)


CONSTANTS = [0.0, 1.0, -0.1, 1 / 3, 1e-3, 6e4]


@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", [*SHAPES, LARGE[0], LARGE[1]])
def test_a_constant_image_has_no_variance(shape: tuple[int, ...], layout: str, value: float) -> None:
    """Exactly none in one pass; else none but the square of how far a sum of equal values is from its multiple.

    An eps of 1e-5 drowns it: at a value of 10 it is below 2e-8.
    """
    x = laid_out(torch.full(shape, value), layout)
    mean, var = measure(x).values.chunk(2, 1)
    off = 4 + (math.prod(shape[2:]) / 2 if layout == "channels_last" and len(shape) == 4 else 0)
    assert bool((mean - value).abs().max() <= off * U * abs(value))
    assert bool(var.max().sqrt() <= 2 * min(off, 100) * U * abs(value))
    assert bool((var >= 0).all())
    if math.prod(shape[2:]) > 1:
        once = _in_one_pass(x).chunk(2, 1)
        assert equal(once, (torch.full_like(mean, float(x.flatten()[0])), torch.zeros_like(var)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 1), (2, 3, 1, 1), (2, 3, 1, 1, 1)])
def test_one_position_is_its_own_mean(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw(shape, 0, 1e3).to(dtype)
    seen = measure(x)
    mean, var = seen.values.chunk(2, 1)
    assert seen.pixels == 1
    assert torch.equal(mean, x.float().reshape(shape[:2]))
    assert not var.any()


def test_one_constant_channel_among_others_is_told_apart() -> None:
    for shape in (*SHAPES[3:5], *LARGE):
        x = draw(shape, 1, 30.0)
        x[:, 1] = 30.0
        var = measure(laid_out(x, "channels_last")).values.chunk(2, 1)[1]
        assert bool((var[:, 1] < 1e-8).all())
        assert bool((var[:, 0] > 0.1).all())


@pytest.mark.parametrize("shape", [(4, 8, 16, 16), LARGE[0], (4, 8, 60), (4, 8, 3, 4, 5)])
@QUICK
@given(seeds, st.sampled_from([0.0, 30.0, 1e3]), st.booleans())
def test_activation_normalized_with_its_own_moments_is_standard(
    shape: tuple[int, ...], seed: int, ratio: float, in_place: bool
) -> None:
    """The output is off by what float32 cannot hold of a value so many deviations from zero."""
    x = laid_out(draw(shape, seed, ratio), "channels_last")
    known = exact(x)
    expected = (x.double() - broadcast_over_positions(known.mean, x)) / broadcast_over_positions(
        (known.var + 1e-5).sqrt(), x
    )
    used = Statistics(*measure(x).of(slice(None))[:2])
    out = normalize(x, used, Affine(None, None, 1e-5), in_place=in_place)
    assert float((out.double() - expected).abs().max()) <= 8 * U * (ratio + 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("in_place", [True, False])
def test_half_precision_is_normalized_in_single_and_rounded_once(dtype: torch.dtype, in_place: bool) -> None:
    x = draw((3, 8, 9, 9), 2, 30.0).to(dtype).contiguous(memory_format=torch.channels_last)
    known, before = exact(x), x.clone()
    expected = (x.double() - broadcast_over_positions(known.mean, x)) / broadcast_over_positions(
        (known.var + 1e-5).sqrt(), x
    )
    used = Statistics(*measure(x).of(slice(None))[:2])
    out = normalize(x, used, Affine(torch.ones(8, dtype=dtype), None, 1e-5), in_place=in_place)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)
    half = torch.finfo(dtype).eps / 2
    assert bool(((out.double() - expected).abs() <= half * expected.abs() + 1e-4).all())
