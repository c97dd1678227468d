"""What a live connection asks for when it opens."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

from fastapi import WebSocket

from app.errors import FieldError
from app.http.requests.fields import PREDICT, Known, check_top_k, gather
from app.http.routes.live_frames import POLICIES, Policy
from app.settings import Settings
from app.strategies import resolve
from app.types import Call

MOST_WAITING = 256
"""Frames of one connection that may wait: each of them may be as large as an image may be."""


class Opening(NamedTuple):
    """What every frame of the connection is asked with, and how many may wait for their answers."""

    call: Call  # without images
    policy: Policy
    queue: int


def read_opening(websocket: WebSocket, settings: Settings, classes: int) -> Opening:
    """The path and query of a connection, checked; ``classes`` is how many the model has.

    Raises:
        FieldError: a field is unknown, given twice, of the wrong type or out of range.
        adapters.UnknownStrategyError, adapters.ParameterError: what every frame would be refused for.
    """
    path = [("stream", websocket.path_params["stream"])]
    fields = gather(LIVE, [*path, *websocket.query_params.multi_items()])
    policy, queue = fields.pop("policy", POLICIES[0]), fields.pop("queue", 8)
    if "top_k" in fields:
        check_top_k(fields["top_k"], classes)
    call = Call([], **fields)
    resolve(call.strategy or settings.strategy, call.params)
    return Opening(call, policy, queue)


def _check_policy(value: Any) -> None:
    if value not in POLICIES:
        raise FieldError(
            f"policy must be one of {', '.join(POLICIES)}, not {reprlib.repr(value)}",
            hint="it says what happens when frames come faster than answers",
            location="policy",
        )


def _check_queue(value: Any) -> None:
    if not isinstance(value, int) or not 1 <= value <= MOST_WAITING:
        raise FieldError(
            f"queue must be a whole number from 1 to {MOST_WAITING}, not {reprlib.repr(value)}",
            hint="it is how many frames may wait",
            location="queue",
        )


LIVE: dict[str, Known] = {
    **{name: PREDICT[name] for name in ("stream", "strategy", "params", "update", "top_k")},
    "policy": Known({"type": "string", "enum": list(POLICIES), "default": POLICIES[0]}, _check_policy),
    "queue": Known(
        {"type": "integer", "minimum": 1, "maximum": MOST_WAITING, "default": 8}, _check_queue, PREDICT["top_k"].read
    ),
}
"""What a live connection takes in its path and query."""
