"""Find the affine parameters of a network that a learner can move: those that a gradient reaches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adapters.engine.differentiable import DifferentiableNetwork, LearningContext
from adapters.errors import UnsupportedModelError
from adapters.normalization.source import Source


class Reach(NamedTuple):
    """The layers with parameters that a gradient reaches, and those that it does not."""

    reached: tuple[str, ...]
    missed: tuple[str, ...]
    reason: str = ""  # where none is reached

    def check(self) -> None:
        """Refuse to learn where nothing could be moved.

        Raises:
            UnsupportedModelError: no parameter is reached.
        """
        if not self.reached:
            raise UnsupportedModelError(
                f"learners cannot change anything in this network: {self.reason}; choose a strategy without "
                "tent, core or rotta"
            )


def find_reach(context: LearningContext, images: Tensor) -> Reach:
    """Try with one forward and backward of ``images`` ``[n, ...]``, normalized by the trained statistics."""
    layers = tuple(context.affine_layout.slices)
    if not layers:
        return Reach((), (), "its BatchNorm layers have no affine parameters (affine=False)")
    with torch.inference_mode(False), torch.enable_grad():
        affine = torch.zeros(context.affine_layout.size, device=context.sites[0].mean.device, requires_grad=True)
        row = context.layout_of(Source()).row
        try:
            with torch.autograd.graph.disable_saved_tensors_hooks(_RECOMPUTES):
                logits, _ = DifferentiableNetwork(context, Source())(two_images(images), row, affine)
            if _recomputes(logits):
                return Reach((), layers, _RECOMPUTES)
            # Different weights, because the sum of the outputs of a softmax is constant.
            loss = (logits * torch.linspace(0.5, 1.5, logits.numel(), device=logits.device).view_as(logits)).sum()
            slope = torch.autograd.grad(loss, affine)[0] if loss.requires_grad else None
        except Exception as error:
            if _RECOMPUTES in str(error):
                return Reach((), layers, _RECOMPUTES)
            # Every error of the network's own code under gradients would also occur in a lesson.
            return Reach((), layers, f"no gradient passes through it ({type(error).__name__}: {_first_line(error)})")
    if slope is None:
        return Reach((), layers, "its forward keeps gradients out (torch.no_grad, inference_mode or detach)")
    slices = context.affine_layout.slices
    reached = tuple(name for name in layers if slope[slices[name].weights].any() or slope[slices[name].biases].any())
    missed = tuple(name for name in layers if name not in reached)
    return Reach(reached, missed, "" if reached else "the gradient of its output is zero at all of them")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


_RECOMPUTES = "its forward is computed again for gradients (activation checkpointing), which has to be switched off"


def _recomputes(logits: Tensor) -> bool:
    """Return whether a part of the graph of the logits is recomputed in the backward (checkpointing)."""
    visited, open_nodes = set(), [logits.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in visited:
            continue
        if "Checkpoint" in node.name():
            return True
        visited.add(node)
        open_nodes += [parent for parent, _ in node.next_functions]
    return False


def two_images(images: Tensor) -> Tensor:
    """Two different images of this form, because a black image may have no gradient; other inputs stay."""
    noise = torch.rand(2, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    if images.dtype == torch.uint8:
        return (noise * 255).to(images)
    return images + (noise * 2 - 1).to(images) if images.is_floating_point() else images
