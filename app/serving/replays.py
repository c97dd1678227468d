"""Answers kept for a while, so that a request that is sent again takes no second step."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from app.errors import FieldError
from app.types import Call, Prediction

KEPT_S = 600.0
"""Seconds that an answer is kept: far longer than clients retry."""
KEPT_BYTES = 64_000_000
"""Bytes of kept answers, beyond which the oldest go."""
OVERHEAD = 1000
"""Bytes of an answer beside its probabilities, about."""

Name = tuple[str, str]
"""A stream, and what its client calls a request."""


def fingerprint(call: Call) -> bytes:
    """What tells a request from others, in a few bytes: all it says but its name and its patience."""
    images = call.images
    said = (call.stream, call.strategy, sorted(call.params.items()), call.update, call.top_k, call.start, call.end)
    found = hashlib.sha256(repr(said).encode("utf-8", "backslashreplace"))
    if isinstance(images, Tensor):
        found.update(f"{images.dtype} {list(images.shape)}".encode())
        found.update(images.contiguous().numpy().data)
    else:
        for image in images:
            found.update(len(image).to_bytes(8, "little"))
            found.update(image)
    return found.digest()


@dataclass(eq=False)
class _Entry:
    content: bytes
    answer: asyncio.Future[Prediction | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    size: int = 0
    since: float = field(default_factory=time.monotonic)


class Replays:
    """The answers of requests that were given a name, while they are made and for a while after.

    Used by the event loop's thread alone.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, kept_s: float = KEPT_S) -> None:
        self.kept_bytes, self.kept_s, self.bytes = kept_bytes, kept_s, 0
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def find(self, name: Name, content: bytes) -> Prediction | None:
        """The answer of the request of that name, waited for if it is being made; None if the caller has to make it.

        Then the name is the caller's, who owes `keep` or `drop`. ``content`` is what `fingerprint` made of the request.

        Raises:
            FieldError: another request has that name.
        """
        self._expire()
        while (entry := self._entries.get(name)) is not None:
            if entry.content != content:
                raise FieldError(
                    f"another request of stream '{name[0]}' was sent under the name '{name[1]}'",
                    hint="give each request a name of its own, such as a UUID, and keep it for its repetitions only",
                    location="request_id",
                )
            # Shielded: one who gives up must not take the answer from the others.
            answer = await asyncio.shield(entry.answer)
            if answer is not None:
                return answer
        self._entries[name] = _Entry(content)
        return None

    def keep(self, name: Name, prediction: Prediction) -> None:
        """Answer all who ask for that name with this."""
        entry = self._entries[name]
        entry.since = time.monotonic()
        entry.size = OVERHEAD + prediction.probabilities.nbytes
        self.bytes += entry.size
        # Last in the order, which is the order in which they go.
        self._entries.move_to_end(name)
        entry.answer.set_result(prediction)
        self._expire()

    def drop(self, name: Name) -> None:
        """There is no answer: who waits for it tries by himself."""
        self._entries.pop(name).answer.set_result(None)

    def _expire(self) -> None:
        now = time.monotonic()
        for name, entry in list(self._entries.items()):
            if not entry.answer.done():
                continue
            if now - entry.since < self.kept_s and self.bytes <= self.kept_bytes:
                break
            self.bytes -= entry.size
            del self._entries[name]
