"""Whether a network treats every image of a batch by itself, without which streams could not share a forward."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.engine.calling import SwitchesKept
from adapters.engine.differentiable import LearningContext
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.outputs import logits_of
from adapters.engine.plan import SingleGroupPlan
from adapters.errors import UnsupportedModelError
from adapters.normalization.source import Source

TOLERANCE = 5e-2
"""How far numbers may be off, in units of the largest: what half precision and quantized layers round differently."""

SAME = 1e-4
"""The same for one image twice: what sums in another order differ by."""


def check_independence(hosted: LearningContext, image: Tensor) -> None:
    """Compare what two images like ``image`` ``[1, ...]`` show alone and beside each other, in both orders.

    A network whose answers are random cannot be compared, and is let through.

    Raises:
        UnsupportedModelError: they show something else; the message names where.
    """
    one, other = _two(image)
    alone = [_shown(hosted, one), _shown(hosted, other)]
    again = [_shown(hosted, one), _shown(hosted, other)]
    if any(_difference(*shown, tolerance=SAME) for shown in zip(again, alone, strict=True)):
        return
    for pair, expected in (((one, other), alone), ((other, one), alone[::-1])):
        beside = _shown(hosted, torch.cat(pair))
        where = _difference(beside, {name: torch.cat([part[name] for part in expected]) for name in beside})
        if where is not None:
            raise UnsupportedModelError(
                f"the network treats an image otherwise where others are beside it in a batch (first seen at {where}): "
                "its forward mixes or reorders images, so streams could not share it; take batch statistics without "
                "BatchNorm layers, sorting and the like out of its forward"
            )


def _shown(hosted: LearningContext, images: Tensor) -> dict[str, Tensor]:
    """What the images show at each site, and the answers, with trained statistics: a row for each image."""
    layout = hosted.layout_of(Source())
    everyone = Group([0], None, slice(0, len(images)), update=False)
    steps = GroupedSteps(Source(), layout, layout.row[None], [everyone])
    taken = AdaptingForward(hosted.sites, SingleGroupPlan(steps, len(images), None))
    prepared = hosted.input(images)
    with torch.no_grad(), SwitchesKept(), taken:
        logits = logits_of(hosted.network(prepared))
    sites = {hosted.sites[index].name: seen.both for index, seen in taken.seen.items()}
    return {**sites, "its answer": logits.float().flatten(1)}


def _difference(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE) -> str | None:
    """The first place where numbers differ; None: there is none."""
    for name, numbers in found.items():
        other = expected.get(name)
        if other is None or other.shape != numbers.shape:
            return name
        if not bool((numbers - other).abs().max() <= tolerance * other.abs().max()):
            return name
    return None


def _two(image: Tensor) -> tuple[Tensor, Tensor]:
    """A bright image of this form and a dark one. Numbers that are no colours stay."""
    noise = torch.rand(2, *image.shape[1:], generator=torch.Generator().manual_seed(1))
    one, other = noise[:1], noise[1:]
    if image.dtype == torch.uint8:
        return (one * 255).to(image), (other * 64).to(image)
    if not image.is_floating_point():
        return image, image
    return image + (one * 2 - 1).to(image), (image + (other * 2 - 1).to(image)) * 0.3 - 0.7
