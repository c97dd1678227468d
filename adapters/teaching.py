"""The hosted network as learners use it: forwards that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adapters.affines import Affines, Learned
from adapters.base import AnyAdapter, Site, Statistics
from adapters.forward import Pass
from adapters.grouped import Group, GroupedSteps
from adapters.memory import Layout
from adapters.moments import Seen
from adapters.network import innermost
from adapters.sites import Sites


class Taught:
    """One network with one adapter, see `adapters.roles.Network`.

    Args:
        network: in ``eval()``, its own parameters without gradients.
        prepare: from images as requests hold them to the network's input, of type ``dtype``.
    """

    def __init__(
        self,
        network: nn.Module,
        sites: Sites,
        affines: Affines,
        adapter: AnyAdapter,
        layout: Layout,
        prepare: Callable[[Tensor], Tensor],
        dtype: torch.dtype | None = None,
    ) -> None:
        self._network, self._sites, self._affines = network, sites, affines
        self._adapter, self._layout, self._prepare, self._dtype = adapter, layout, prepare, dtype

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the images, and the adapter's state after them, see `adapters.roles.Network`."""
        with torch.no_grad():
            prepared = innermost(self._prepare(images.to(row.device)), self._dtype)
            if prepared.data_ptr() == images.data_ptr():
                prepared = prepared.clone(memory_format=torch.preserve_format)  # networks may write to their input
        everyone = Group([0], None, slice(0, len(images)), update=True)
        steps = GroupedSteps(self._adapter, self._layout, self._layout.complete(row)[None], [everyone])
        plan = _Lone(steps, len(images), Learned(self._affines.places, affine[None]))
        with torch.enable_grad(), Pass(self._sites, plan):
            logits = self._network(prepared)
        after = steps.rows()[0].detach()
        # A strategy that remembers nothing leaves the row that it was given.
        return logits.float(), after.clone() if after.data_ptr() == row.data_ptr() else after


class _Lone:
    """A plan of one request."""

    def __init__(self, steps: GroupedSteps, images: int, learned: Learned) -> None:
        self._steps, self.images, self.learned = steps, images, learned

    def step(self, index: int, site: Site, seen: Seen) -> Statistics:
        return self._steps.step(index, site, seen)
