"""Answers kept for a while, so that a repeated request takes no second step."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from app.errors import FieldError
from app.types import Call, Prediction

MAX_AGE_S = 600.0
"""Seconds that an answer is kept: much longer than clients retry."""
MAX_BYTES = 64_000_000
"""Bytes of kept answers, beyond which the oldest are dropped."""
OVERHEAD = 1000
"""Approximate bytes of an answer besides its probabilities."""

EXPLANATION = 2000
"""Approximate bytes of an explanation."""

Name = tuple[str, str]
"""A stream, and the request id that the client chose."""


def fingerprint(call: Call) -> bytes:
    """Return a SHA-256 of a request: of all its fields but the request id and the timeout."""
    images = call.images
    fields = (call.stream, call.strategy, sorted(call.params.items()), call.update, call.top_k, call.start, call.end)
    digest = hashlib.sha256(repr((*fields, call.explain)).encode("utf-8", "backslashreplace"))
    if isinstance(images, Tensor):
        digest.update(f"{images.dtype} {list(images.shape)}".encode())
        digest.update(images.contiguous().numpy().data)
    else:
        for image in images:
            digest.update(len(image).to_bytes(8, "little"))
            digest.update(image)
    return digest.digest()


@dataclass(eq=False)
class _Entry:
    content: bytes
    answer: asyncio.Future[Prediction | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    size: int = 0
    since: float = field(default_factory=time.monotonic)


class Replays:
    """The answers of requests with a request id, while they are computed and for a while after.

    Used by the event loop's thread alone.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_age_s: float = MAX_AGE_S) -> None:
        self.max_bytes, self.max_age_s, self.bytes = max_bytes, max_age_s, 0
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def find(self, name: Name, content: bytes) -> Prediction | None:
        """Return the answer to the request of that name, awaiting it if need be; None if the caller must compute it.

        After None the caller must call `keep` or `drop`. ``content`` is the `fingerprint` of the request.

        Raises:
            FieldError: a different request has that name.
        """
        self._expire()
        while (entry := self._entries.get(name)) is not None:
            if entry.content != content:
                raise FieldError(
                    f"request id '{name[1]}' was already used for a different request of stream '{name[0]}'",
                    hint="use a new id for each request, such as a UUID, and repeat it only to retry the same request",
                    location="request_id",
                )
            # Shielded: a cancelled caller must not cancel the answer of the others.
            answer = await asyncio.shield(entry.answer)
            if answer is not None:
                return answer
        self._entries[name] = _Entry(content)
        return None

    def keep(self, name: Name, prediction: Prediction) -> None:
        """Keep a prediction as the answer to all requests of that name."""
        entry = self._entries[name]
        entry.since = time.monotonic()
        explanation = 0 if prediction.explanation is None else EXPLANATION
        entry.size = OVERHEAD + explanation + prediction.probabilities.nbytes
        self.bytes += entry.size
        # Moved to the end of the order of expiry.
        self._entries.move_to_end(name)
        entry.answer.set_result(prediction)
        self._expire()

    def drop(self, name: Name) -> None:
        """Drop a name without an answer: a caller waiting for it computes its own."""
        self._entries.pop(name).answer.set_result(None)

    def _expire(self) -> None:
        timestamp = time.monotonic()
        for name, entry in list(self._entries.items()):
            if not entry.answer.done():
                continue
            if timestamp - entry.since < self.max_age_s and self.bytes <= self.max_bytes:
                break
            self.bytes -= entry.size
            del self._entries[name]
