"""Measure how far the content of images spreads their statistics apart, without any data."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.engine.calling import GlobalStateGuard
from adapters.engine.differentiable import LearningContext
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.moments import BatchMoments
from adapters.engine.plan import SingleGroupPlan
from adapters.joint import TINY
from adapters.normalization.bn import BN
from adapters.probes.leaves import draw_leaves

log = logging.getLogger("renorm")

MOST_IMAGES, FEWEST_IMAGES, MOST_NUMBERS = 32, 8, 5_000_000
"""Images that are shown, and the numbers in them at most, as long as there are not too few."""
LEAST_SHARE = 0.005
"""The least spread that is told apart from none."""


def measure_spread(context: LearningContext, image: Tensor) -> Mapping[int, tuple[float, float]]:
    """Return by site how far images differ from each other by what they show: `Site.spread` and `contrast_spread`.

    The first is the share of a channel's variance that lies between the means of images, averaged over the channels;
    the second the variance between images of the logarithm of that within them, averaged likewise. Both are those of
    images of dead leaves as large as ``image`` ``[1, ...]`` is to the network. On photographs networks for CIFAR-10
    and ImageNet show much the same at most sites, see docs/auto.md. The images are normalized with their joint
    statistics, so that their scale does not matter. Empty for what is no batch of two-dimensional images, and where the
    network fails with so many.
    """
    example = context.input(image)
    if example.dim() != 4 or not example.is_floating_point() or example[0, 0].numel() < 2:
        return {}
    count = count_images(example[0].numel())
    channels, height, width = example.shape[1:]
    leaves = draw_leaves(count, (channels, height, width)).to(example).contiguous(memory_format=torch.channels_last)
    layout = context.layout_of(BN())
    steps = GroupedSteps(BN(), layout, layout.row[None], [Group([0], None, slice(0, count), update=False)])
    forward = AdaptingForward(context.sites, SingleGroupPlan(steps, count, None))
    try:
        with torch.no_grad(), GlobalStateGuard(), forward:
            context.network(leaves)
    except Exception as error:  # of a network for single images, or for less memory
        reason = f"{type(error).__name__}: {error}"
        log.warning("how far content spreads images apart stays unknown: %d images at once fail with %s", count, reason)
        return {}
    return {index: _spreads(moments) for index, moments in forward.moments.items() if moments.pixels > 1}


def count_images(numbers: int) -> int:
    """Return how many images of so many numbers are shown."""
    return max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_NUMBERS // numbers))


def _spreads(moments: BatchMoments) -> tuple[float, float]:
    mean, var = moments.values.detach().chunk(2, -1)
    between = mean.var(0, correction=0)
    pooled = (between + var.mean(0)).clamp_min(TINY)
    contrast = (var / pooled).mean(1).clamp_min(TINY).log()
    return max(LEAST_SHARE, float((between / pooled).mean())), max(LEAST_SHARE, float(contrast.var(correction=0)))
