"""The queue, driven with a forward that finishes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
import torch

from adapters import BN, Key, Source
from app.errors import EngineClosedError
from app.serving.batcher import Batcher
from app.serving.outputs import Output
from app.serving.places import QueueLimits
from app.serving.streams import ResetScope
from app.serving.tickets import ForwardResult, Ticket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Forward:
    """Records each group it is given, and answers it when released; a ticket's result is its number of images."""

    def __init__(self) -> None:
        self.groups: list[list[Ticket]] = []
        self.forgotten: list[tuple[ResetScope, int]] = []
        self.gate = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, group: list[Ticket]) -> list[ForwardResult | Exception]:
        self.groups.append(group)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [_result(ticket) for ticket in group]

    def forget(self, scope: ResetScope) -> int:
        self.forgotten.append((scope, len(self.groups)))
        return 7

    def streams(self) -> list[list[object]]:
        return [[ticket.key.stream for ticket in group] for group in self.groups]


def _result(ticket: Ticket) -> ForwardResult:
    assert ticket.images is not None
    return ForwardResult(Output(ticket.images, [], [], 0.0), 0.0, 0.0, len(ticket.images), updated=ticket.update)


def key(stream: str) -> Key:
    return Key(stream, Source())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def enter(batcher: Batcher, key: Key) -> Ticket:
    ticket = Ticket(key, update=True)
    batcher.enter(ticket)
    return ticket


def start(batcher: Batcher, stream: str, images: int = 1) -> asyncio.Task[ForwardResult]:
    ticket = enter(batcher, key(stream))
    return asyncio.ensure_future(batcher.run(ticket, torch.zeros(images, 3)))


def make(max_images: int = 256) -> tuple[Batcher, Forward]:
    forward = Forward()
    return Batcher(forward, forward.forget, QueueLimits(max_images)), forward


async def release(
    forward: Forward, tasks: Sequence[asyncio.Task[ForwardResult]]
) -> list[ForwardResult | BaseException]:
    forward.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_idle_batcher_dispatches_at_once() -> None:
    batcher, forward = make()
    task = start(batcher, "a")
    await settle()
    assert forward.streams() == [["a"]]
    await release(forward, [task])


async def test_waiting_requests_share_the_next_forward_and_only_one_is_in_flight() -> None:
    batcher, forward = make()
    tasks = [start(batcher, "a")]
    await settle()
    tasks += [start(batcher, stream) for stream in "bcab"]
    await settle()
    assert forward.streams() == [["a"]]
    results = await release(forward, tasks)
    assert forward.streams() == [["a"], ["b", "c", "a", "b"]]
    assert all(isinstance(result, ForwardResult) for result in results)


async def test_each_request_gets_its_own_result() -> None:
    batcher, forward = make()
    tasks = [start(batcher, "a", images) for images in (1, 3, 2, 5)]
    results = await release(forward, tasks)
    assert [r.step for r in results if isinstance(r, ForwardResult)] == [1, 3, 2, 5]


async def test_a_stream_is_not_overtaken_by_its_own_later_request_but_by_others() -> None:
    batcher, forward = make()
    slow = enter(batcher, key("a"))
    later, other = start(batcher, "a", 2), start(batcher, "b", 3)
    await settle()
    assert forward.streams() == [["b"]]
    first = asyncio.ensure_future(batcher.run(slow, torch.zeros(1, 3)))
    await release(forward, [first, later, other])
    assert forward.streams() == [["b"], ["a", "a"]]
    assert [len(ticket.images) for ticket in forward.groups[1] if ticket.images is not None] == [1, 2]


async def test_strategies_of_a_stream_do_not_wait_for_each_other() -> None:
    batcher, forward = make()
    enter(batcher, Key("a", Source()))
    ticket = enter(batcher, Key("a", BN()))
    task = asyncio.ensure_future(batcher.run(ticket, torch.zeros(1, 3)))
    await settle()
    assert len(forward.groups) == 1
    await release(forward, [task])


async def test_a_place_given_back_lets_those_behind_it_move_up() -> None:
    batcher, forward = make()
    failed = enter(batcher, key("a"))
    task = start(batcher, "a")
    await settle()
    assert forward.groups == []
    batcher.leave(failed)
    await settle()
    assert forward.streams() == [["a"]]
    await release(forward, [task])


async def test_a_full_forward_leaves_the_rest_for_the_next_in_order() -> None:
    batcher, forward = make(max_images=4)
    tasks = [start(batcher, "x")]
    await settle()
    # The second request of "a" must wait with the first, though it alone would fit.
    tasks += [start(batcher, stream, images) for stream, images in [("b", 2), ("a", 3), ("a", 1), ("c", 1)]]
    await release(forward, tasks)
    assert forward.streams() == [["x"], ["b", "c"], ["a", "a"]]


async def test_a_request_larger_than_a_forward_goes_alone() -> None:
    batcher, forward = make(max_images=4)
    results = await release(forward, [start(batcher, "a", 9), start(batcher, "b", 1)])
    assert forward.streams() == [["a"], ["b"]]
    assert all(isinstance(result, ForwardResult) for result in results)


async def test_a_request_cancelled_while_it_waits_is_never_run() -> None:
    batcher, forward = make()
    running = start(batcher, "a")
    await settle()
    ticket = enter(batcher, key("b"))
    gone = asyncio.ensure_future(batcher.run(ticket, torch.zeros(1, 3)))
    mate = start(batcher, "c")
    await settle()
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    batcher.leave(ticket)
    results = await release(forward, [running, mate])
    assert forward.streams() == [["a"], ["c"]]
    assert all(isinstance(result, ForwardResult) for result in results)


async def test_a_request_cancelled_in_flight_does_not_touch_its_mates() -> None:
    batcher, forward = make()
    tasks = [start(batcher, "x"), *(start(batcher, stream) for stream in "abc")]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    results = await release(forward, tasks)
    assert [isinstance(result, ForwardResult) for result in results] == [False, False, True, True]


async def test_a_failed_forward_settles_every_request_and_the_next_one_runs() -> None:
    batcher, forward = make()
    forward.error = RuntimeError("broken")
    results = await release(forward, [start(batcher, "a"), start(batcher, "b")])
    assert [str(result) for result in results] == ["broken", "broken"]
    forward.error = None
    assert (await start(batcher, "a")).step == 1


async def test_a_model_thread_that_wants_to_exit_leaves_nobody_waiting() -> None:
    batcher, forward = make()
    forward.error = SystemExit(3)
    results = await release(forward, [start(batcher, "a"), start(batcher, "b")])
    assert [type(result) for result in results] == [EngineClosedError] * 2
    forward.error = None
    assert (await start(batcher, "a")).step == 1


async def test_a_reset_takes_its_turn() -> None:
    batcher, forward = make()
    before = [start(batcher, "a"), start(batcher, "a")]
    await settle()
    reset = asyncio.ensure_future(batcher.reset(ResetScope("a")))
    await settle()
    after, other = start(batcher, "a"), start(batcher, "b")
    await settle()
    assert forward.forgotten == []
    await release(forward, [*before, after, other])
    assert await reset == 7
    # Behind both earlier requests of its stream, ahead of the later one; another stream does not wait for it.
    assert forward.forgotten == [(ResetScope("a"), 2)]
    assert forward.streams() == [["a"], ["a", "b"], ["a"]]


async def test_a_reset_of_an_idle_batcher_is_immediate() -> None:
    batcher, forward = make()
    assert await batcher.reset(ResetScope()) == 7
    assert forward.forgotten == [(ResetScope(), 0)]


async def test_a_cancelled_reset_no_longer_bars_the_way() -> None:
    batcher, forward = make()
    waiting = enter(batcher, key("a"))
    reset = asyncio.ensure_future(batcher.reset(ResetScope("a")))
    await settle()
    task = start(batcher, "b")
    everything = asyncio.ensure_future(batcher.reset(ResetScope()))
    await settle()
    behind = start(batcher, "c")
    await settle()
    assert forward.streams() == [["b"]]
    reset.cancel()
    everything.cancel()
    await settle()
    await release(forward, [task, behind])
    assert forward.forgotten == []
    assert forward.streams() == [["b"], ["c"]]
    assert enter(batcher, waiting.key) is not waiting


async def test_closing_finishes_what_runs_and_refuses_the_rest() -> None:
    batcher, forward = make()
    running = start(batcher, "a")
    await settle()
    waiting = start(batcher, "b")
    decoding = enter(batcher, key("c"))
    await settle()
    closing = asyncio.ensure_future(batcher.close())
    await settle()
    results = await release(forward, [running, waiting])
    await closing
    assert isinstance(results[0], ForwardResult)
    assert isinstance(results[1], EngineClosedError)
    with pytest.raises(EngineClosedError):
        await batcher.run(decoding, torch.zeros(1, 3))
    with pytest.raises(EngineClosedError):
        enter(batcher, key("a"))
    with pytest.raises(EngineClosedError):
        await batcher.reset(ResetScope())
