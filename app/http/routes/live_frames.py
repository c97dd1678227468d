"""Frames that wait for their turn, in order, and what gives way when a camera is faster than its answers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, NamedTuple, get_args

from app.errors import RenormError
from app.resources.memory import Account, Ledger

Policy = Literal["wait", "drop_oldest", "drop_latest"]
"""What happens when as many frames wait as may, and one more comes."""

POLICIES: tuple[Policy, ...] = get_args(Policy)
"""All of them, the usual one first."""


class Frame(NamedTuple):
    """One message of a connection, and its place among all that arrived, from 0."""

    number: int
    content: bytes | str | RenormError  # why there was no memory for it

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.content) if isinstance(self.content, bytes) else 0


class Frames:
    """At most ``capacity`` frames wait, and no more come while they hold more than ``most`` bytes of ``account``.

    The frame that was taken last counts with them, and ``largest`` is what a frame may take. Where no more may come,
    ``policy`` says what gives way. ``wait``: nothing, because whoever puts frames in asks for `room` before it reads
    the next one. ``drop_oldest``: the frame that has waited longest, so that answers are about what the camera sees
    now. ``drop_latest``: the new frame.

    A frame for which the server has no memory waits as the error that says so. ``arrived`` = ``taken`` + ``dropped`` +
    the frames that wait, at any time. Used by the event loop's thread alone.
    """

    def __init__(
        self, policy: Policy, capacity: int, account: Account | None = None, most: int = 2**62, largest: int = 0
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.policy, self.capacity = policy, capacity
        self.arrived = self.dropped = self.taken = 0
        self._account, self._most = account or Ledger(2**62, 2**62).open("frames"), most
        self._largest = largest
        self._bytes = self._answering = 0  # all that is held, and what the frame that was taken last holds of it
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
        if self._is_full and self.policy == "wait":
            raise asyncio.QueueFull(f"{len(self)} frames wait: ask for room first")
        number = self.arrived
        self.arrived += 1
        if self._is_full and self.policy == "drop_latest":
            self.dropped += 1
            return
        while self._is_full and self._waiting:
            self._let_go(self._waiting.popleft().size)
            self.dropped += 1
        self._waiting.append(self._held(Frame(number, content)))
        self._note()

    async def take(self) -> Frame:
        """The frame whose turn it is, as soon as there is one; the one before it is answered."""
        self._let_go(self._answering)
        self._answering = 0
        self._note()
        await self._some.wait()
        frame = self._waiting.popleft()
        self.taken, self._answering = self.taken + 1, frame.size
        self._note()
        return frame

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= self.capacity or self._bytes > self._most

    def _held(self, frame: Frame) -> Frame:
        try:
            self._account.take(frame.size)
        except RenormError as error:
            error.location = "frame"
            return frame._replace(content=error)
        self._bytes += frame.size
        return frame

    def _let_go(self, size: int) -> None:
        self._bytes -= size
        self._account.give_back(size)

    def _note(self) -> None:
        """Keep both events true to what waits."""
        # While frames of its own are being answered there is no hurry to have more refused for want of memory.
        scarce = self._bytes > 0 and not self._account.has_plenty(self._largest)
        room = self.policy != "wait" or not (self._is_full or scarce)
        for event, holds in ((self._room, room), (self._some, bool(self._waiting))):
            if holds:
                event.set()
            else:
                event.clear()
