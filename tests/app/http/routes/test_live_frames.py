import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.http.routes.live_frames import POLICIES, Frame, Frames, Policy


def contents(frames: Frames) -> list[int]:
    """The numbers of all frames that wait, taken out."""

    async def take_all() -> list[int]:
        return [(await frames.take()).number for _ in range(len(frames))]

    return asyncio.run(take_all())


def filled(policy: Policy, capacity: int, arrivals: int) -> Frames:
    frames = Frames(policy, capacity)
    for i in range(arrivals):
        frames.put(bytes([i]))
    return frames


def test_frames_are_taken_in_order_with_their_content() -> None:
    frames = Frames("wait", 3)
    frames.put(b"a")
    frames.put("text")

    async def take_two() -> list[Frame]:
        return [await frames.take(), await frames.take()]

    assert asyncio.run(take_two()) == [Frame(0, b"a"), Frame(1, "text")]
    assert (frames.arrived, frames.taken, frames.dropped, len(frames)) == (2, 2, 0, 0)


def test_drop_oldest_keeps_what_came_last() -> None:
    frames = filled("drop_oldest", 2, 5)
    assert frames.dropped == 3
    assert contents(frames) == [3, 4]


def test_drop_latest_keeps_what_came_first() -> None:
    frames = filled("drop_latest", 2, 5)
    assert frames.dropped == 3
    assert contents(frames) == [0, 1]


def test_wait_drops_nothing_and_takes_nothing_that_has_no_room() -> None:
    frames = filled("wait", 2, 2)
    with pytest.raises(asyncio.QueueFull, match="2 frames wait"):
        frames.put(b"third")
    assert (frames.arrived, frames.dropped) == (2, 0)
    assert contents(frames) == [0, 1]


def test_room_comes_when_a_frame_is_taken() -> None:
    async def scene() -> None:
        frames = filled("wait", 1, 1)
        asking = asyncio.ensure_future(frames.room())
        await asyncio.sleep(0)
        assert not asking.done()
        await frames.take()
        await asyncio.wait_for(asking, 1)

    asyncio.run(scene())


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_latest"])
def test_dropping_policies_always_have_room(policy: Policy) -> None:
    async def scene() -> bool:
        asking = asyncio.ensure_future(filled(policy, 1, 3).room())
        await asyncio.sleep(0)
        return asking.done()

    assert asyncio.run(scene())


def test_taking_waits_for_a_frame() -> None:
    async def scene() -> None:
        frames = Frames("wait", 1)
        taking = asyncio.ensure_future(frames.take())
        await asyncio.sleep(0)
        assert not taking.done()
        frames.put(b"x")
        assert (await asyncio.wait_for(taking, 1)).content == b"x"

    asyncio.run(scene())


@pytest.mark.parametrize("capacity", [0, -1])
def test_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Frames("wait", capacity)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(1, 5), st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_counts_add_up_and_order_is_kept_whatever_happens(policy: Policy, capacity: int, events: list[str]) -> None:
    frames, taken = Frames(policy, capacity), []

    async def play() -> None:
        for event in events:
            if event == "take" and len(frames):
                taken.append((await frames.take()).number)
            elif event == "put" and (policy != "wait" or len(frames) < capacity):
                await asyncio.wait_for(frames.room(), 1)
                frames.put(b"")
            assert frames.arrived == frames.taken + frames.dropped + len(frames)
            assert len(frames) <= capacity
            assert policy != "wait" or frames.dropped == 0

    asyncio.run(play())
    rest = contents(frames)
    assert taken + rest == sorted(set(taken + rest))
    assert frames.taken == len(taken + rest)
    if policy == "drop_oldest" and frames.arrived:
        assert (taken + rest)[-1] == frames.arrived - 1, "the newest is never dropped"
    if policy == "drop_latest" and frames.arrived:
        assert (taken + rest)[0] == 0, "the first is never dropped"
