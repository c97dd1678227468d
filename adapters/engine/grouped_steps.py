"""Steps of strategies that are not linear, for many streams at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Moments, Site, Statistics, Step, step_in_turn
from adapters.engine.moments import BatchMoments
from adapters.evidence import Evidence
from adapters.joint import JointAdapter
from adapters.state.evidence import EvidenceState, add_answers, published
from adapters.state.joint_layout import joint_layout
from adapters.state.memory import Layout, State, join

CHUNK_NUMBERS = 2**17
"""Numbers in the states of streams that are stepped at once: beyond that, results leave the cache."""


class Group(NamedTuple):
    """Requests that take their step together, of n images each; in each of its rounds no two are of one stream."""

    requests: list[int]  # round by round
    streams: Tensor | None  # indices in the step group, request by request of a round; None: all, in order
    images: slice  # of the step group, request by request
    update: bool
    rounds: int = 1


def group_requests(turns: Sequence[tuple[int, int, bool]], streams: int, device: torch.device) -> list[Group]:
    """Group requests ``(stream, images, update)`` so that stepping the groups in order keeps every stream's order.

    The k-th request of a stream is in the k-th round; a round has one part for each number of images. Where the same
    streams go on in the same way in the next round, both rounds are in one group.
    """
    counts: Counter[int] = Counter()
    parts: dict[tuple[int, int, bool], list[int]] = {}
    for request, (stream, images, update) in enumerate(turns):
        parts.setdefault((counts[stream], images, update), []).append(request)
        counts[stream] += 1
    runs: list[list[list[int]]] = []
    open_runs: dict[tuple[int, int, tuple[int, ...]], list[list[int]]] = {}
    for (round_index, images, update), requests in sorted(parts.items()):
        members = tuple(turns[request][0] for request in requests)
        run = open_runs.pop((round_index, images, members), None) if update else None
        if run is None:
            runs.append(run := [])
        run.append(requests)
        if update:
            open_runs[round_index + 1, images, members] = run
    return _to_groups(runs, turns, streams, device)


def _to_groups(
    runs: Sequence[list[list[int]]], requests: Sequence[tuple[int, int, bool]], streams: int, device: torch.device
) -> list[Group]:
    groups, start = [], 0
    for run in runs:
        members = [requests[request][0] for request in run[0]]
        _, images, update = requests[run[0][0]]
        stop = start + images * len(members) * len(run)
        index = None if members == list(range(streams)) else torch.tensor(members, device=device)
        groups.append(Group([request for part in run for request in part], index, slice(start, stop), update, len(run)))
        start = stop
    return groups


class StreamSteps(ABC):
    """The steps of all requests of one strategy, and the states of their streams, ``rows`` ``[streams, size]``."""

    def __init__(self, adapter: AnyAdapter, layout: Layout, rows: Tensor, groups: Sequence[Group]) -> None:
        self.adapter, self.groups, self.initial_rows, self._layout = adapter, groups, rows, layout

    @abstractmethod
    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Step all groups at a site; one row per image, or one row for all."""

    @abstractmethod
    def rows(self) -> Tensor:
        """Return the states after all steps, ``[streams, size]``."""

    def evidence_in(self, states: Tensor) -> Evidence | None:
        """Return the evidence in rows ``[..., size]``, where the adapter reads it."""
        return published(self._layout.split_head(states)) if self.adapter.reads_evidence else None

    def add_answers(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Return the rows after the steps with the evidence that the answers ``[n, K]`` of all images add."""
        if not self.adapter.reads_evidence or logits.dim() != 2:
            return rows
        head: EvidenceState = self._layout.split_head(rows)
        for group in self.groups:
            if not group.update:
                continue
            members = group.streams
            count = len(rows) if members is None else len(members)
            find_mixture = partial(self._find_mixture, rows if members is None else rows.index_select(0, members))
            state = head if members is None else EvidenceState(*(field.index_select(0, members) for field in head))
            for answers in logits[group.images].view(group.rounds, count, -1, logits.shape[-1]).unbind(0):
                state = add_answers(state, answers, find_mixture)
            if members is not None:
                state = EvidenceState(*(o.index_copy(0, members, new) for o, new in zip(head, state, strict=True)))
            head = state
        return torch.cat([join([head], leading=1), rows[:, self._layout.head_size :]], 1)

    def _find_mixture(self, rows: Tensor, mixture: Tensor) -> Tensor:
        joint = joint_layout(self.adapter, self._layout) if isinstance(self.adapter, JointAdapter) else None
        return mixture if joint is None else joint.find_mixture(rows, mixture)


class GroupedSteps(StreamSteps):
    """The steps at one site after another."""

    def __init__(self, adapter: AnyAdapter, layout: Layout, rows: Tensor, groups: Sequence[Group]) -> None:
        super().__init__(adapter, layout, rows, groups)
        # A single stream's states have no axis for streams: most requests are alone, and each view takes its time.
        self._streams = None if rows.shape[0] == 1 else rows.shape[0]
        states = rows[0] if self._streams is None else rows
        self._states, self._evidence = layout.split(states), self.evidence_in(states)

    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Step all groups at a site; one row per image, or one row for all."""
        if index == len(self._states):  # a site that was met in this very forward: every stream is new there
            initial = self.adapter.init(site)
            if self._streams is not None:
                initial = _like(initial, [field.expand(self._streams, *field.shape) for field in initial])
            self._states.append(initial)
        results = [self._step(index, site, group, moments.of(group.images)) for group in self.groups]
        if len(results) == 1:
            return results[0]
        rows = [
            part.expand_to(moments.values[group.images, : site.channels])
            for part, group in zip(results, self.groups, strict=True)
        ]
        return Statistics(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def rows(self) -> Tensor:
        """Return the states after all steps, ``[streams, size]``."""
        if not any(self._states):
            return self.initial_rows
        states = join(self._states)[None] if self._streams is None else join(self._states, leading=1)
        head = self._layout.head_size
        return torch.cat([self.initial_rows[:, :head], states], 1) if head else states

    def _step(self, index: int, site: Site, group: Group, moments: Moments) -> Statistics:
        states, members = self._states[index], group.streams
        state = states if members is None else _like(states, [field.index_select(0, members) for field in states])
        streams = self._streams if members is None else len(members)
        if self._evidence is not None:
            evidence = self._evidence
            evidence = evidence if members is None else evidence.map(lambda field: field.index_select(0, members))
            moments = moments._replace(evidence=evidence)
        statistics, new_states = steps(self.adapter, site, state, moments, streams, group.rounds)
        if group.update:
            if members is not None:
                pairs = zip(states, new_states, strict=True)
                new_states = _like(states, [old.index_copy(0, members, new) for old, new in pairs])
            self._states[index] = new_states
        return statistics


def steps(
    adapter: AnyAdapter, site: Site, states: State, moments: Moments, streams: int | None, rounds: int = 1
) -> tuple[Statistics, State]:
    """Step each of ``streams`` streams, once in each round; the statistics have one row per image, or one for all.

    ``moments`` hold those of all images, round by round and stream by stream, the same number of each. States have a
    leading axis for streams, unless ``streams`` is None: then there is one. So has the evidence, if there is any.
    """
    is_batched = streams is None or adapter.batched
    step: Step[State] = adapter.step if is_batched else _vmapped(adapter, moments.pixels)
    if rounds > 1:
        step = adapter.queue if is_batched else partial(step_in_turn, step)
    lead = (*((rounds,) if rounds > 1 else ()), *(() if streams is None else (streams,)))
    if not lead:
        statistics, new_states = step(site, states, moments)
        return Statistics(*statistics), new_states
    if streams is not None and rounds == 1 and not torch.compiler.is_compiling():
        step = _in_chunks(step, max(1, CHUNK_NUMBERS * streams // max(1, sum(field.numel() for field in states))))
    images, channels = moments.mean.shape
    batched = moments._replace(mean=moments.mean.view(*lead, -1, channels), var=moments.var.view(*lead, -1, channels))
    statistics, new_states = step(site, states, batched)
    statistics = Statistics(*statistics).expand_to(batched.mean)
    return Statistics(statistics.mean.reshape(images, -1), statistics.var.reshape(images, -1)), new_states


def _in_chunks(step: Step[State], size: int) -> Step[State]:
    """Return a step of many streams, ``size`` at a time."""

    def chunked(site: Site, states: State, moments: Moments) -> tuple[Statistics, State]:
        if len(moments.mean) <= size:
            return step(site, states, moments)
        parts = []
        for start in range(0, len(moments.mean), size):
            chunk = slice(start, start + size)
            part = moments.map(itemgetter(chunk))
            statistics, new_states = step(site, _like(states, [field[chunk] for field in states]), part)
            parts.append((*Statistics(*statistics).expand_to(part.mean), *new_states))
        joined = [torch.cat(fields) for fields in zip(*parts, strict=True)]
        return Statistics(*joined[:2]), _like(states, joined[2:])

    return chunked


def _vmapped(adapter: AnyAdapter, pixels: int) -> Step[State]:
    """Return the step over one more axis, whatever the adapter does with shapes."""

    def batched(site: Site, states: State, moments: Moments) -> tuple[Statistics, State]:
        def step(fields: tuple[Tensor, ...], *tensors: Tensor) -> tuple[tuple[Tensor, ...], ...]:
            mean, var, *evidence = tensors
            request = Moments(mean, var, pixels, Evidence(*evidence) if evidence else None)
            results, new_states = adapter.step(site, _like(states, fields), request)
            return tuple(results), tuple(new_states)

        tensors = (moments.mean, moments.var, *(moments.evidence or ()))
        mapped = torch.func.vmap(step, in_dims=(0 if states else None, *(0 for _ in tensors)))
        statistics, new_states = mapped(tuple(states), *tensors)
        return Statistics(*statistics), _like(states, new_states)

    return batched


def _like(like: State, fields: Sequence[Tensor]) -> State:
    built: State = type(like)(*fields)
    return built
