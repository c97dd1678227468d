"""The queue of a connection's frames, and the policy when frames arrive faster than predictions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, NamedTuple, get_args

from app.errors import RenormError
from app.resources.memory import Account, Ledger

Policy = Literal["wait", "drop_oldest", "drop_latest"]
"""Policy when the queue is full and another frame arrives."""

POLICIES: tuple[Policy, ...] = get_args(Policy)
"""All policies, the default first."""


class Frame(NamedTuple):
    """One message of a connection, and its number among all that arrived, from 0."""

    number: int
    content: bytes | str | RenormError  # an error where there was no memory for it

    @property
    def size(self) -> int:
        """The bytes of memory that it holds."""
        return len(self.content) if isinstance(self.content, bytes) else 0


class Frames:
    """A queue of at most ``capacity`` frames, full also while it holds over ``max_bytes`` bytes of ``account``.

    The frame taken last counts as well, and ``largest`` is the largest size of a frame. ``policy`` decides what happens
    when the queue is full. ``wait``: nothing, because the producer awaits `room` before it reads the next frame.
    ``drop_oldest``: the frame that has waited longest is dropped, so that predictions are of current frames.
    ``drop_latest``: the new frame is dropped.

    A frame for which the server has no memory waits as the error that says so. ``arrived`` = ``taken`` + ``dropped`` +
    the frames that wait, at any time. Used by the event loop's thread alone.
    """

    def __init__(
        self, policy: Policy, capacity: int, account: Account | None = None, max_bytes: int = 2**62, largest: int = 0
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.policy, self.capacity = policy, capacity
        self.arrived = self.dropped = self.taken = 0
        self._account, self._max_bytes = account or Ledger(2**62, 2**62).open("frames"), max_bytes
        self._largest = largest
        self._bytes = self._answering = 0  # of all frames, and of the frame taken last
        self._waiting: deque[Frame] = deque()
        self._room, self._not_empty = asyncio.Event(), asyncio.Event()
        self._update_events()

    def __len__(self) -> int:
        """Return the number of waiting frames."""
        return len(self._waiting)

    async def room(self) -> None:
        """Wait until there is room for another frame; with a policy that drops there always is."""
        await self._room.wait()

    def put(self, content: bytes | str) -> None:
        """Queue a frame, or drop the one that the policy selects.

        Raises:
            asyncio.QueueFull: the policy is to wait, and the queue is full.
        """
        if self._is_full and self.policy == "wait":
            raise asyncio.QueueFull(f"the queue is full ({len(self)} frames waiting): await room first")
        number = self.arrived
        self.arrived += 1
        if self._is_full and self.policy == "drop_latest":
            self.dropped += 1
            return
        while self._is_full and self._waiting:
            self._release(self._waiting.popleft().size)
            self.dropped += 1
        self._waiting.append(self._admit(Frame(number, content)))
        self._update_events()

    async def take(self) -> Frame:
        """Return the next frame, as soon as there is one, and release the memory of the previous one."""
        self._release(self._answering)
        self._answering = 0
        self._update_events()
        await self._not_empty.wait()
        frame = self._waiting.popleft()
        self.taken, self._answering = self.taken + 1, frame.size
        self._update_events()
        return frame

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= self.capacity or self._bytes > self._max_bytes

    def _admit(self, frame: Frame) -> Frame:
        try:
            self._account.take(frame.size)
        except RenormError as error:
            error.location = "frame"
            return frame._replace(content=error)
        self._bytes += frame.size
        return frame

    def _release(self, size: int) -> None:
        self._bytes -= size
        self._account.give_back(size)

    def _update_events(self) -> None:
        """Update both events."""
        # While its frames are being predicted, further ones need not be read only to be refused for want of memory.
        scarce = self._bytes > 0 and not self._account.has_plenty(self._largest)
        room = self.policy != "wait" or not (self._is_full or scarce)
        for event, is_set in ((self._room, room), (self._not_empty, bool(self._waiting))):
            if is_set:
                event.set()
            else:
                event.clear()
