"""Options of a live connection, from its path and query."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import WebSocket

from app.http.requests.fields import PREDICT, FieldSpec, check_top_k, gather, require
from app.http.routes.live_frames import POLICIES, Policy
from app.settings import Settings
from app.strategies import resolve
from app.types import Call

MAX_QUEUE = 256
"""The most frames of one connection that may wait; each may have the largest size of an image."""


class Opening(NamedTuple):
    """Options of a connection: the call of every frame, and the policy and length of its queue."""

    call: Call  # without images
    policy: Policy
    queue: int


def read_opening(websocket: WebSocket, settings: Settings, classes: int) -> Opening:
    """Return the options in a connection's path and query; ``classes`` is the number of the model's classes.

    Raises:
        FieldError: a field is unknown, appears twice, has the wrong type or is out of range.
        adapters.UnknownStrategyError, adapters.ParameterError: the strategy or its parameters are invalid.
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
    hint = "it selects what happens when frames arrive faster than predictions"
    require(value in POLICIES, "policy", f"one of {', '.join(POLICIES)}", value, hint)


def _check_queue(value: Any) -> None:
    is_valid = isinstance(value, int) and 1 <= value <= MAX_QUEUE
    require(is_valid, "queue", f"an integer from 1 to {MAX_QUEUE}", value, "it is the number of frames that may wait")


LIVE: dict[str, FieldSpec] = {
    **{name: PREDICT[name] for name in ("stream", "strategy", "params", "update", "explain", "top_k")},
    "policy": FieldSpec({"type": "string", "enum": list(POLICIES), "default": POLICIES[0]}, _check_policy),
    "queue": FieldSpec(
        {"type": "integer", "minimum": 1, "maximum": MAX_QUEUE, "default": 8}, _check_queue, PREDICT["top_k"].parse
    ),
}
"""Fields of a live connection's path and query."""
