"""Each call of the API as a value: the request to send and the reader of its response. Nothing here does I/O."""

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
class ApiCall(Generic[T]):
    """One request to the server. ``read`` turns the body of the response into the result for the caller.

    ``repeatable`` says that a retry does no harm where the first try may have been carried out. ``absent`` makes the
    result where the server does not remember the stream; None means that this is an error.
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
        """Return the keyword arguments of `httpx.Client.request`."""
        arguments: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        if self.parts:
            # Names of files stay here: the server does not read them, and some cannot be written in a header.
            arguments["files"] = [("files", (f"{i}", part.content, part.kind)) for i, part in enumerate(self.parts)]
            arguments["data"] = dict(self.fields)
        if self.body is not None:
            arguments["json"] = dict(self.body)
        return arguments


@dataclass(frozen=True)
class PredictOptions:
    """The options of a prediction; None leaves the choice to the server."""

    stream: str = "default"
    strategy: str | None = None
    params: Mapping[str, Any] | None = None
    update: bool = True
    top_k: int | None = None
    explain: bool = False

    def fields(self) -> dict[str, str]:
        """Return the fields of the multipart form.

        Raises:
            InvalidInput: ``params`` cannot be written as JSON.
        """
        fields = {"stream": self.stream, "update": "true" if self.update else "false"}
        if self.strategy is not None:
            fields["strategy"] = self.strategy
        if self.params is not None:
            fields["params"] = _as_json(self.params)
        if self.top_k is not None:
            fields["top_k"] = str(self.top_k)
        if self.explain:  # older servers do not know the field
            fields["explain"] = "true"
        return fields


def predict(parts: Sequence[Part], options: PredictOptions) -> ApiCall[Answer]:
    """Predict images: one step of a stream. All tries send one idempotency key, so that they take one step at most."""
    key = {"Idempotency-Key": str(uuid4())}
    return ApiCall("POST", "/v1/predict", ANSWER.validate_json, headers=key, fields=options.fields(), parts=parts)


def reset(stream: str | None, strategy: str | None) -> ApiCall[int]:
    """Reset a stream, a strategy, both or all; the result is the number of states that were reset.

    Not repeatable: a second reset would also forget what was learned since the first.
    """
    scope = {name: value for name, value in (("stream", stream), ("strategy", strategy)) if value is not None}
    return ApiCall("POST", "/v1/admin/reset", _forgotten_count, body=scope or {"all": True}, repeatable=False)


def model() -> ApiCall[ModelResponse]:
    """Describe the hosted model."""
    return ApiCall("GET", "/v1/model", ModelResponse.model_validate_json)


def strategies() -> ApiCall[list[StrategyResponse]]:
    """List the strategies that a prediction may name."""
    return ApiCall("GET", "/v1/strategies", _STRATEGIES.validate_json)


def strategy(name: str) -> ApiCall[CompositeResponse]:
    """Describe one strategy or combination of strategies."""
    return ApiCall("GET", f"/v1/strategies/{_in_path(name)}", CompositeResponse.model_validate_json)


def streams() -> ApiCall[StreamsResponse]:
    """List the states of all streams."""
    return ApiCall("GET", "/v1/streams", StreamsResponse.model_validate_json)


def states(stream: str) -> ApiCall[list[StreamState]]:
    """List the states of one stream; the list is empty where there is none."""
    return ApiCall("GET", f"/v1/streams/{_in_path(stream)}", _STATES.validate_json, absent=list)


def ready() -> ApiCall[bool]:
    """Ask for readiness: true where the model answers."""
    return ApiCall("GET", "/readyz", lambda body: ReadyResponse.model_validate_json(body).ready)


def _in_path(name: str) -> str:
    # A dot would be a step in the path, as in '..'.
    return quote(name, safe="").replace(".", "%2E")


def _forgotten_count(body: bytes) -> int:
    return ResetResponse.model_validate_json(body).forgotten


def _as_json(params: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(params), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"params cannot be written as JSON: {error}") from error
