"""Augmented images keep their form and their range, follow from the seed alone, and change by what is asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.learners.augmentations import DEFAULT, Strengths, augment

NONE = Strengths(*[0.0] * len(Strengths._fields))
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SIDES = st.integers(1, 17)


def _pixels(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, height, width, 3), generator=generator, dtype=torch.uint8)


def _floating(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) - 1


def _picture(side: int = 32) -> Tensor:
    """Smooth pixels ``[1, side, side, 3]``, no two channels alike and no symmetry."""
    x, y = torch.linspace(0.2, 0.6, side), torch.linspace(0.3, 0.7, side).view(-1, 1)
    image = torch.stack([x + 0 * y, y + 0 * x, 0.5 * x * y + 0.2], -1)
    return (255 * image).round().to(torch.uint8)[None]


@QUICK
@given(st.integers(1, 5), SIDES, SIDES, st.integers(0, 2**31 - 1), st.integers(0, 10**9))
def test_pixels_stay_pixels_and_follow_from_the_seed(n: int, height: int, width: int, seed: int, number: int) -> None:
    images = _pixels(n, height, width)
    before, random = images.clone(), torch.get_rng_state()
    changed = augment(images, seed, number)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous()
    assert torch.equal(images, before)
    assert torch.equal(random, torch.get_rng_state())
    torch.manual_seed(seed % 7)
    assert torch.equal(augment(images, seed, number), changed)


@QUICK
@given(
    st.one_of(
        st.tuples(st.integers(1, 4), st.integers(1, 4), SIDES, SIDES),
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), SIDES, SIDES),
    ),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_floating_input_keeps_its_form(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = _floating(*shape).to(dtype)
    changed = augment(images, 1, 2)
    assert changed.shape == images.shape
    assert changed.dtype == dtype
    assert changed.isfinite().all()
    assert torch.equal(changed, augment(images, 1, 2))
    assert torch.equal(augment(images[:1] * 0 + 3, 0, 0), images[:1] * 0 + 3), "a constant image has no deviation"


def test_draws_differ_by_seed_by_number_and_by_image() -> None:
    images = _picture().expand(4, -1, -1, -1)
    first = augment(images, 0, 0)
    assert not torch.equal(first, augment(images, 1, 0))
    assert not torch.equal(first, augment(images, 0, 1))
    assert not torch.equal(augment(images, 1, 0), augment(images, 0, 1))
    assert len({tuple(image.flatten().tolist()) for image in first}) == 4


@QUICK
@given(st.integers(1, 3), SIDES, SIDES)
def test_without_any_strength_images_stay_as_they_are(n: int, height: int, width: int) -> None:
    assert torch.equal(augment(_pixels(n, height, width), 3, 4, NONE), _pixels(n, height, width))
    images = _floating(n, 3, height, width)
    torch.testing.assert_close(augment(images, 3, 4, NONE), images, rtol=0.0, atol=1e-4)
    assert torch.equal(augment(_floating(n, height), 3, 4, NONE), _floating(n, height))


@pytest.mark.parametrize("name", Strengths._fields)
def test_every_strength_does_something_to_pixels(name: str) -> None:
    images = _pixels(8, 12, 12)
    only = NONE._replace(**{name: getattr(DEFAULT, name)})
    assert not torch.equal(augment(images, 0, 0, only), images)


def test_a_flip_is_a_mirror_image_and_happens_to_half_of_all() -> None:
    images = _pixels(400, 2, 3)
    changed = augment(images, 0, 0, NONE._replace(flip=0.5))
    flipped = (changed == images.flip(2)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (flipped | kept).all()
    assert 150 < int(flipped.sum()) < 250


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    grey = torch.full((4, 50, 50, 3), 128, dtype=torch.uint8)
    noise = augment(grey, 0, 0, NONE._replace(noise=0.05)).float() - 128
    assert float(noise.std()) == pytest.approx(0.05 * 255, rel=0.03)
    images = _floating(100, 50, seed=1)
    added = augment(images, 0, 0, NONE._replace(noise=0.05)) - images
    assert float(added.std()) == pytest.approx(4 * 0.05 * float(images.std()), rel=0.05)


def test_brightness_scales_and_contrast_keeps_the_mean() -> None:
    images = _picture().expand(50, -1, -1, -1)
    ratio = augment(images, 0, 0, NONE._replace(brightness=0.4)).float().mean((1, 2, 3)) / images[0].float().mean()
    assert 0.59 < float(ratio.min()) < 0.7
    assert 1.3 < float(ratio.max()) < 1.41
    luma = torch.tensor([0.299, 0.587, 0.114])
    contrast = augment(images, 0, 0, NONE._replace(contrast=0.3)).float() @ luma
    torch.testing.assert_close(contrast.mean((1, 2)), (images.float() @ luma).mean((1, 2)), rtol=0.01, atol=0.5)
    assert float(contrast.std((1, 2)).max() / contrast.std((1, 2)).min()) > 1.4


def test_greys_have_no_hue_and_no_saturation() -> None:
    greys = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(3, -1, -1, 3)
    assert torch.equal(augment(greys, 0, 0, NONE._replace(hue=0.5, saturation=0.5)), greys)


def test_a_third_of_a_turn_makes_red_another_primary() -> None:
    red = torch.tensor([200, 40, 40], dtype=torch.uint8).expand(200, 1, 1, 3)
    turned = augment(red, 0, 0, NONE._replace(hue=1 / 3)).view(-1, 3).float()
    # Turned a full third either way the strongest channel is the next or the one before; never far beyond.
    assert float(turned[:, 1].max()) > 190
    assert float(turned[:, 2].max()) > 190
    assert float((turned[:, 0] - 200).abs().min()) < 5


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_a_rotation_keeps_distances_whatever_the_sides(shape: tuple[int, int]) -> None:
    height, width = shape
    images = torch.zeros(30, 1, height, width)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = round(centre_y - 6), round(centre_x + 3)
    images[:, :, y - 1 : y + 2, x - 1 : x + 2] = 1.0
    changed = augment(images, 0, 0, NONE._replace(degrees=15.0))[:, 0]
    weight = changed / changed.sum((1, 2), keepdim=True)
    found_y = (weight * torch.arange(height).view(-1, 1)).sum((1, 2)) - centre_y
    found_x = (weight * torch.arange(width)).sum((1, 2)) - centre_x
    before = torch.tensor([x - centre_x, y - centre_y])
    torch.testing.assert_close(torch.hypot(found_x, found_y), before.norm().expand(30), rtol=0.02, atol=0.05)
    turned = torch.rad2deg(torch.atan2(found_y, found_x) - torch.atan2(before[1], before[0]))
    assert 10 < float(turned.max()) < 16
    assert -16 < float(turned.min()) < -10


def test_beyond_the_border_the_border_goes_on() -> None:
    images = torch.full((20, 1, 9, 9), 5.0)
    torch.testing.assert_close(augment(images, 0, 0, DEFAULT._replace(noise=0.0)), images, rtol=0.0, atol=1e-4)


def test_a_blur_spreads_a_point_and_keeps_its_sum() -> None:
    images = torch.zeros(40, 1, 11, 11)
    images[:, :, 5, 5] = 1.0
    changed = augment(images, 0, 0, NONE._replace(blur=0.5))
    torch.testing.assert_close(changed.sum((1, 2, 3)), torch.ones(40), rtol=1e-4, atol=1e-4)
    peaks = changed.amax((1, 2, 3))
    # The sum of five taps of a Gaussian of half a pixel is 1.2713, squared for both directions.
    assert 1 / 1.2713**2 - 0.01 < float(peaks.min()) < 0.75
    assert float(peaks.max()) > 0.99


def test_arrays_of_bytes_that_are_no_pixels_come_back() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(3, 4)
    assert torch.equal(augment(images, 0, 0), images)
