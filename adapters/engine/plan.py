"""The plan of a forward: its requests, their order and their states; made once, read at every site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Site, Statistics
from adapters.engine.affine import AffineLayout, AffineOffsets, affine_offsets
from adapters.engine.grouped_steps import StreamSteps, group_requests
from adapters.engine.joint_steps import stream_steps
from adapters.engine.linear_steps import LinearRequest, LinearSteps, linear_inputs
from adapters.engine.moments import BatchMoments
from adapters.normalization.linear import Linear, as_linear
from adapters.sites import Sites
from adapters.state.memory import Layouts, Memories, StateKey


class PlannedRequest(NamedTuple):
    """The data of a request that planning needs."""

    key: StateKey
    images: int
    update: bool
    pixels: Tensor = torch.empty(0)  # its images, for later lessons

    @property
    def has_correctors(self) -> bool:
        """Return whether the strategy has correctors."""
        return bool(self.key.strategy.correctors)

    @property
    def learns(self) -> bool:
        """Return whether the request is to be learned from, once it is answered."""
        return self.update and self.key.strategy.learner is not None


Steps = LinearSteps | StreamSteps


class StepGroup(NamedTuple):
    """Requests that are stepped together: where their images lie in the forward, and whose states they have."""

    steps: Steps
    images: slice
    keys: list[StateKey]


class Plan:
    """The order of a forward's images, and the steps to take at each site.

    The requests of all linear strategies are one group, those of every other strategy one group each. Images are
    ordered group by group, so that those of a group lie side by side.
    """

    def __init__(
        self,
        sites: Sites,
        requests: Sequence[PlannedRequest],
        memories: Memories,
        layout_of: Layouts,
        affine_layout: AffineLayout | None = None,
    ) -> None:
        self.sites, self.requests = sites, list(requests)
        self.outliers = [0] * len(self.requests)  # images of each request that nothing is learned from
        self.weights = [1.0] * len(self.requests)  # by which each request moves averages, of its usual step
        self._memories, self._layout_of = memories, layout_of
        self.order: list[int] = []  # the requests, as their images lie in the forward
        self.groups: list[StepGroup] = []
        self.images = 0
        linear: dict[int, Linear] = {}
        grouped: dict[AnyAdapter, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            rule = as_linear(request.key.adapter)
            if rule is None:
                grouped[request.key.adapter].append(index)
            else:
                linear[index] = rule
        if linear:
            self._add_linear(linear)
        for adapter, indices in grouped.items():
            self._add_grouped(adapter, indices)
        self.rows = self._rows()
        # Most forwards have none, which saves the rest.
        self.has_composites = not all(request.key.strategy.is_single for request in requests)
        self.offsets = self._offsets(affine_layout) if affine_layout is not None and self.has_composites else None

    @property
    def reads_features(self) -> bool:
        """Return whether a corrector reads the input of the network's last layer."""
        return self.has_composites and any(request.key.strategy.reads_features for request in self.requests)

    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Return the statistics that normalize each image at a site: one row per image, or one row for all."""
        if len(self.groups) == 1:
            return self.groups[0].steps.step(index, site, moments)
        statistics = []
        for group in self.groups:
            part = group.steps.step(index, site, BatchMoments(moments.values[group.images], moments.pixels))
            images = group.images.stop - group.images.start
            statistics.append([tensor.expand(images, site.channels) for tensor in part])
        mean, var = zip(*statistics, strict=True)
        return Statistics(torch.cat(mean), torch.cat(var))

    def withhold(self, is_far: Sequence[bool]) -> None:
        """Answer requests with images that are far from all that training showed, but learn nothing from them.

        ``is_far`` lies as the plan orders the images. Of a stream with several requests the later ones have met what
        those would have taught: they have to run again, as `adapters.engine.outcome` sees to.
        """
        for index, rows in enumerate(self.rows if any(is_far) else ()):
            self.outliers[index] = sum(is_far[rows])
            if self.outliers[index]:
                self.requests[index], self.weights[index] = self.requests[index]._replace(update=False), 0.0

    def fade(self, states: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        """Return the groups' ``states`` where images have those ``weights``, which lie as the plan orders the images.

        A request weighs what its lightest image does. Only running averages, the states of linear strategies, can be
        moved a part of the way. Later requests of a stream have to run again, as in `withhold`.
        """
        new_states = list(states)
        if min(weights) == 1.0:
            return new_states
        for position, group in enumerate(self.groups):
            if not isinstance(group.steps, LinearSteps) or not group.keys:
                continue
            share = dict.fromkeys(group.keys, 1.0)
            for index, (request, rows) in enumerate(zip(self.requests, self.rows, strict=True)):
                if request.key in share and request.update:
                    self.weights[index] = min(weights[rows])
                    share[request.key] = min(share[request.key], self.weights[index])
            parts = states[position].new_tensor(list(share.values()))[:, None]
            faded = torch.lerp(group.steps.old_rows(), states[position], parts)
            new_states[position] = torch.where(parts < 1, faded, states[position])
        return new_states

    def _offsets(self, affine_layout: AffineLayout) -> AffineOffsets | None:
        added = [self._affine_offset(self.requests[index].key) for index in self.order]
        return affine_offsets(affine_layout.slices, added, [self.requests[index].images for index in self.order])

    def _affine_offset(self, key: StateKey) -> Tensor | None:
        """Return the offsets that a stream has learned for the affine parameters, or None without any."""
        learner = key.strategy.learner
        if learner is None or key not in self._memories:
            return None
        state = self._memories[key].parts[:1]
        return learner.affine(state[0]) if state and state[0] else None

    def _rows(self) -> list[slice]:
        """Return the slice of each request's images in the forward, by request."""
        rows = [slice(0)] * len(self.requests)
        start = 0
        for index in self.order:
            rows[index] = slice(start, start + self.requests[index].images)
            start = rows[index].stop
        return rows

    def _add_linear(self, rules: Mapping[int, Linear]) -> None:
        requests = [(self.requests[index], rule) for index, rule in rules.items()]
        keys = list(dict.fromkeys(request.key for request, rule in requests if rule.remembers))
        stream = {key: index for index, key in enumerate(keys)}
        parts = [
            LinearRequest(rule, request.images, stream.get(request.key), request.update) for request, rule in requests
        ]
        steps = LinearSteps(parts, linear_inputs(parts, self._gather(keys)), list(self.sites))
        self._add(steps, list(rules), sum(request.images for request, _ in requests), keys)

    def _add_grouped(self, adapter: AnyAdapter, indices: list[int]) -> None:
        keys = list(dict.fromkeys(self.requests[index].key for index in indices))
        stream = {key: index for index, key in enumerate(keys)}
        requests = [(stream[self.requests[i].key], self.requests[i].images, self.requests[i].update) for i in indices]
        rows = self._gather(keys)
        groups = group_requests(requests, len(keys), rows.device)
        steps = stream_steps(adapter, self._layout_of(adapter), rows, groups)
        order = [indices[member] for group in groups for member in group.requests]
        self._add(steps, order, sum(images for _, images, _ in requests), keys)

    def old_row(self, key: StateKey) -> Tensor:
        """Return the row of a stream before the forward; a missing one is the row of a new stream."""
        layout = self._layout_of(key.adapter)
        return layout.complete(self._memories[key].row) if key in self._memories else layout.row

    def _gather(self, keys: Sequence[StateKey]) -> Tensor:
        """Return the rows of ``keys``, stacked."""
        rows = [self.old_row(key) for key in keys]
        if len(rows) == 1:
            return rows[0][None]
        return torch.stack(rows) if rows else self.sites[0].mean.new_empty(0, 0)

    def _add(self, steps: Steps, order: list[int], images: int, keys: list[StateKey]) -> None:
        self.order += order
        self.groups.append(StepGroup(steps, slice(self.images, self.images + images), keys))
        self.images += images


class SingleGroupPlan:
    """A plan of one group of steps, for forwards outside of requests: lessons, probes and tracing."""

    def __init__(self, steps: Steps, images: int, offsets: AffineOffsets | None) -> None:
        self._steps, self.images, self.offsets = steps, images, offsets

    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Return the statistics that normalize each image at a site."""
        return self._steps.step(index, site, moments)
