"""Each call of the client as a value: what to send, and how to read what comes back. Nothing here does I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import TypeAdapter

from app.client.errors import InvalidInput
from app.client.images import Part
from app.client.results import ANSWER, Answer
from app.schemas import (
    CompositeResponse,
    ModelResponse,
    ReadyResponse,
    ResetResponse,
    StrategyResponse,
    StreamsResponse,
    StreamState,
)

T = TypeVar("T")

_STRATEGIES = TypeAdapter(list[StrategyResponse])
_STATES = TypeAdapter(list[StreamState])


@dataclass(frozen=True)
class Ask(Generic[T]):
    """One request to the server. ``read`` turns the body of its answer into what the caller gets.

    ``repeatable`` says that a second try does no harm where the first one may have been carried out. ``absent`` is
    what a caller gets where the stream asked for is not remembered; None means that this is an error.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    absent: Callable[[], T] | None = None

    def arguments(self) -> dict[str, Any]:
        """What `httpx.Client.request` takes."""
        said: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        if self.parts:
            # Names of files stay here: the server does not read them, and some cannot be written in a header.
            said["files"] = [("files", (f"{i}", part.content, part.kind)) for i, part in enumerate(self.parts)]
            said["data"] = dict(self.fields)
        if self.body is not None:
            said["json"] = dict(self.body)
        return said


@dataclass(frozen=True)
class Options:
    """What a prediction takes beside its images; None leaves the choice to the server."""

    stream: str = "default"
    strategy: str | None = None
    params: Mapping[str, Any] | None = None
    update: bool = True
    top_k: int | None = None

    def fields(self) -> dict[str, str]:
        """The fields of the form.

        Raises:
            InvalidInput: ``params`` cannot be written as JSON.
        """
        said = {"stream": self.stream, "update": "true" if self.update else "false"}
        if self.strategy is not None:
            said["strategy"] = self.strategy
        if self.params is not None:
            said["params"] = _as_json(self.params)
        if self.top_k is not None:
            said["top_k"] = str(self.top_k)
        return said


def predict(parts: Sequence[Part], options: Options) -> Ask[Answer]:
    """One step of a stream. Its key is the same on every try, so that several tries take one step at most."""
    key = {"Idempotency-Key": str(uuid4())}
    return Ask("POST", "/v1/predict", ANSWER.validate_json, headers=key, fields=options.fields(), parts=parts)


def reset(stream: str | None, strategy: str | None) -> Ask[int]:
    """Forget a stream, a strategy, both or all; how many states there were.

    Not repeatable: a second reset would also forget what was learned since the first.
    """
    scope = {name: value for name, value in (("stream", stream), ("strategy", strategy)) if value is not None}
    return Ask("POST", "/v1/admin/reset", _forgotten, body=scope or {"all": True}, repeatable=False)


def model() -> Ask[ModelResponse]:
    """What is hosted."""
    return Ask("GET", "/v1/model", ModelResponse.model_validate_json)


def strategies() -> Ask[list[StrategyResponse]]:
    """What a prediction may name."""
    return Ask("GET", "/v1/strategies", _STRATEGIES.validate_json)


def strategy(name: str) -> Ask[CompositeResponse]:
    """What the name of a strategy means."""
    return Ask("GET", f"/v1/strategies/{_in_path(name)}", CompositeResponse.model_validate_json)


def streams() -> Ask[StreamsResponse]:
    """What is remembered."""
    return Ask("GET", "/v1/streams", StreamsResponse.model_validate_json)


def states(stream: str) -> Ask[list[StreamState]]:
    """What is remembered of one stream; an empty list where nothing is."""
    return Ask("GET", f"/v1/streams/{_in_path(stream)}", _STATES.validate_json, absent=list)


def ready() -> Ask[bool]:
    """Whether the model answers."""
    return Ask("GET", "/readyz", lambda body: ReadyResponse.model_validate_json(body).ready)


def _in_path(name: str) -> str:
    # A dot would be a step in the path, as in '..'.
    return quote(name, safe="").replace(".", "%2E")


def _forgotten(body: bytes) -> int:
    return ResetResponse.model_validate_json(body).forgotten


def _as_json(params: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(params), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"params cannot be written as JSON: {error}") from error
