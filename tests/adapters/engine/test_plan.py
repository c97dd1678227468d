"""The order of images in a forward, and the answers and states that requests and streams get back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import (
    BN,
    AdaBN,
    Adapter,
    AdaptiveModel,
    AnyAdapter,
    Key,
    Memory,
    Moments,
    Nothing,
    Request,
    RobustBN,
    Site,
    Source,
    Statistics,
    UnMixTNS,
    names,
)
from adapters import adapter as strategy
from adapters.engine.plan import Plan, PlannedRequest
from adapters.sites import Sites
from adapters.state.memory import Layout, initial
from tests.nets import Explosive, Head1d, Tiny, images, seeded

ADAPTERS: list[AnyAdapter] = [
    Source(),
    BN(),
    AdaBN(),
    AdaBN(cumulative=True),
    RobustBN(0.4),
    UnMixTNS(components=2, momentum=0.5),
    UnMixTNS(components=3),
]
SITES = Sites(seeded(Head1d))


def layout_of(adapter: AnyAdapter) -> Layout:
    return initial(adapter, SITES)


turns = st.lists(
    st.builds(
        PlannedRequest,
        st.builds(Key, st.sampled_from("abc"), st.sampled_from(ADAPTERS)),
        st.integers(1, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(turns)
def test_every_image_lies_in_one_place(asked: list[PlannedRequest]) -> None:
    plan = Plan(SITES, asked, {}, layout_of)
    assert plan.images == sum(turn.images for turn in asked)
    assert sorted(plan.order) == list(range(len(asked)))
    start = 0
    for index in plan.order:  # requests as their images lie, without a gap
        assert plan.rows[index] == slice(start, start + asked[index].images)
        start = plan.rows[index].stop
    assert [block.images.start for block in plan.groups] == [0, *(block.images.stop for block in plan.groups[:-1])]
    assert plan.groups[-1].images.stop == plan.images


@settings(max_examples=60, deadline=None, derandomize=True)
@given(turns)
def test_all_linear_strategies_are_one_block_and_every_other_one_of_its_own(asked: list[PlannedRequest]) -> None:
    plan = Plan(SITES, asked, {}, layout_of)
    linear = {Source(), BN(), AdaBN(), RobustBN(0.4)}
    others = {turn.key.adapter for turn in asked} - linear
    assert len(plan.groups) == len(others) + any(turn.key.adapter in linear for turn in asked)
    keys = [key for block in plan.groups for key in block.keys]
    assert len(keys) == len(set(keys))
    assert set(keys) == {turn.key for turn in asked if turn.key.adapter not in (Source(), BN())}
    for block in plan.groups:
        members = [index for index in plan.order if block.images.start <= plan.rows[index].start < block.images.stop]
        assert len({turn.key.adapter in linear or turn.key.adapter for turn in (asked[i] for i in members)}) == 1


def _alone(model: AdaptiveModel, requests: Sequence[Request]) -> tuple[list[Tensor], list[float], dict[Key, Memory]]:
    memories: dict[Key, Memory] = {}
    logits, drifts = [], []
    for request in requests:
        outcome = model.run([request], memories)
        memories.update(outcome.memories)
        logits.append(outcome.answers[0].logits)
        drifts.append(outcome.answers[0].drift)
    return logits, drifts, memories


@settings(max_examples=30, deadline=None, derandomize=True)
@given(turns)
def test_answers_come_in_the_order_of_the_requests(asked: list[PlannedRequest]) -> None:
    """Each is the answer to its own images, with its own drift, whatever the order in the forward was."""
    model = AdaptiveModel(seeded(Head1d))
    requests = [
        Request(images(turn.images, k) + k / 8, turn.key.stream, turn.key.adapter, turn.update)
        for k, turn in enumerate(asked)
    ]
    glued = model.run(requests, {})
    logits, drifts, memories = _alone(model, requests)
    for answer, alone, drift in zip(glued.answers, logits, drifts, strict=True):
        torch.testing.assert_close(answer.logits, alone, rtol=2e-5, atol=2e-5)
        assert answer.drift == pytest.approx(drift, rel=1e-4)
    assert glued.memories.keys() == memories.keys()
    for key, memory in glued.memories.items():
        assert memory.steps == memories[key].steps
        torch.testing.assert_close(memory.row, memories[key].row, rtol=2e-5, atol=2e-5)


def _spans(memories: Iterable[Memory]) -> list[tuple[int, int]]:
    rows = [memory.row for memory in memories if len(memory.row)]
    return [(row.data_ptr(), row.data_ptr() + row.nbytes) for row in rows]


@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("adapter", [*ADAPTERS, None], ids=repr)
def test_new_rows_share_no_memory_with_each_other_nor_with_those_given(
    adapter: AnyAdapter | None, streams: int
) -> None:
    model, memories = AdaptiveModel(seeded(Head1d)), dict[Key, Memory]()
    chosen = ADAPTERS if adapter is None else [adapter]
    for queued in (1, 2, 1):
        requests = [Request(images(1 + k % 2, k), k, each) for k in range(streams) for each in chosen] * queued
        new = model.run(requests, memories).memories
        spans = sorted(_spans([*memories.values(), *new.values()]))
        assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
        memories.update(new)
    assert len(memories) == streams * len(chosen)
    for key, memory in memories.items():
        assert memory.bytes == model.state_bytes(key.adapter)
        assert (memory.row.dtype, memory.row.dim(), memory.row.requires_grad) == (torch.float32, 1, False)


@pytest.mark.parametrize("adapter", [*ADAPTERS, None], ids=repr)
def test_kept_states_hold_no_forward_alive(adapter: AnyAdapter | None) -> None:
    """Of a forward of many streams, only the rows stay: copied, so that it takes what `state_bytes` says."""
    model, chosen = AdaptiveModel(seeded(Head1d)), ADAPTERS if adapter is None else [adapter]
    requests = [Request(images(1, k), k, each) for k in range(5) for each in chosen]
    new = model.run(requests, {}).memories
    model.predict(requests)
    kept = model._memories
    assert sum(memory.bytes for memory in kept.values()) == 5 * sum(map(model.state_bytes, chosen))
    places = {memory.row.untyped_storage().data_ptr() for memory in new.values() if len(memory.row)}
    assert not places & {memory.row.untyped_storage().data_ptr() for memory in kept.values() if len(memory.row)}
    model.predict(requests)
    model.reset()
    assert len(kept) == 0


def test_a_forward_writes_to_no_row_that_it_was_given() -> None:
    model = AdaptiveModel(seeded(Head1d))
    requests = [Request(images(2, k), str(k % 3), adapter) for k, adapter in enumerate(ADAPTERS * 2)]
    memories = model.run(requests, {}).memories
    before = {key: memory.row.clone() for key, memory in memories.items()}
    fresh = {key.adapter: model._layout(key.adapter).row.clone() for key in memories}
    for asked in (requests, requests[:1], requests[5:6]):
        after = model.run(asked, memories).memories
        for memory in after.values():
            memory.row.fill_(torch.nan)
    assert all(torch.equal(memories[key].row, row) for key, row in before.items())
    assert all(torch.equal(model._layout(adapter).row, row) for adapter, row in fresh.items())


@dataclass(frozen=True)
class Forgetting(Adapter[Nothing]):
    """Not linear, and remembers nothing."""

    def init(self, site: Site) -> Nothing:
        return Nothing()

    def step(self, site: Site, state: Nothing, seen: Moments) -> tuple[Statistics, Nothing]:
        return site.trained.toward(Statistics(seen.mean.amax(-2), seen.var.amax(-2)), 0.5), state


@pytest.mark.parametrize("adapter", [Source(), BN(), strategy("alpha_bn"), Forgetting()], ids=repr)
def test_strategies_without_a_state_count_their_requests(adapter: AnyAdapter) -> None:
    model = AdaptiveModel(seeded(Tiny), adapter)
    requests = [Request(images(1, k), "ab"[k % 2], update=k != 2) for k in range(5)]
    assert [answer.step for answer in model.predict(requests)] == [1, 1, 1, 2, 2]
    assert [answer.updated for answer in model.predict(requests)] == [True, True, False, True, True]
    assert model.predict(requests[:1])[0].step == 5
    streams = model.state_dict()["streams"]
    assert {(entry["stream"], entry["steps"], len(entry["row"])) for entry in streams} == {("a", 5, 0), ("b", 4, 0)}
    model.reset("a")
    assert [answer.step for answer in model.predict(requests[:2])] == [1, 5]


@pytest.mark.parametrize("adapter", [*ADAPTERS, Forgetting()], ids=repr)
def test_requests_without_update_create_no_stream(adapter: AnyAdapter) -> None:
    model = AdaptiveModel(seeded(Tiny), adapter)
    outcome = model.run([Request(images(1, k), str(k), update=False) for k in range(3)], {})
    assert outcome.memories == {}
    assert [(answer.step, answer.updated, answer.finite) for answer in outcome.answers] == [(0, False, True)] * 3


def _overflowing(n: int) -> Tensor:
    x = images(n, 9)
    x[0] = 1e3
    return x


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("adapter", [*ADAPTERS, Forgetting()], ids=repr)
def test_a_request_that_is_not_finite_is_reported_and_not_committed(adapter: AnyAdapter, update: bool) -> None:
    model = AdaptiveModel(seeded(Explosive), adapter)
    memories = model.run([Request(images(2))], {}).memories
    outcome = model.run([Request(_overflowing(2), update=update)], memories)
    (answer,) = outcome.answers
    assert (answer.step, answer.updated, answer.finite) == (1, False, False)
    assert outcome.memories == {}


@pytest.mark.parametrize("name", names("adapter"))
def test_requests_that_are_not_finite_harm_no_stream_in_a_mixed_forward(name: str) -> None:
    """They are left out of everything, also where they are the first, the last, several, or only looks."""
    others: list[AnyAdapter] = [strategy(name), UnMixTNS(components=2), RobustBN()]
    model = AdaptiveModel(seeded(Explosive))
    sound = [Request(images(1 + k % 2, k), "abc"[k % 3], others[k % 3]) for k in range(6)]
    bad = [Request(_overflowing(1 + k), "abcd"[k], others[k % 3], update=k != 1) for k in range(4)]
    glued = model.run([bad[0], *sound[:3], bad[1], bad[2], *sound[3:], bad[3]], {})
    expected = model.run(sound, {})
    assert [answer.finite for answer in glued.answers] == [False, *[True] * 3, False, False, *[True] * 3, False]
    kept = [answer for answer in glued.answers if answer.finite]
    for ours, theirs in zip(kept, expected.answers, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
        assert (ours.step, ours.updated) == (theirs.step, theirs.updated)
    assert glued.memories.keys() == expected.memories.keys()
    for key, memory in glued.memories.items():
        torch.testing.assert_close(memory.row, expected.memories[key].row, rtol=1e-5, atol=1e-5)
