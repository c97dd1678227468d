"""The hosted network as learners use it: forwards that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter
from adapters.engine.affine import AffineLayout, AffineOffsets
from adapters.engine.calling import SwitchesKept
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.network import channels_last
from adapters.engine.outputs import logits_of
from adapters.engine.plan import SingleGroupPlan
from adapters.sites import Sites
from adapters.state.memory import Layouts


class LearningContext(NamedTuple):
    """A network and what lessons need of it."""

    network: nn.Module  # in ``eval()``, its own parameters without gradients
    sites: Sites
    affine_layout: AffineLayout
    layout_of: Layouts
    prepare: Callable[[Tensor], Tensor] | None  # from images as requests hold them to the network's input
    dtype: torch.dtype | None  # of that input; None: as it is

    def input(self, images: Tensor) -> Tensor:
        """The network's input, where the network is: a tensor of its own, because networks may write to their input."""
        with torch.no_grad():
            moved = images.to(self.sites[0].mean.device)
            prepared = channels_last(moved if self.prepare is None else self.prepare(moved), self.dtype)
            return prepared.clone(memory_format=torch.preserve_format) if _shared(prepared, images) else prepared


def _shared(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()


class DifferentiableNetwork:
    """One network with one adapter, see `adapters.base.Network`."""

    def __init__(self, hosted: LearningContext, adapter: AnyAdapter) -> None:
        self._hosted, self._adapter, self._layout = hosted, adapter, hosted.layout_of(adapter)

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the images, and the adapter's state after them, see `adapters.base.Network`."""
        everyone = Group([0], None, slice(0, len(images)), update=True)
        steps = GroupedSteps(self._adapter, self._layout, self._layout.complete(row)[None], [everyone])
        plan = SingleGroupPlan(steps, len(images), AffineOffsets(self._hosted.affine_layout.slices, affine[None]))
        prepared = self._hosted.input(images)
        with torch.enable_grad(), SwitchesKept(), AdaptingForward(self._hosted.sites, plan):
            logits = logits_of(self._hosted.network(prepared))
        after = steps.rows()[0].detach()
        # A strategy that remembers nothing leaves the row that it was given.
        return logits.float(), after.clone() if _shared(after, row) else after
