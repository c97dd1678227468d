"""Images of nothing: dead leaves, whose statistics resemble those of photographs.

>>> draw_leaves(2, (3, 8, 8)).shape
torch.Size([2, 3, 8, 8])
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAVES = 150
"""Leaves of an image; those that were painted first are hardly seen."""
LARGEST = 1.5
"""Radius of the largest leaf, in shorter sides of the image."""
FINEST, COARSEST = 0.004, 0.3
"""The range of an image's smallest radius, in shorter sides: some are textures, others show large things."""
LEVEL, COLOUR = 0.5, 0.2
"""Deviation of an image's mean level, and of channels from each other, in units of the mean contrast."""
LOWEST_CONTRAST, HIGHEST_CONTRAST = 0.2, 1.5


class LeafDraws(NamedTuple):
    """The random numbers of n images with L leaves."""

    levels: Tensor  # [n, C] mean level of each channel
    contrast: Tensor  # [n, 1, 1]
    colours: Tensor  # [n, L, C] before contrast and level
    radii: Tensor  # [n, L] in shorter sides
    centres: Tensor  # [n, L, 2] in shorter sides


def draw_leaves(images: int, shape: tuple[int, int, int]) -> Tensor:
    """Return n images ``[n, C, H, W]`` float32 of a ``shape`` (C, H, W), the same at every call.

    Leaves are discs that cover each other, of one colour each, with radii r of density ``r^-3``. An image has a level,
    a contrast and a smallest radius of its own. All together have mean 0 and variance 1.

    Paper: Lee, Mumford and Huang 2001, "Occlusion models for natural images: a statistical study of a scale-invariant
    dead leaves model" (International Journal of Computer Vision 41), section 3.
    """
    channels, height, width = shape
    shorter = min(height, width)
    rows, columns = (torch.arange(size) / shorter for size in (height, width))
    draws = _draw(images, channels, (height / shorter, width / shorter))
    painted = draws.levels[:, :, None, None].repeat(1, 1, height, width)
    values = draws.contrast * draws.colours + draws.levels[:, None]
    for leaf in range(LEAVES):
        down, right = (
            (part - draws.centres[:, leaf, axis, None]).square() for axis, part in enumerate((rows, columns))
        )
        covered = down[:, :, None] + right[:, None] < draws.radii[:, leaf, None, None].square()
        painted = torch.where(covered[:, None], values[:, leaf, :, None, None], painted)
    return (painted - painted.mean()) / painted.std().clamp_min(1e-6)


def _draw(images: int, channels: int, extent: tuple[float, float]) -> LeafDraws:
    # On the CPU from a generator of its own: the same on every device, whatever ran before.
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(images, LEAVES + 2, 3, generator=generator)
    normal = torch.randn(images, LEAVES + 1, channels + 1, generator=generator)
    # A shared part and one of each channel.
    colours = normal[..., :1] + COLOUR * normal[..., 1:]
    finest = (FINEST / COARSEST) ** 0.5
    smallest = COARSEST * torch.lerp(torch.tensor(finest), torch.tensor(1.0), uniform[:, LEAVES, :1]).square()
    low, high = smallest**-2, LARGEST**-2
    return LeafDraws(
        levels=LEVEL * colours[:, LEAVES],
        contrast=LOWEST_CONTRAST + (HIGHEST_CONTRAST - LOWEST_CONTRAST) * uniform[:, LEAVES + 1, :1, None],
        colours=colours[:, :LEAVES],
        radii=(low + (high - low) * uniform[:, :LEAVES, 2]) ** -0.5,
        centres=(1.2 * uniform[:, :LEAVES, :2] - 0.1) * torch.tensor(extent),
    )
