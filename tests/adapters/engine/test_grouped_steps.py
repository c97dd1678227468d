"""Steps of strategies that are not linear: many streams at a time equals one after another, in whatever order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import AdaBN, Adapter, AdaptiveModel, AnyAdapter, Moments, Nothing, Request, Site, Statistics, UnMixTNS
from adapters.engine import grouped_steps
from adapters.engine.grouped_steps import GroupedSteps, group_requests, steps
from adapters.engine.moments import BatchMoments
from adapters.state.memory import Layout, join
from tests.nets import Tiny, Twice, images, seeded

CPU = torch.device("cpu")


class Mixed(NamedTuple):
    """Fields of every number of axes."""

    steps: Tensor  # []
    mean: Tensor  # [C]
    grid: Tensor  # [2, C]


@dataclass(frozen=True)
class Shapes(Adapter[Mixed]):
    """Not linear, with a state of every shape, and statistics for each image."""

    pace: float = 0.3

    def init(self, site: Site) -> Mixed:
        return Mixed(torch.zeros(()), site.mean.clone(), torch.stack([site.var, site.var + 1]))

    def step(self, site: Site, state: Mixed, seen: Moments) -> tuple[Statistics, Mixed]:
        bound = state.grid.amax(0)
        mean = torch.where(seen.mean > state.mean, state.mean, seen.mean)  # [n, C]
        after = Mixed(state.steps + 1, torch.maximum(state.mean, seen.mean.amin(-2)), state.grid * (1 + self.pace))
        return Statistics(mean, torch.minimum(seen.var + 0.1, bound)), after


@dataclass(frozen=True)
class Median(Adapter[Nothing]):
    """Not linear, remembers nothing, and has one row for its request."""

    def init(self, site: Site) -> Nothing:
        return Nothing()

    def step(self, site: Site, state: Nothing, seen: Moments) -> tuple[Statistics, Nothing]:
        return Statistics(seen.mean.median(-2).values, seen.var.amax(-2) + 0.1), state


@dataclass(frozen=True)
class Counting(Adapter[Statistics]):
    """Counts how often it is asked, and for how many streams at once."""

    batched: ClassVar[bool] = True
    asked: ClassVar[list[tuple[int, ...]]] = []

    def init(self, site: Site) -> Statistics:
        return Statistics(site.mean.clone(), site.var.clone())

    def step(self, site: Site, state: Statistics, seen: Moments) -> tuple[Statistics, Statistics]:
        self.asked.append(tuple(seen.mean.shape))
        moved = Statistics(*state).toward(seen.pooled(), 0.5)
        return moved, moved


ADAPTERS: list[AnyAdapter] = [
    UnMixTNS(components=3, momentum=0.5),
    UnMixTNS(components=1, reference_images=None),
    AdaBN(cumulative=True),
    AdaBN(cumulative=True, own=False, unbiased=True),
    Shapes(),
    Median(),
]
MANY = settings(max_examples=25, deadline=None, derandomize=True)
turns = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=12)


def site(name: str, channels: int, seed: int) -> Site:
    a, b, c, d = torch.randn(4, channels, generator=torch.Generator().manual_seed(seed))
    return Site(name, a, b.square() + 0.1, c, d, 1e-5)


def show(n: int, channels: int, pixels: int, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    mean, var = 2 * torch.randn(n, channels, generator=generator), torch.rand(n, channels, generator=generator)
    return Moments(mean, var if pixels > 1 else torch.zeros_like(var), pixels)


def near(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


def renumbered(asked: Sequence[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    """Streams in the order of their first request, as a plan numbers them."""
    order = list(dict.fromkeys(stream for stream, _, _ in asked))
    return [(order.index(stream), n, update) for stream, n, update in asked]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(turns)
def test_groups_keep_every_streams_order_and_hold_each_request_once(asked: list[tuple[int, int, bool]]) -> None:
    asked = renumbered(asked)
    count = len({stream for stream, _, _ in asked})
    groups = group_requests(asked, count, CPU)
    assert sorted(request for group in groups for request in group.requests) == list(range(len(asked)))
    met: defaultdict[int, list[int]] = defaultdict(list)
    start = 0
    for group in groups:
        streams = [asked[request][0] for request in group.requests]
        which = group.streams.tolist() if group.streams is not None else list(range(count))
        assert len(set(which)) == len(which)  # no stream steps twice in a round
        assert which * group.rounds == streams
        assert group.update or group.rounds == 1
        sizes = {asked[request][1] for request in group.requests}
        assert len(sizes) == 1
        assert {asked[request][2] for request in group.requests} == {group.update}
        assert group.images == slice(start, start + sizes.pop() * len(streams))
        start = group.images.stop
        for request, stream in zip(group.requests, streams, strict=True):
            met[stream].append(request)
    assert start == sum(n for _, n, _ in asked)
    assert all(requests == sorted(requests) for requests in met.values())


def test_number_of_groups_does_not_grow_with_the_streams() -> None:
    for streams in (1, 32, 500):
        assert len(group_requests([(stream, 1, True) for stream in range(streams)], streams, CPU)) == 1
        ragged = [(stream, 1 + stream % 3, stream % 2 == 0) for stream in range(streams)]
        assert len(group_requests(ragged, streams, CPU)) <= 6
        queued = [(stream, 1, True) for _ in range(4) for stream in range(streams)]
        assert [group.rounds for group in group_requests(queued, streams, CPU)] == [4]


@pytest.mark.parametrize("pixels", [1, 9])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_steps_of_many_streams_are_the_steps_of_each(adapter: AnyAdapter, streams: int, n: int, pixels: int) -> None:
    """With axes of the adapter's own where it has them, by vmap where not, and for a single stream by neither."""
    here = site("s", 4, 1)
    states, used, after = [], [], []
    for stream in range(streams):
        state = adapter.init(here)
        for k in range(stream):  # each with another history
            _, state = adapter.step(here, state, show(2, 4, pixels, 100 * stream + k))
        own_used, own_after = adapter.step(here, state, show(n, 4, pixels, stream))
        states.append(state)
        used.append([part.expand(n, 4) for part in own_used])
        after.append(own_after)
    seen = [show(n, 4, pixels, stream) for stream in range(streams)]
    together = Moments(torch.cat([s.mean for s in seen]), torch.cat([s.var for s in seen]), pixels)
    stacked = type(states[0])(*(torch.stack(field) for field in zip(*states, strict=True)))
    found_used, found_after = steps(adapter, here, stacked, together, streams)
    if streams == 1:
        alone_used, alone_after = steps(adapter, here, states[0], together, None)
        alone_used = alone_used.expand_to(together.mean)
        for found, expected in zip((*alone_used, *alone_after), (*found_used, *found_after), strict=True):
            near(found, expected.view_as(found))
    for found, expected in zip(found_used, zip(*used, strict=True), strict=True):
        near(found, torch.cat(expected))
    assert type(found_after) is type(states[0])
    for found, fields in zip(found_after, zip(*after, strict=True), strict=True):
        near(found, torch.stack(fields))


class Loop:
    """The reference: each request's own step, in their order."""

    def __init__(self, adapter: AnyAdapter, asked: Sequence[tuple[int, int, bool]], rows: Tensor, known: Layout):
        self.adapter, self.asked = adapter, asked
        self.states = [known.split(row) for row in rows]

    def step(self, index: int, here: Site, shown: Sequence[Moments]) -> list[Statistics]:
        used = []
        for (stream, n, update), seen in zip(self.asked, shown, strict=True):
            held = self.states[stream]
            if len(held) == index:
                held.append(self.adapter.init(here))
            given, after = self.adapter.step(here, held[index], seen)
            used.append(Statistics(*(part.expand(n, here.channels) for part in given)))
            if update:
                held[index] = after
        return used


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
@MANY
@given(turns, st.lists(st.sampled_from([1, 9]), min_size=1, max_size=3), st.booleans(), st.integers(0, 10**6))
def test_grouped_steps_are_the_loop_of_steps(
    adapter: AnyAdapter, asked: list[tuple[int, int, bool]], pixels: list[int], late: bool, seed: int
) -> None:
    """Queued requests, ragged sizes, looks in between, and with ``late`` a site that is met in this very forward."""
    asked = renumbered(asked)
    count = len({stream for stream, _, _ in asked})
    places = [site(f"{seed}{index}", index + 2, index) for index in range(len(pixels))]
    layout = Layout([adapter.init(place) for place in (places[:-1] if late else places)])
    rows = layout.row + torch.rand(count, len(layout), generator=torch.Generator().manual_seed(seed))
    before, groups = rows.clone(), group_requests(asked, count, CPU)
    loop, ours = Loop(adapter, asked, rows, layout), GroupedSteps(adapter, layout, rows, groups)
    order = [request for group in groups for request in group.requests]
    for index, (here, positions) in enumerate(zip(places, pixels, strict=True)):
        shown = [show(n, here.channels, positions, seed + 31 * k) for k, (_, n, _) in enumerate(asked)]
        expected = loop.step(index, here, shown)
        both = torch.cat([torch.cat([shown[k].mean, shown[k].var], 1) for k in order])
        found = ours.step(index, here, BatchMoments(both, positions)).expand_to(both[:, : here.channels])
        near(found.mean, torch.cat([expected[k].mean for k in order]))
        near(found.var, torch.cat([expected[k].var for k in order]))
    assert torch.equal(rows, before)
    if len(layout):
        near(ours.rows(), torch.stack([join(states) for states in loop.states]))


def test_a_step_of_many_streams_is_one_call() -> None:
    Counting.asked.clear()
    model = AdaptiveModel(seeded(Tiny), Counting())
    model.predict([Request(images(2, k), str(k)) for k in range(32)])
    assert Counting.asked == [(32, 2, 6)]
    Counting.asked.clear()
    model.predict([Request(images(1, k), str(k % 2)) for k in range(8)])
    assert Counter(Counting.asked) == {(2, 1, 6): 4}


@pytest.mark.parametrize("streams", [1, 3])
def test_a_queue_is_one_call_where_the_strategy_has_one_for_it(streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    queue = UnMixTNS.queue

    def counted(self: UnMixTNS, here: Site, state: Any, seen: Moments) -> tuple[Statistics, Any]:
        asked.append(tuple(seen.mean.shape))
        return queue(self, here, state, seen)

    monkeypatch.setattr(UnMixTNS, "queue", counted)
    model = AdaptiveModel(seeded(Tiny), UnMixTNS())
    model.predict([Request(images(2, k), str(k % streams)) for k in range(5 * streams)])
    lead = (5,) if streams == 1 else (5, streams)
    assert asked == [(*lead, 2, 6)]


def test_states_too_large_for_the_cache_are_stepped_a_few_streams_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = AdaptiveModel(seeded(Tiny), Counting())
    requests = [Request(images(2, k), str(k)) for k in range(5)]
    expected = [answer.logits for answer in whole.predict(requests)]
    monkeypatch.setattr(grouped_steps, "CHUNK_NUMBERS", 2 * 12)
    Counting.asked.clear()
    parted = AdaptiveModel(seeded(Tiny), Counting())
    found = [answer.logits for answer in parted.predict(requests)]
    assert Counting.asked == [(2, 2, 6), (2, 2, 6), (1, 2, 6)]
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=1e-5, atol=1e-6)
    for name in "row", "steps":
        for ours, theirs in zip(*(m.state_dict()["streams"] for m in (parted, whole)), strict=True):
            torch.testing.assert_close(ours[name], theirs[name])


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
@pytest.mark.parametrize("build", [Tiny, Twice])
def test_a_long_queue_with_looks_in_the_middle_is_its_requests_one_by_one(
    build: type[torch.nn.Module], adapter: AnyAdapter
) -> None:
    queue = [Request(images(1 + k % 3, k), "ab"[k % 4 == 3], update=k % 5 != 2) for k in range(16)]
    glued, separate = AdaptiveModel(seeded(build), adapter), AdaptiveModel(seeded(build), adapter)
    for ours, theirs in zip(glued.predict(queue), [separate.predict([r])[0] for r in queue], strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
        assert (ours.step, ours.updated) == (theirs.step, theirs.updated)
    rows: list[list[Any]] = [model.state_dict()["streams"] for model in (glued, separate)]
    for ours, theirs in zip(*rows, strict=True):
        torch.testing.assert_close(ours["row"], theirs["row"], rtol=1e-5, atol=1e-5)
