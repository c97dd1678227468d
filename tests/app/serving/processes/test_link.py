"""Messages over a socket pair."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from app.serving.processes.link import Link, Message

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Ends:
    """Two ends, what the second received, and whether it ended."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.ended = asyncio.Event()

    async def open(self) -> tuple[Link, Link]:
        ours, theirs = socket.socketpair()
        first = await Link.connect(ours, lambda _: None, lambda: None)
        return first, await Link.connect(theirs, self.received.append, self.ended.set)


async def received(ends: Ends, count: int) -> list[Message]:
    async with asyncio.timeout(30):
        while len(ends.received) < count:  # noqa: ASYNC110 - it comes by itself
            await asyncio.sleep(0.001)
    return ends.received


async def test_messages_arrive_in_order_whatever_their_size() -> None:
    ends = Ends()
    first, second = await ends.open()
    sent: list[tuple[Any, ...]] = [("small", i) for i in range(50)]
    sent += [("large", bytes(5_000_000)), ("small", None), ("large", "ü" * 300_000), ("last",)]
    for index, message in enumerate(sent):
        first.send(*message)
        if index % 7 == 0:
            await asyncio.sleep(0)
    assert await received(ends, len(sent)) == sent
    for link in (first, second):
        link.close()


async def test_the_end_of_one_side_is_seen_after_what_it_sent() -> None:
    ends = Ends()
    first, second = await ends.open()
    first.send("goodbye")
    first.close()
    await asyncio.wait_for(ends.ended.wait(), 30)
    assert ends.received == [("goodbye",)]
    second.send("to nobody")  # is dropped
    second.flush()
