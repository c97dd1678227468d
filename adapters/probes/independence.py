"""Check that a network treats every image of a batch by itself, so that streams can share a forward."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.engine.calling import GlobalStateGuard
from adapters.engine.differentiable import LearningContext
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.outputs import logits_of
from adapters.engine.plan import SingleGroupPlan
from adapters.errors import UnsupportedModelError
from adapters.normalization.source import Source

TOLERANCE = 5e-2
"""Tolerance in units of the largest number, for the rounding of half precision and quantized layers."""

REPEAT_TOLERANCE = 1e-4
"""The same for one image twice: the rounding of sums in another order."""


def check_independence(context: LearningContext, image: Tensor) -> None:
    """Compare what two images like ``image`` ``[1, ...]`` show alone and beside each other, in both orders.

    A network whose answers are random cannot be compared, and is let through.

    Raises:
        UnsupportedModelError: they show something else; the message names the site.
    """
    first, second = _image_pair(image)
    separate = [_site_rows(context, first), _site_rows(context, second)]
    again = [_site_rows(context, first), _site_rows(context, second)]
    if any(_difference(*pair, tolerance=REPEAT_TOLERANCE) for pair in zip(again, separate, strict=True)):
        return
    for pair, expected in (((first, second), separate), ((second, first), separate[::-1])):
        combined = _site_rows(context, torch.cat(pair))
        location = _difference(combined, {name: torch.cat([part[name] for part in expected]) for name in combined})
        if location is not None:
            raise UnsupportedModelError(
                f"the network's output for an image depends on the other images in its batch (at {location}): its "
                "forward mixes or reorders images, so streams could not share it; take batch statistics without "
                "BatchNorm layers, sorting and the like out of its forward"
            )


def _site_rows(context: LearningContext, images: Tensor) -> dict[str, Tensor]:
    """Return the images' moments at each site and their logits, with trained statistics: a row for each image."""
    layout = context.layout_of(Source())
    group = Group([0], None, slice(0, len(images)), update=False)
    steps = GroupedSteps(Source(), layout, layout.row[None], [group])
    forward = AdaptingForward(context.sites, SingleGroupPlan(steps, len(images), None))
    prepared = context.input(images)
    with torch.no_grad(), GlobalStateGuard(), forward:
        logits = logits_of(context.network(prepared))
    sites = {context.sites[index].name: moments.values for index, moments in forward.moments.items()}
    return {**sites, "its answer": logits.float().flatten(1)}


def _difference(rows: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = TOLERANCE) -> str | None:
    """Return the first name whose numbers differ, or None."""
    for name, numbers in rows.items():
        reference = expected.get(name)
        if reference is None or reference.shape != numbers.shape:
            return name
        if not bool((numbers - reference).abs().max() <= tolerance * reference.abs().max()):
            return name
    return None


def _image_pair(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return a bright image of this form and a dark one. Numbers that are no colours stay."""
    noise = torch.rand(2, *image.shape[1:], generator=torch.Generator().manual_seed(1))
    bright, dark = noise[:1], noise[1:]
    if image.dtype == torch.uint8:
        return (bright * 255).to(image), (dark * 64).to(image)
    if not image.is_floating_point():
        return image, image
    return image + (bright * 2 - 1).to(image), (image + (dark * 2 - 1).to(image)) * 0.3 - 0.7
