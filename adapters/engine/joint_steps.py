"""Steps of single images at all sites at once, for adapters that know beforehand what they normalize them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Moments, Site, Statistics
from adapters.engine.grouped_steps import CHUNK_NUMBERS, Group, GroupedSteps, StreamSteps, steps
from adapters.engine.moments import BatchMoments
from adapters.joint import JointAdapter
from adapters.number import is_zero
from adapters.state.joint_layout import JointLayout, joint_layout
from adapters.state.memory import Layout, State, join


class JointSteps(StreamSteps):
    """The steps of a request of one image of each stream: statistics for all sites before, states of all after.

    A site that is met in this very forward takes its step by itself.
    """

    adapter: JointAdapter[Any]

    def __init__(
        self, adapter: JointAdapter[Any], layout: Layout, rows: Tensor, groups: Sequence[Group], joint: JointLayout
    ) -> None:
        super().__init__(adapter, layout, rows, groups)
        self._joint = joint
        self._moments: dict[int, BatchMoments] = {}
        self._new_states: dict[int, State] = {}
        self._statistics: dict[int, Statistics] | None = None

    def _foresee(self) -> dict[int, Statistics]:
        """Compute the statistics of all sites, at the first of them: a compiled forward does so by itself."""
        joint, adapter, rows = self._joint, self.adapter, self.initial_rows
        self._row_chunks = torch.split(rows, max(1, CHUNK_NUMBERS // max(1, len(self._layout))))
        self._states = [joint.gather(part) for part in self._row_chunks]
        self._evidence = [self.evidence_in(part) for part in self._row_chunks]
        pairs = zip(self._states, self._evidence, strict=True)
        chunks = [adapter.foresee(joint.site, state, evidence) for state, evidence in pairs]
        if len(chunks) > 1:
            # Statistics that all streams share have no axis for them.
            parts_rows = zip(chunks, self._row_chunks, strict=True)
            chunks = [Statistics(*(p.expand(len(rows), -1) for p in chunk)) for chunk, rows in parts_rows]
        (mean, var) = chunks[0] if len(chunks) == 1 else map(torch.cat, zip(*chunks, strict=True))
        # A single row loses its axis here, so that no site has to take it off.
        flat = (part[0] if part.dim() == 2 and len(part) == 1 else part for part in (mean, var))
        parts = (torch.split(part, joint.widths, -1) for part in flat)
        is_whole = len(self._evidence) == 1
        self._own_weight = adapter.own_weight(self._evidence[0] if is_whole else self.evidence_in(rows))
        self._needs_refining = not is_zero(self._own_weight)
        return dict(zip(joint.indices, map(Statistics, *parts), strict=True))

    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Return the statistics of all images at a site: one row per image, or one row for all."""
        if self._statistics is None:
            self._statistics = self._foresee()
        self._moments[index] = moments
        if index >= self._joint.sites:
            return self._meet(index, site, moments)
        if moments.pixels < 2 or index not in self._statistics:
            return site.trained
        statistics = self._statistics[index]
        if not self._needs_refining:
            return statistics
        images = moments.of(slice(0, len(self.initial_rows))).map(lambda field: field.unsqueeze(1))
        refined = self.adapter.refine(site, statistics, self._own_weight, images)
        return Statistics(*(part.squeeze(1) if part.dim() == images.mean.dim() else part for part in refined))

    def rows(self) -> Tensor:
        """Return the states after all steps, ``[streams, size]``."""
        rows = self._learned_rows() if self.groups[0].update else self.initial_rows
        return torch.cat([rows, join(list(self._new_states.values()), leading=1)], 1) if self._new_states else rows

    def _learned_rows(self) -> Tensor:
        joint, streams = self._joint, len(self.initial_rows)
        activations: list[BatchMoments | None] = [self._moments.get(index) for index in joint.indices]
        silent = [place for place, moments in enumerate(activations) if moments is None or moments.pixels < 2]
        if len(silent) == len(activations):
            return self.initial_rows
        values = [
            moments.values if moments is not None else self.initial_rows.new_zeros(streams, 2 * width)
            for moments, width in zip(activations, joint.widths, strict=True)
        ]
        images = torch.split(joint.moments(values), len(self._row_chunks[0]))
        parts = []
        for part, state, evidence, image in zip(self._row_chunks, self._states, self._evidence, images, strict=True):
            mean, var = image[:, None].chunk(2, -1)
            new_state = self.adapter.learn(joint.site, state, Moments(mean, var, 2, evidence))
            parts.append(joint.scatter(part, new_state, silent))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _meet(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        streams, initial = len(self.initial_rows), self.adapter.init(site)
        state = type(initial)(*(field.expand(streams, *field.shape) for field in initial))
        request = moments.of(slice(0, streams))._replace(evidence=self.evidence_in(self.initial_rows))
        statistics, new_state = steps(self.adapter, site, state, request, streams)
        self._new_states[index] = new_state if self.groups[0].update else state
        return statistics


def stream_steps(adapter: AnyAdapter, layout: Layout, rows: Tensor, groups: Sequence[Group]) -> StreamSteps:
    """Return the steps of requests of an adapter that is not linear: all sites at once where that can be."""
    first = groups[0]
    is_whole = len(groups) == 1 and first.streams is None and first.rounds == 1
    if (
        isinstance(adapter, JointAdapter)
        and adapter.batched
        and is_whole
        and first.images.stop - first.images.start == len(rows)
    ):
        joint = joint_layout(adapter, layout)
        if joint is not None:
            return JointSteps(adapter, layout, rows, groups, joint)
    return GroupedSteps(adapter, layout, rows, groups)
