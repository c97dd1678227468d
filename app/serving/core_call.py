"""A call as the face of the engine hands it to a core, and the source of its decoded images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from torch import Tensor

from app.serving.shares import Flow
from app.types import Call

PixelSource = Callable[[Flow], AbstractAsyncContextManager[Tensor]]
"""Decodes the images of a call, in the turn of a stream. What it yields may be read until its block ends."""


@dataclass(frozen=True)
class CoreCall:
    """A call as a core sees it: everything but its images, of which it knows the number.

    ``content`` is the `app.serving.replays.fingerprint` of a call that has a request id, and empty for others.
    """

    call: Call
    count: int
    content: bytes = b""
