"""The hosted network as learners use it: forwards that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter
from adapters.engine.affine import AffineLayout, AffineOffsets
from adapters.engine.calling import GlobalStateGuard
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.network import channels_last
from adapters.engine.outputs import logits_of
from adapters.engine.plan import SingleGroupPlan
from adapters.sites import Sites
from adapters.state.memory import Layouts


class LearningContext(NamedTuple):
    """A network with the data that lessons need."""

    network: nn.Module  # in ``eval()``, its own parameters without gradients
    sites: Sites
    affine_layout: AffineLayout
    layout_of: Layouts
    prepare: Callable[[Tensor], Tensor] | None  # from images as requests hold them to the network's input
    dtype: torch.dtype | None  # of that input; None: as it is

    def input(self, images: Tensor) -> Tensor:
        """Return the network's input, on its device: a tensor of its own, because networks may write to their input."""
        with torch.no_grad():
            placed = images.to(self.sites[0].mean.device)
            prepared = channels_last(placed if self.prepare is None else self.prepare(placed), self.dtype)
            return prepared.clone(memory_format=torch.preserve_format) if _share_memory(prepared, images) else prepared


def _share_memory(first: Tensor, second: Tensor) -> bool:
    return first.data_ptr() == second.data_ptr()


class DifferentiableNetwork:
    """One network with one adapter, see `adapters.base.Network`."""

    def __init__(self, context: LearningContext, adapter: AnyAdapter) -> None:
        self._context, self._adapter, self._layout = context, adapter, context.layout_of(adapter)

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the images, and the adapter's state after them, see `adapters.base.Network`."""
        group = Group([0], None, slice(0, len(images)), update=True)
        steps = GroupedSteps(self._adapter, self._layout, self._layout.complete(row)[None], [group])
        plan = SingleGroupPlan(steps, len(images), AffineOffsets(self._context.affine_layout.slices, affine[None]))
        prepared = self._context.input(images)
        with torch.enable_grad(), GlobalStateGuard(), AdaptingForward(self._context.sites, plan):
            logits = logits_of(self._context.network(prepared))
        new_row = steps.rows()[0].detach()
        # A strategy without a state leaves the row unchanged.
        return logits.float(), new_row.clone() if _share_memory(new_row, row) else new_row
