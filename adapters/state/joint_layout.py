"""The states of all adapted sites side by side, as a joint adapter takes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from adapters.base import Site
from adapters.errors import StateError
from adapters.joint import JointAdapter, JointSite
from adapters.state.memory import Layout, State, join


class JointLayout:
    """The columns of rows that hold the states of the sites that an adapter adapts.

    A *place* is the index of one of them in the joint site.

    Raises:
        StateError: the fields of the states cannot be laid side by side.
    """

    def __init__(self, adapter: JointAdapter[Any], layout: Layout, sites: Sequence[Site]) -> None:
        self._adapter = adapter
        adapted = [index for index, site in enumerate(sites) if adapter.adapts(site)]
        self.indices = sorted(adapted, key=lambda index: sites[index].channels)
        self.widths = [sites[index].channels for index in self.indices]
        self.sites = len(sites)
        self.site = JointSite.of([sites[index] for index in self.indices])
        all_columns = layout.split(torch.arange(len(layout), device=self.site.mean.device))
        states = [all_columns[index] for index in self.indices]
        _check_shapes(adapter, states, self.widths)
        fields = [torch.cat(parts, -1) for parts in zip(*states, strict=True)]
        self._kind, self._shapes, self._columns = (
            type(states[0]),
            [field.shape for field in fields],
            join([tuple(fields)]),
        )
        places = [[torch.full_like(part, place) for part in state] for place, state in enumerate(states)]
        self._places = join([tuple(torch.cat(parts, -1) for parts in zip(*places, strict=True))])
        values = torch.arange(2 * len(self.site.mean), device=self.site.mean.device)
        blocks = torch.split(values, [2 * width for width in self.widths])
        self._moments = torch.cat([block.view(2, -1) for block in blocks], 1).flatten()

    def find_mixture(self, rows: Tensor, mixture: Tensor) -> Tensor:
        """Return whether streams with these rows show mixtures ``[..., 1]``, from whether they did."""
        return self._adapter.find_mixture(self.site, self.gather(rows), mixture)

    def gather(self, rows: Tensor) -> State:
        """Return the joint state in rows ``[..., size]``."""
        parts = torch.split(rows.index_select(-1, self._columns), [shape.numel() for shape in self._shapes], -1)
        pairs = zip(parts, self._shapes, strict=True)
        state: State = self._kind(*(part.view(*part.shape[:-1], *shape) for part, shape in pairs))
        return state

    def scatter(self, rows: Tensor, state: State, without: Collection[int] = ()) -> Tensor:
        """Return rows that hold another joint state, except at the places ``without`` it."""
        values = join([state], leading=rows.dim() - 1)
        if without:
            stays = torch.isin(self._places, torch.tensor(list(without), device=rows.device))
            values = torch.where(stays, rows.index_select(-1, self._columns), values)
        return rows.index_copy(-1, self._columns, values)

    def moments(self, values: Sequence[Tensor]) -> Tensor:
        """Return all means, then all variances ``[n, 2C]``, from the moments ``[n, 2 channels]`` at each place."""
        return torch.cat(list(values), 1).index_select(1, self._moments)


@lru_cache(8)
def joint_layout(adapter: JointAdapter[Any], layout: Layout) -> JointLayout | None:
    """Return the joint layout of an adapter's states; None if they have no fields, or if it adapts no site."""
    sites = layout.sites
    has_states = any(adapter.adapts(site) for site in sites) and len(layout) > layout.head_size
    return JointLayout(adapter, layout, sites) if has_states else None


def _check_shapes(adapter: JointAdapter[Any], states: Sequence[State], widths: Sequence[int]) -> None:
    for fields in zip(*states, strict=True):
        shapes = [tuple(field.shape) for field in fields]
        starts, ends = {shape[:-1] for shape in shapes}, [shape[-1:] for shape in shapes]
        is_alike = len(starts) == 1 and ends in ([(width,) for width in widths], [(1,)] * len(widths))
        if not is_alike:
            raise StateError(
                f"{type(adapter).__name__} is a JointAdapter: the last axis of each field of its state must have one "
                "entry per channel, or one at every site, and the axes before it must be alike at all sites; not "
                f"{sorted(set(shapes))} at sites of {sorted(set(widths))} channels: change init, or subclass Adapter"
            )
