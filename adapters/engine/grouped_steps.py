"""Steps of any strategy, many streams at a time: what cannot be written as weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Moments, Site, Statistics
from adapters.engine.moments import BatchMoments
from adapters.state.memory import Layout, State, join

TOGETHER = 2**17
"""Numbers in the states of streams that are stepped together: beyond that, what is made of them leaves the cache."""


class Group(NamedTuple):
    """Requests that take their step together, of n images each; in each of its rounds no two are of one stream."""

    requests: list[int]  # round by round
    streams: Tensor | None  # which of the block's, request by request of a round; None: every one, in order
    images: slice  # of the block, request by request
    update: bool
    rounds: int = 1


def in_turn(turns: Sequence[tuple[int, int, bool]], streams: int, device: torch.device) -> list[Group]:
    """Group requests ``(stream, images, update)`` so that stepping the groups in order keeps every stream's order.

    The k-th request of a stream is in the k-th round; a round has one part for each number of images. Where the same
    streams go on in the same way in the next round, both rounds are in one group.
    """
    met: Counter[int] = Counter()
    parts: dict[tuple[int, int, bool], list[int]] = {}
    for request, (stream, images, update) in enumerate(turns):
        parts.setdefault((met[stream], images, update), []).append(request)
        met[stream] += 1
    runs: list[list[list[int]]] = []
    going_on: dict[tuple[int, int, tuple[int, ...]], list[list[int]]] = {}
    for (turn, images, update), requests in sorted(parts.items()):
        who = tuple(turns[request][0] for request in requests)
        run = going_on.pop((turn, images, who), None) if update else None
        if run is None:
            runs.append(run := [])
        run.append(requests)
        if update:
            going_on[turn + 1, images, who] = run
    return _placed(runs, turns, streams, device)


def _placed(
    runs: Sequence[list[list[int]]], turns: Sequence[tuple[int, int, bool]], streams: int, device: torch.device
) -> list[Group]:
    groups, start = [], 0
    for run in runs:
        which = [turns[request][0] for request in run[0]]
        _, images, update = turns[run[0][0]]
        stop = start + images * len(which) * len(run)
        asked = None if which == list(range(streams)) else torch.tensor(which, device=device)
        groups.append(Group([request for part in run for request in part], asked, slice(start, stop), update, len(run)))
        start = stop
    return groups


class GroupedSteps:
    """The steps of all requests of one strategy, and the states of their streams, ``rows`` ``[streams, size]``."""

    def __init__(self, adapter: AnyAdapter, layout: Layout, rows: Tensor, groups: Sequence[Group]) -> None:
        self.adapter, self.groups, self.given = adapter, groups, rows
        # A single stream's states have no axis for streams: most requests are alone, and each view takes its time.
        self._streams = None if rows.shape[0] == 1 else rows.shape[0]
        self._states = layout.split(rows[0] if self._streams is None else rows)

    def step(self, index: int, site: Site, seen: BatchMoments) -> Statistics:
        """Step all groups at a site; one row per image."""
        if index == len(self._states):  # a site that was met in this very forward: every stream is new there
            fresh = self.adapter.init(site)
            if self._streams is not None:
                fresh = _build(fresh, [field.expand(self._streams, *field.shape) for field in fresh])
            self._states.append(fresh)
        used = [self._step(index, site, group, seen.of(group.images)) for group in self.groups]
        return used[0] if len(used) == 1 else Statistics(*(torch.cat(parts) for parts in zip(*used, strict=True)))

    def rows(self) -> Tensor:
        """The states after all steps, ``[streams, size]``."""
        if not any(self._states):
            return self.given
        return join(self._states)[None] if self._streams is None else join(self._states, leading=1)

    def _step(self, index: int, site: Site, group: Group, seen: Moments) -> Statistics:
        held, which = self._states[index], group.streams
        state = held if which is None else _build(held, [field.index_select(0, which) for field in held])
        streams = self._streams if which is None else len(which)
        used, after = steps(self.adapter, site, state, seen, streams, group.rounds)
        if group.update:
            if which is not None:
                after = _build(held, [old.index_copy(0, which, new) for old, new in zip(held, after, strict=True)])
            self._states[index] = after
        return used


Step = Callable[[Site, State, Moments], tuple[Statistics, State]]


def steps(
    adapter: AnyAdapter, site: Site, states: State, seen: Moments, streams: int | None, rounds: int = 1
) -> tuple[Statistics, State]:
    """The steps of each of ``streams`` streams, one in each round; the statistics have one row per image.

    ``seen`` holds the images of all, round by round and stream by stream, the same number of each. States have an axis
    for streams in front, unless ``streams`` is None: then there is one.
    """
    step: Step = adapter.step
    queue: Step | None = getattr(adapter, "queue", None)
    if streams is not None and not getattr(adapter, "batched", False):
        step, queue = _mapped(adapter, seen.pixels), None
    if rounds > 1:
        step = queue or _one_by_one(step)
    lead = (*((rounds,) if rounds > 1 else ()), *(() if streams is None else (streams,)))
    if not lead:
        used, after = step(site, states, seen)
        return _per_image(used, seen.mean), after
    if streams is not None and rounds == 1 and not torch.compiler.is_compiling():
        step = _in_parts(step, max(1, TOGETHER * streams // max(1, sum(field.numel() for field in states))))
    images, channels = seen.mean.shape
    shown = Moments(seen.mean.view(*lead, -1, channels), seen.var.view(*lead, -1, channels), seen.pixels)
    used, after = step(site, states, shown)
    each = _per_image(used, shown.mean)
    return Statistics(each.mean.reshape(images, -1), each.var.reshape(images, -1)), after


def _in_parts(step: Step, at_once: int) -> Step:
    """Steps of many streams, that many at a time."""

    def parted(site: Site, states: State, seen: Moments) -> tuple[Statistics, State]:
        if len(seen.mean) <= at_once:
            return step(site, states, seen)
        parts = []
        shown = zip(torch.split(seen.mean, at_once), torch.split(seen.var, at_once), strict=True)
        held = zip(*(torch.split(field, at_once) for field in states), strict=True)
        for (mean, var), fields in zip(shown, held, strict=True):
            used, after = step(site, _build(states, fields), Moments(mean, var, seen.pixels))
            parts.append((*_per_image(used, mean), *after))
        joined = [torch.cat(fields) for fields in zip(*parts, strict=True)]
        return Statistics(*joined[:2]), _build(states, joined[2:])

    return parted


def _one_by_one(step: Step) -> Step:
    """Steps of which each continues the one before, along a first axis of what is seen."""

    def queue(site: Site, state: State, seen: Moments) -> tuple[Statistics, State]:
        used = []
        for mean, var in zip(seen.mean.unbind(0), seen.var.unbind(0), strict=True):
            one, state = step(site, state, Moments(mean, var, seen.pixels))
            used.append(_per_image(one, mean))
        return Statistics(*(torch.stack(parts) for parts in zip(*used, strict=True))), state

    return queue


def _mapped(adapter: AnyAdapter, pixels: int) -> Step:
    """The step over one more axis, whatever the adapter does with shapes."""

    def batched(site: Site, states: State, seen: Moments) -> tuple[Statistics, State]:
        def step(fields: tuple[Tensor, ...], mean: Tensor, var: Tensor) -> tuple[tuple[Tensor, ...], ...]:
            used, after = adapter.step(site, _build(states, fields), Moments(mean, var, pixels))
            return tuple(used), tuple(after)

        used, after = torch.func.vmap(step, in_dims=(0 if states else None, 0, 0))(tuple(states), seen.mean, seen.var)
        return Statistics(*used), _build(states, after)

    return batched


def _per_image(used: Statistics, like: Tensor) -> Statistics:
    """Statistics ``[..., C]`` or ``[..., n, C]`` as one row per image, where ``like`` is ``[..., n, C]``."""
    return Statistics(*(part if part.dim() == like.dim() else part.unsqueeze(-2).expand(like.shape) for part in used))


def _build(like: State, fields: Sequence[Tensor]) -> State:
    built: State = type(like)(*fields)
    return built
