"""Frames that wait for their turn, in order, and what gives way when a camera is faster than its answers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, NamedTuple, get_args

Policy = Literal["wait", "drop_oldest", "drop_latest"]
"""What happens when as many frames wait as may, and one more comes."""

POLICIES: tuple[Policy, ...] = get_args(Policy)
"""All of them, the usual one first."""


class Frame(NamedTuple):
    """One message of a connection, and its place among all that arrived, from 0."""

    number: int
    content: bytes | str


class Frames:
    """At most ``capacity`` frames wait; where no more may, ``policy`` says what gives way.

    ``wait``: nothing, because whoever puts frames in asks for `room` before it reads the next one. ``drop_oldest``: the
    frame that has waited longest, so that answers are about what the camera sees now. ``drop_latest``: the new frame.

    ``arrived`` = ``taken`` + ``dropped`` + the frames that wait, at any time. Used by the event loop's thread alone.
    """

    def __init__(self, policy: Policy, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.policy, self.capacity = policy, capacity
        self.arrived = self.dropped = self.taken = 0
        self._waiting: deque[Frame] = deque()
        self._room, self._some = asyncio.Event(), asyncio.Event()
        self._note()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def room(self) -> None:
        """Wait until one more frame may come; with a policy that drops, that is at once."""
        await self._room.wait()

    def put(self, content: bytes | str) -> None:
        """A frame has arrived: let it wait, or drop what the policy says.

        Raises:
            asyncio.QueueFull: the policy is to wait, and there is no room.
        """
        full = len(self._waiting) == self.capacity
        if full and self.policy == "wait":
            raise asyncio.QueueFull(f"{self.capacity} frames wait: ask for room first")
        frame = Frame(self.arrived, content)
        self.arrived += 1
        self.dropped += full
        if full and self.policy == "drop_latest":
            return
        if full:
            self._waiting.popleft()
        self._waiting.append(frame)
        self._note()

    async def take(self) -> Frame:
        """The frame whose turn it is, as soon as there is one."""
        await self._some.wait()
        frame = self._waiting.popleft()
        self.taken += 1
        self._note()
        return frame

    def _note(self) -> None:
        """Keep both events true to what waits."""
        room = self.policy != "wait" or len(self._waiting) < self.capacity
        for event, holds in ((self._room, room), (self._some, bool(self._waiting))):
            if holds:
                event.set()
            else:
                event.clear()
