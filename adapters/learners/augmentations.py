"""Random augmentations of images: colours, rotation, shift and scale, blur, flip, noise."""

from __future__ import annotations

import math
import struct
import zlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Strengths(NamedTuple):
    """The strength of each augmentation, 0 for none; by default those of RoTTA's authors."""

    brightness: float = 0.4  # factors from 1 - strength to 1 + strength
    contrast: float = 0.3
    saturation: float = 0.5
    gamma: float = 0.3  # exponents likewise
    hue: float = 0.06  # of a turn, either way
    degrees: float = 15.0  # of rotation, either way
    shift: float = 0.125  # of a side, either way: theirs is 1/16 of an image padded to twice its side
    scale: float = 0.1  # factors likewise
    blur: float = 0.5  # standard deviation in pixels, from 0
    flip: float = 0.5  # probability
    noise: float = 0.005  # standard deviation, of the range of pixels


DEFAULT = Strengths()
LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the luma (ITU-R BT.601)."""
DEVIATIONS = 4.0
"""The range of pixels in standard deviations of usual images: what noise is measured by where the range is unknown."""


class Draws:
    """Random numbers for n images that depend on the seed and the number only."""

    def __init__(self, images: Tensor, seed: int, number: int) -> None:
        # In 32 bits, because generators read no more of their seed.
        start = zlib.crc32(struct.pack("<qq", seed, number))
        self._images = images
        # Few numbers are drawn on the CPU, alike on every device; noise where it is needed, as moving it takes longer.
        self._few = torch.Generator().manual_seed(start)
        self._many = torch.Generator(images.device).manual_seed(start + 1)

    def uniform(self, centre: float, strength: float) -> Tensor:
        """Draw one number per image from ``centre - strength`` to ``centre + strength``: ``[n, 1, 1, 1]``."""
        sample = 2 * torch.rand(len(self._images), 1, 1, 1, generator=self._few) - 1
        return (centre + strength * sample).to(self._images.device)

    def noise(self, like: Tensor) -> Tensor:
        """Draw standard normal numbers in the shape of ``like``."""
        return torch.randn(like.shape, generator=self._many, device=like.device)


def augment(images: Tensor, seed: int, number: int, strengths: Strengths = DEFAULT) -> Tensor:
    """Return the images, each augmented at random; the draws depend on ``seed`` and ``number`` only.

    Images are as requests hold them, and come back in the same shape and type. Pixels, uint8 ``[n, H, W, 3]``, change
    in all ways, within 0 to 255; they come back as whole numbers because the network's own preprocessing begins there.
    Of floating ``[n, C, H, W]`` the range and the meaning of channels are unknown, so colours stay, and noise is
    relative to the standard deviation of the batch. Anything else gets such noise alone, and uint8 arrays that are no
    pixels come back as they are.

    Paper: Wang et al. 2022, "Continual Test-Time Domain Adaptation" (CoTTA), whose list RoTTA took over with other
    strengths. There the image is padded, moved and cut out again, and colours change in random order.
    """
    draws = Draws(images, seed, number)
    if images.dtype == torch.uint8:
        return _augment_pixels(images, draws, strengths) if images.dim() == 4 and images.shape[3] == 3 else images
    x = images.float()
    if x.dim() == 4:
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = _flip(_blur(_transform(x, draws, strengths), draws, strengths.blur), draws, strengths.flip)
        x = x.clamp(low, high)  # weights add up to one but for rounding
    x = x + DEVIATIONS * strengths.noise * x.std(correction=0) * draws.noise(x)
    return x.to(images.dtype)


def _augment_pixels(images: Tensor, draws: Draws, strengths: Strengths) -> Tensor:
    x = _jitter_colours(images.permute(0, 3, 1, 2).contiguous() / 255, draws, strengths)
    x = _flip(_blur(_transform(x, draws, strengths), draws, strengths.blur), draws, strengths.flip)
    x = x.add_(draws.noise(x), alpha=strengths.noise).clamp_(0, 1)
    return x.mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _jitter_colours(x: Tensor, draws: Draws, strengths: Strengths) -> Tensor:
    """Change brightness, contrast, saturation, hue and gamma of images ``[n, 3, H, W]`` from 0 to 1."""
    x = (x * draws.uniform(1, strengths.brightness)).clamp_(0, 1)
    contrast = draws.uniform(1, strengths.contrast)
    grey = x.mean((2, 3)) @ x.new_tensor(LUMA)
    x = torch.addcmul((1 - contrast) * grey.view(-1, 1, 1, 1), x, contrast).clamp_(0, 1)
    # Saturation and hue mix the channels of a pixel alike everywhere: one small product instead of ten passes.
    hue = _hue_matrix(2 * math.pi * draws.uniform(0, strengths.hue))
    saturation = _saturation_matrix(draws.uniform(1, strengths.saturation))
    x = (hue @ saturation @ x.flatten(2)).view(x.shape).clamp_(0, 1)
    return x.pow_(draws.uniform(1, strengths.gamma))


def _saturation_matrix(saturation: Tensor) -> Tensor:
    """Return matrices ``[n, 3, 3]`` that mix channels from grey (0) to unchanged (1)."""
    share = saturation.view(-1, 1, 1)
    return share * torch.eye(3).to(share) + (1 - share) * share.new_tensor(LUMA)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Return matrices ``[n, 3, 3]`` that rotate hues around the grey axis (Rodrigues); the channels' mean stays."""
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    identity = torch.eye(3).to(angle)
    across = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)
    return cos * identity + (1 - cos) / 3 + sin * across


def _transform(x: Tensor, draws: Draws, strengths: Strengths) -> Tensor:
    """Rotate, shift and scale images ``[n, C, H, W]``; the border is replicated."""
    height, width = x.shape[2:]
    angle = math.radians(1) * draws.uniform(0, strengths.degrees)
    # A shift is a share of the side, which is 2 long in the coordinates of the grid.
    right, down = 2 * draws.uniform(0, strengths.shift), 2 * draws.uniform(0, strengths.shift)
    size = draws.uniform(1, strengths.scale)
    cos, sin = angle.cos() / size, angle.sin() / size
    # The grid is a square whatever the image is, so a rotation of pixels is skewed there by the ratio of the sides.
    rows = torch.cat([cos, -sin * height / width, right, sin * width / height, cos, down], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _blur(x: Tensor, draws: Draws, strength: float) -> Tensor:
    """Blur images with a Gaussian kernel of five by five."""
    # Below this the weights of neighbours vanish in float32, and zero would divide by zero.
    deviation = draws.uniform(strength / 2, strength / 2).clamp_min(1e-3)
    taps = [torch.exp(-0.5 * (k / deviation).square()) for k in range(3)]
    total = taps[0] + 2 * (taps[1] + taps[2])
    for axis in (2, 3):
        padding = (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0)
        wide, length = F.pad(x, padding, mode="replicate"), x.shape[axis]
        x = wide.narrow(axis, 2, length) * (taps[0] / total)
        for k in (-2, -1, 1, 2):
            x.addcmul_(wide.narrow(axis, 2 + k, length), taps[abs(k)] / total)
    return x


def _flip(x: Tensor, draws: Draws, probability: float) -> Tensor:
    """Flip some images left to right."""
    return torch.where(draws.uniform(0.5, 0.5) < probability, x.flip(3), x)
