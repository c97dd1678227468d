"""The queue: sequences that begin and end, images of two types, callers that have gone, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from adapters import BN, Key, Source
from app.errors import BusyError, EngineClosedError, StreamBusyError
from app.serving.batcher import Batcher
from app.serving.outputs import Output
from app.serving.places import QueueLimits
from app.serving.streams import ResetScope
from app.serving.tickets import ForwardResult, Ticket

pytestmark = pytest.mark.anyio
PIXELS, NUMBERS = torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(1, 3)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Queue:
    """A batcher whose forwards, recorded as names of tickets, end when the gate is opened."""

    def __init__(self, limits: QueueLimits) -> None:
        self.batcher = Batcher(self._forward, self._forget, limits)
        self.groups: list[list[str]] = []
        self.forgotten: list[tuple[ResetScope, int]] = []
        self.gate = asyncio.Event()
        self._names: dict[Ticket, str] = {}

    async def _forward(self, group: list[Ticket]) -> list[ForwardResult | Exception]:
        self.groups.append([self._names[ticket] for ticket in group])
        await self.gate.wait()
        return [ForwardResult(Output(PIXELS, [], [], 0.0), 0.0, 0.0, 1, updated=True) for _ in group]

    def _forget(self, scope: ResetScope) -> int:
        self.forgotten.append((scope, len(self.groups)))
        return 1

    def send(  # type: ignore[no-untyped-def]
        self,
        name: str,
        *,
        strategy: str = "",
        images: Tensor = PIXELS,
        start: bool = False,
        end: bool = False,
        client: str = "",
    ):
        """A request called ``name`` of the stream of its first letter."""
        key = Key(name[0], BN() if strategy == "bn" else Source())
        ticket = Ticket(key, update=True, start=start, end=end, client=client, count=len(images))
        self._names[ticket] = name
        self.batcher.enter(ticket)
        return ticket, asyncio.ensure_future(self.batcher.run(ticket, images))

    async def released(self, tasks: Sequence[asyncio.Task[ForwardResult]]) -> list[list[str]]:
        self.gate.set()
        await asyncio.gather(*tasks)
        return self.groups


def queue(images: int = 256, waiting: int = 100, per_stream: int = 100) -> Queue:
    return Queue(QueueLimits(images, waiting, per_stream))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_request_that_begins_a_stream_waits_for_what_came_before_it() -> None:
    q = queue()
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send("a1")[1], q.send("a2", start=True)[1], q.send("a3")[1], q.send("b1")[1]]
    assert await q.released(tasks) == [["x"], ["a1", "b1"], ["a2"], ["a3"]]


async def test_request_waits_for_other_strategies_of_its_stream() -> None:
    q = queue()
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send("a1", strategy="bn")[1], q.send("a2", start=True)[1], q.send("a3", strategy="bn")[1]]
    assert await q.released(tasks) == [["x"], ["a1"], ["a2"], ["a3"]]


async def test_a_request_that_ends_a_stream_goes_with_those_before_it_and_bars_those_behind_it() -> None:
    q = queue()
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send("a1")[1], q.send("a2", end=True)[1], q.send("a3")[1], q.send("b1")[1]]
    assert await q.released(tasks) == [["x"], ["a1", "b1", "a2"], ["a3"]]


async def test_whole_sequences_in_a_row() -> None:
    q = queue()
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"a{i}", start=i % 2 == 0, end=i % 2 == 1)[1] for i in range(4)]
    assert await q.released(tasks) == [["x"], ["a0"], ["a1"], ["a2"], ["a3"]]


async def test_pixels_and_prepared_inputs_do_not_share_a_forward() -> None:
    q = queue()
    tasks = [q.send("x")[1]]
    await settle()
    kinds = [("a1", PIXELS), ("b1", NUMBERS), ("c1", PIXELS), ("b2", PIXELS), ("d1", NUMBERS)]
    tasks += [q.send(name, images=images)[1] for name, images in kinds]
    # A stream's later request does not overtake its earlier one, even though it would fit.
    assert await q.released(tasks) == [["x"], ["a1", "c1"], ["b1", "d1"], ["b2"]]


async def test_one_whose_caller_has_gone_takes_no_step_and_holds_nobody_up() -> None:
    q = queue()
    first = q.send("x")[1]
    await settle()
    ticket, gone = q.send("a1")
    behind = q.send("a2")[1]
    await settle()
    # Cancelled in the very moment in which the next forward is put together.
    gone.cancel()
    ticket.answer.cancel()
    assert await q.released([first, behind]) == [["x"], ["a2"]]
    q.batcher.leave(ticket)
    assert len(q.batcher) == 0


async def test_requests_of_a_stream_beyond_its_limit_are_refused_and_others_are_not() -> None:
    q = queue(per_stream=2)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send("a1")[1], q.send("a2")[1]]
    with pytest.raises(StreamBusyError, match=r"the queue of stream 'a' is full \(2 waiting\)"):
        q.send("a3")
    tasks += [q.send("b1")[1], q.send("x2")[1]]
    assert await q.released(tasks) == [["x"], ["a1", "b1", "x2", "a2"]]
    assert q.send("a4")[0].key.stream == "a"
    await settle()


async def test_requests_beyond_the_limit_of_all_are_refused() -> None:
    q = queue(waiting=3)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"{name}1")[1] for name in "abc"]
    with pytest.raises(BusyError, match=r"the request queue is full \(3 waiting\)") as caught:
        q.send("d1")
    assert not isinstance(caught.value, StreamBusyError)
    await q.released(tasks)
    tasks = [q.send("d2")[1]]
    await asyncio.gather(*tasks)


async def test_places_that_are_given_back_count_no_longer() -> None:
    q = queue(per_stream=1)
    await settle()
    for _ in range(5):
        ticket = Ticket(Key("a", Source()), update=True)
        q.batcher.enter(ticket)
        q.batcher.leave(ticket)
        q.batcher.leave(ticket)
    q.batcher.enter(Ticket(Key("a", Source()), update=True))
    with pytest.raises(StreamBusyError):
        q.batcher.enter(Ticket(Key("a", Source()), update=True))
    await q.batcher.close()
    with pytest.raises(EngineClosedError):
        q.batcher.enter(Ticket(Key("b", Source()), update=True))


async def test_a_flood_of_one_stream_takes_what_is_left_of_a_forward() -> None:
    q = queue(images=4)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"a{i}")[1] for i in range(6)]
    tasks += [q.send("b1")[1], q.send("c1")[1]]
    assert await q.released(tasks) == [["x"], ["a0", "b1", "c1", "a1"], ["a2", "a3", "a4", "a5"]]


async def test_clients_share_a_forward_whatever_their_number_of_streams() -> None:
    q = queue(images=4)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(name, client="many")[1] for name in ("a1", "b1", "c1", "d1")]
    tasks += [q.send(name, client="one")[1] for name in ("z1", "z2")]
    assert await q.released(tasks) == [["x"], ["a1", "z1", "b1", "z2"], ["c1", "d1"]]


async def test_oldest_request_of_a_flood_is_answered_in_the_end() -> None:
    q = queue(images=2)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send("a1", images=torch.zeros(2, 3, dtype=torch.uint8))[1]]
    tasks += [q.send(name)[1] for name in ("b1", "c1", "b2", "c2", "b3", "c3")]
    assert await q.released(tasks) == [["x"], ["a1"], ["b1", "c1"], ["b2", "c2"], ["b3", "c3"]]


async def test_a_forward_takes_no_second_request_of_a_stream_beyond_its_time() -> None:
    q = Queue(QueueLimits(256, 100, 100, forward_s=1e-9))
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"a{i}")[1] for i in range(6)] + [q.send(f"{name}1")[1] for name in "bcdef"]
    groups = await q.released(tasks)
    # Every stream's next request is welcome; of a1 to a5 only as many as are cheaper together anyway.
    assert groups[1] == ["a0", "b1", "c1", "d1", "e1", "f1"]
    assert groups[2] == ["a1", "a2", "a3", "a4"]


async def test_a_client_leaves_places_for_others() -> None:
    q = queue(waiting=200, per_stream=200)
    tasks = [q.send("x")[1]]
    await settle()
    with pytest.raises(BusyError, match=r"full for this client \(197 waiting\); the 3 free places"):
        tasks += [q.send("a", client="greedy")[1] for _ in range(200)]
    tasks = [q.send("b", client="other")[1]]
    await q.released(tasks)


async def test_requests_after_a_reset_of_all_do_not_go_before_it() -> None:
    q = queue(images=2)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"a{i}")[1] for i in range(3)]
    reset = asyncio.ensure_future(q.batcher.reset(ResetScope()))
    await settle()
    tasks += [q.send("b1")[1]]
    assert await q.released(tasks) == [["x"], ["a0", "a1"], ["a2"], ["b1"]]
    assert await reset == 1
    assert q.forgotten == [(ResetScope(), 3)]


async def test_a_refusal_tells_when_the_queue_is_through() -> None:
    q = queue(images=4, per_stream=8)
    pace = q.batcher._pace
    # Forwards of one image, which take three quarters of a second per image longer than full ones.
    for _ in range(20):
        pace.add_forward(1, 1.0)
        pace.add_forward(4, 1.0)
    tasks = [q.send("x")[1]]
    await settle()
    tasks += [q.send(f"a{i}")[1] for i in range(8)] + [q.send(f"b{i}")[1] for i in range(2)]
    with pytest.raises(StreamBusyError) as caught:
        q.send("a9")
    # Its eight, and two of the other stream in between: two full forwards of a second, and one of half as many.
    assert caught.value.retry_after_s == pytest.approx(2.5, abs=0.6)
    await q.released(tasks)


async def test_the_clock_stops_when_the_forward_begins() -> None:
    q = queue()
    async with asyncio.timeout(0.05) as clock:
        ticket = Ticket(Key("a", Source()), update=True, clock=clock)
        q._names[ticket] = "a"
        q.batcher.enter(ticket)
        answer = asyncio.ensure_future(q.batcher.run(ticket, PIXELS))
        await asyncio.sleep(0.1)
        assert ticket.is_started
        q.gate.set()
        assert (await answer).step == 1
    assert not clock.expired()


@pytest.mark.parametrize("ending", ["time_is_over", "caller_has_gone"])
async def test_one_that_ends_in_the_moment_in_which_it_is_chosen_holds_nobody_up(ending: str) -> None:
    q = queue()

    async def asked() -> None:
        async with asyncio.timeout(None) as clock:
            ticket = Ticket(Key("a", Source()), update=True, clock=clock)
            q._names[ticket] = "a"
            q.batcher.enter(ticket)
            # Heard of in the next turn of the loop, after the ticket was chosen and before its forward runs.
            if ending == "time_is_over":
                clock.reschedule(0)
            else:
                asyncio.get_running_loop().call_soon(caller.cancel)
            await q.batcher.run(ticket, PIXELS)
            assert ticket.is_started

    caller = asyncio.ensure_future(asked())
    await settle()
    _, other = q.send("b")
    assert await asyncio.wait_for(q.released([other]), 10) == [["a"], ["b"]]
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled() == (ending == "caller_has_gone")


@pytest.mark.parametrize("streams", [1, 30], ids=["one_stream", "many_streams"])
async def test_slow_image_saves_up_no_turns_for_its_stream(streams: int) -> None:
    q = queue(images=2)
    slow = Ticket(Key("s", BN()), update=True, client="attacker")
    q.batcher.enter(slow)  # waits, and is not ready
    q.gate.set()
    for _ in range(100):
        await q.send("p", client="polite")[1]
    q.gate.clear()
    flood = [q.send(chr(ord("A") + i % streams) + str(i), client="attacker")[1] for i in range(30)]
    if streams == 1:
        flood += [q.send(f"s{i}", client="attacker")[1] for i in range(30)]
    polite = [q.send(f"p{i}", client="polite")[1] for i in range(10)]
    await settle()
    q.groups.clear()
    await q.released([*flood, *polite])
    order = [name for group in q.groups for name in group if name[0] == "p"]
    assert order == [f"p{i}" for i in range(10)]
    turns = [i for i, group in enumerate(q.groups) if any(name[0] == "p" for name in group)]
    assert turns[-1] <= 12  # of forwards with two images each
    q.batcher.leave(slow)
