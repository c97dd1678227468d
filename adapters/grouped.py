"""Steps of any strategy, many streams at a time: what cannot be written as weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Moments, Site, Statistics
from adapters.memory import Layout, State, join
from adapters.moments import Seen


class Group(NamedTuple):
    """Requests that take their step together: of n images each, no two of one stream."""

    requests: list[int]
    streams: Tensor | None  # which of the block's, request by request; None: every one, in order
    images: slice  # of the block, request by request
    update: bool


def in_turn(turns: Sequence[tuple[int, int, bool]], streams: int, device: torch.device) -> list[Group]:
    """Group requests ``(stream, images, update)`` so that stepping the groups in order keeps every stream's order.

    The k-th request of a stream is in the k-th round; a round has one group for each number of images.
    """
    met: Counter[int] = Counter()
    rounds: dict[tuple[int, int, bool], list[int]] = {}
    for request, (stream, images, update) in enumerate(turns):
        rounds.setdefault((met[stream], images, update), []).append(request)
        met[stream] += 1
    groups, start = [], 0
    for (_, images, update), requests in sorted(rounds.items()):
        stop = start + images * len(requests)
        which = [turns[request][0] for request in requests]
        whole = which == list(range(streams))
        groups.append(
            Group(requests, None if whole else torch.tensor(which, device=device), slice(start, stop), update)
        )
        start = stop
    return groups


class GroupedSteps:
    """The steps of all requests of one strategy, and the states of their streams, ``rows`` ``[streams, size]``."""

    def __init__(self, adapter: AnyAdapter, layout: Layout, rows: Tensor, groups: Sequence[Group]) -> None:
        self.adapter, self.groups, self.given = adapter, groups, rows
        self._states = layout.split(rows)

    def step(self, index: int, site: Site, seen: Seen) -> Statistics:
        """Step all groups at a site; one row per image."""
        if index == len(self._states):  # a site that was met in this very forward: every stream is new there
            fresh = self.adapter.init(site)
            self._states.append(_build(fresh, [field.expand(self.given.shape[0], *field.shape) for field in fresh]))
        used = [self._step(index, site, group, seen.of(group.images)) for group in self.groups]
        return used[0] if len(used) == 1 else Statistics(*(torch.cat(parts) for parts in zip(*used, strict=True)))

    def rows(self) -> Tensor:
        """The states after all steps, ``[streams, size]``."""
        return join(self._states, leading=1) if any(self._states) else self.given

    def _step(self, index: int, site: Site, group: Group, seen: Moments) -> Statistics:
        held, which = self._states[index], group.streams
        state = held if which is None else _build(held, [field.index_select(0, which) for field in held])
        used, after = steps(self.adapter, site, state, seen, self.given.shape[0] if which is None else len(which))
        if group.update:
            if which is not None:
                after = _build(held, [old.index_copy(0, which, new) for old, new in zip(held, after, strict=True)])
            self._states[index] = after
        return used


def steps(adapter: AnyAdapter, site: Site, states: State, seen: Moments, streams: int) -> tuple[Statistics, State]:
    """One step of each of ``streams`` streams, whose states have one more axis, in front.

    ``seen`` holds the images of all, the same number of each. The statistics have one row per image.
    """
    images, channels = seen.mean.shape
    if streams == 1:
        used, after = adapter.step(site, _build(states, [field[0] for field in states]), seen)
        return _per_image(used, seen.mean), _build(states, [field[None] for field in after])
    shown = Moments(seen.mean.view(streams, -1, channels), seen.var.view(streams, -1, channels), seen.pixels)
    batched = adapter.step if getattr(adapter, "batched", False) else _mapped(adapter, seen.pixels)
    used, after = batched(site, states, shown)
    each = _per_image(used, shown.mean)
    return Statistics(each.mean.reshape(images, -1), each.var.reshape(images, -1)), after


def _mapped(adapter: AnyAdapter, pixels: int) -> Callable[[Site, State, Moments], tuple[Statistics, State]]:
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
